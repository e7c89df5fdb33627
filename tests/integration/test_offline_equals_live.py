from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from stream.config import LiveSettings
from stream.live import run_live
from stream.offline import OfflineSettings, run_offline
from tests.integration.sessions import replayed, write_bundle, write_recording

pytestmark = pytest.mark.lsl


def digest_of(folder: Path) -> str:
    features = np.load(folder / "features.npy", allow_pickle=False)
    return hashlib.sha256(np.ascontiguousarray(features, "<f4").tobytes()).hexdigest()


@pytest.mark.parametrize("fault", ["", "drop:at=1,n=4;drop:at=3,n=60"], ids=["whole", "gaps"])
def test_a_replay_over_lsl_gives_the_windows_of_the_offline_run_to_the_byte(
    tmp_path: Path, fault: str
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=5.0)
    offline = run_offline(OfflineSettings(bundle, recording, tmp_path / "offline", fault=fault))
    with replayed(recording, fault=fault) as replay:
        live = run_live(
            LiveSettings(
                bundle,
                replay.stream,
                sink="null",
                out=tmp_path / "live",
                find_s=30.0,
                ended_after_s=1.0,
                outlets=False,
            )
        )
    assert live.ended_because == "the source closed its stream"
    assert (live.sent, live.delivered, live.lost) == (offline.sent, offline.delivered, offline.lost)
    assert live.windows == offline.windows > 20
    assert live.features_sha256 == offline.features_sha256
    for folder, summary in (("live", live), ("offline", offline)):
        assert digest_of(tmp_path / folder) == summary.features_sha256
    if fault:
        assert (live.gaps, live.lost) == (2, 64)
        assert (live.n_filled, live.n_restarts) == (offline.n_filled, offline.n_restarts) == (4, 1)

    # A busy machine may make the live session leave a window out: it is counted, and all others
    # are the same to the byte.
    assert live.decoded + live.skipped_windows == live.windows
    ours = np.load(tmp_path / "live" / "decisions.npy", allow_pickle=False)
    theirs = np.load(tmp_path / "offline" / "decisions.npy", allow_pickle=False)
    same = np.isin(theirs["seq"], ours["seq"])
    assert same.sum() == live.decoded
    assert np.array_equal(ours, theirs[same])
    decoded = np.load(tmp_path / "live" / "decoded.npy", allow_pickle=False)
    assert np.array_equal(decoded, np.load(tmp_path / "offline" / "decoded.npy")[same])
    if not live.skipped_windows:
        assert live.decisions_sha256 == offline.decisions_sha256
