from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from stream.offline import OfflineSettings, run_offline
from stream.summary import Summary
from tests.integration.sessions import (
    HOP_S,
    RATE_HZ,
    SFREQ_HZ,
    SPEC,
    write_bundle,
    write_recording,
)
from tests.stream.sounds import STEP_LIMIT, largest_step, tone


def run(tmp_path: Path, *, fault: str = "") -> tuple[Summary, NDArray[np.float32]]:
    bundle = write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=6.0)
    summary = run_offline(OfflineSettings(bundle, recording, tmp_path / "out", fault=fault))
    pcm, rate = soundfile.read(tmp_path / "out" / "played.wav", dtype="float32")
    assert rate == RATE_HZ
    return summary, pcm


def silent_s(pcm: NDArray[np.float32], start_s: float, stop_s: float) -> bool:
    return bool(np.all(pcm[round(start_s * RATE_HZ) : round(stop_s * RATE_HZ)] == 0.0))


@pytest.mark.parametrize("fault", ["", "drop:at=2,n=200", "drop:at=1,n=4"])
def test_the_sound_is_as_long_as_the_recording_and_silent_where_it_was_lost(
    tmp_path: Path, fault: str
) -> None:
    summary, pcm = run(tmp_path, fault=fault)
    assert len(pcm) == 6 * RATE_HZ
    first = SPEC.window_s - HOP_S  # where the last hop of the first window begins
    assert silent_s(pcm, 0.0, first)
    assert not silent_s(pcm, first, first + 0.05)
    assert summary.seconds_played == pytest.approx(summary.windows * HOP_S)
    assert summary.underruns == 0
    if summary.lost == 200:
        gap = 200 / SFREQ_HZ
        assert silent_s(pcm, 2.0 + 0.001, 2.0 + gap + first)
        assert not silent_s(pcm, 2.0 + gap + first, 2.0 + gap + first + 0.05)
        assert not silent_s(pcm, 1.9, 2.0)
    else:
        assert summary.n_filled == summary.lost
        assert not any(silent_s(pcm, at, at + 0.05) for at in np.arange(first, 5.9, 0.05))
    assert largest_step(pcm, tone(RATE_HZ, hz=880.0, amplitude=0.25)) < 2 * STEP_LIMIT
