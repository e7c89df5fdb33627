from __future__ import annotations

import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

from calibration.ssaep import fit_bundle, session_paths
from calibration.trials import read_trials
from stream.config import LiveSettings
from stream.live import run_live
from stream.messages import Condition
from stream.monitor import Observer
from stream.offline import OfflineSettings, run_offline
from stream.replay import ReplaySettings, run_replay
from tests.data import shared


class _Decisions(Observer):
    """Keeps the sound that each window was decoded to."""

    def __init__(self) -> None:
        self.conditions: list[Condition] = []

    def on_condition(self, condition: Condition) -> None:
        self.conditions.append(condition)

    def right(self, path: Path) -> tuple[float, int]:
        """Return the share of right decisions among windows within a sound, and their number."""
        trials = read_trials(path, sound_s=3.0)
        right = []
        for condition in self.conditions:
            start, stop = (
                k / trials.sfreq_hz for k in (condition.window.start, condition.window.stop)
            )
            inside = (trials.onsets_s + 0.3 <= start) & (stop <= trials.onsets_s + 3.0)
            if inside.any():
                right.append(trials.codes[np.argmax(inside)] == condition.item + 1)
        return float(np.mean(right)), len(right)


@pytest.mark.data
def test_the_sound_that_was_heard_is_decoded_in_a_session_never_seen(tmp_path: Path) -> None:
    paths = session_paths(shared("eeg_ssaep"))
    for k in (0, 3):
        bundle = fit_bundle([p for p in paths if p != paths[k]], tmp_path / f"bundle{k}")
        decisions = _Decisions()
        summary = run_offline(
            OfflineSettings(bundle=bundle.path, path=paths[k], out=tmp_path / f"out{k}"),
            observers=[decisions],
        )
        right, n = decisions.right(paths[k])
        assert summary.delivered == 30_732
        assert n > 60
        assert right > 0.75
        assert (tmp_path / f"out{k}" / "played.wav").stat().st_size > 1_000_000


@pytest.mark.data
@pytest.mark.lsl
def test_a_session_replayed_over_lsl_plays_the_right_sound_most_of_the_time(tmp_path: Path) -> None:
    paths = session_paths(shared("eeg_ssaep"))
    bundle = fit_bundle(paths[:3], tmp_path / "bundle")
    name, stop, decisions = f"ssaep-{uuid.uuid4()}", threading.Event(), _Decisions()
    replay = threading.Thread(
        target=run_replay,
        args=(ReplaySettings(path=paths[3], name=name, source_id=str(uuid.uuid4())),),
        kwargs={"stop": stop},
    )
    replay.start()
    try:
        summary = run_live(
            LiveSettings(
                bundle=bundle.path,
                stream=name,
                sink="null",
                seconds=25.0,
                find_s=60.0,
                keyboard=False,
                display=False,
            ),
            observers=[decisions],
        )
    finally:
        stop.set()
        replay.join(timeout=60.0)
    right, n = decisions.right(paths[3])
    assert summary.lost == 0
    assert n >= 10
    assert right > 0.6
