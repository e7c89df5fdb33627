from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.demo import DemoSettings, demo_bundle, run_demo
from calibration.demo_choice import ships_generated
from calibration.demo_recipes import BOLD
from calibration.generated.demo_bundle import make_generated_bundle
from calibration.listener import ListenerProcess, ListenerSettings, run_listener
from models.errors import SettingError, SourceError
from tests.calibration.generated.mel_networks import write_whole

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.lsl
def test_the_demo_is_heard_in_step_and_identifies_what_was_heard(tmp_path: Path) -> None:
    import soundfile

    said: list[str] = []
    settings = DemoSettings(
        modality="eeg",
        seconds=14.0,
        sink=str(tmp_path / "demo.wav"),
        out=tmp_path / "session",
        keyboard=False,
        display=False,
    )
    summary = run_demo(settings, on_message=said.append)
    values = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert values["sent"] == 3_500 == values["delivered"] + values["lost"]
    assert values["n_segments"] >= 5
    assert values["identification"] > 0.7
    assert values["identification"] > values["floor_shuffled"] + 0.1
    assert values["permutation_p"] < 0.05
    assert values["chance"] == 0.5
    assert values["peak_dbfs"] <= -11.99
    assert values["aborted"] is False
    assert any("simulated listener" in text for text in said)
    assert "chance 50 %" in summary.told
    pcm, rate = soundfile.read(tmp_path / "demo.wav", dtype="float32")
    assert rate == 16_000
    assert pcm.shape[1] == 2
    assert np.all(np.sqrt(np.mean(pcm**2, axis=0)) > 0.002)
    assert (tmp_path / "session" / "summary.json").exists()
    # In step: the envelopes agree best at a shift that no ear notices.
    envelope = np.sqrt(np.mean(pcm[: len(pcm) // 160 * 160].reshape(-1, 160, 2) ** 2, axis=1))
    left, right = (np.log(np.maximum(envelope[:, k], 1e-3)) for k in (0, 1))
    left, right = left - left.mean(), right - right.mean()
    shifts = range(-40, 41)
    best = max(shifts, key=lambda k: float(np.sum(left[50:-50] * np.roll(right, -k)[50:-50])))
    assert abs(best) <= 5  # 50 ms


@pytest.mark.lsl
@pytest.mark.slow
def test_the_fmri_demo_plays_library_sounds_that_identify_the_clips(tmp_path: Path) -> None:
    settings = DemoSettings(
        chain="retrieval", seconds=60.0, sink="null", keyboard=False, display=False
    )
    values = run_demo(settings).to_json()
    assert values["sent"] == 40 == values["delivered"]
    assert values["n_segments"] >= 6
    assert values["identification"] > 0.6


@pytest.mark.lsl
@pytest.mark.slow
def test_the_demo_plays_generated_sound_and_scores_it_in_every_way(tmp_path: Path) -> None:
    import soundfile

    # Networks that have learnt nothing: the sound is made, played and scored, and means nothing.
    bundles = tmp_path / "bundles"
    make_generated_bundle(
        bundles / "fmri-coarse-to-fine",
        seed=5,
        generator=write_whole(bundles / "generator"),
        chain="coarse-to-fine",
        recipe=replace(BOLD, train_s=180.0, test_s=60.0),
        library_per_class=1,
        created="2026-01-01T00:00:00Z",
        software={},
    )
    said: list[str] = []
    settings = DemoSettings(
        chain="coarse-to-fine",
        seconds=36.0,
        sink=str(tmp_path / "demo.wav"),
        keyboard=False,
        display=False,
        bundles=bundles,
    )
    summary = run_demo(settings, on_message=said.append)
    values = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert values["chain"] == "coarse-to-fine"
    assert values["sent"] == 24 == values["delivered"]
    assert values["n_segments"] >= 3
    for name in ("identification", "identification_started", "identification_embedding"):
        assert 0.0 <= values[name] <= 1.0
    for name in ("floor_shuffled", "floor_shuffled_started", "permutation_p_started"):
        assert values[name] is not None
    assert any("until then it is silent" in text for text in said)
    assert "begun from the nearest library sound" in summary.told
    pcm, rate = soundfile.read(tmp_path / "demo.wav", dtype="float32")
    assert rate == 16_000
    assert np.all(np.sqrt(np.mean(pcm**2, axis=0)) > 1e-4)


if ships_generated():  # without one there is nothing to hear, so nothing that could be skipped

    @pytest.mark.lsl
    @pytest.mark.slow
    def test_the_demo_without_a_wish_tells_by_its_generated_sound_what_was_heard() -> None:
        values = run_demo(DemoSettings(sink="null", keyboard=False, display=False)).to_json()
        assert values["chain"] == "semantic"
        assert values["identification"] > 0.6
        assert values["identification"] > values["floor_shuffled"]


@pytest.mark.lsl
def test_a_listener_ends_with_the_process_that_started_it() -> None:
    settings = ListenerSettings(name=f"demo-{uuid.uuid4()}", source_id=str(uuid.uuid4()))
    with ListenerProcess(settings) as process:
        assert process._process is not None
        inside = process._process
    assert inside.poll() is not None


@pytest.mark.lsl
def test_a_listener_that_dies_is_told_from_one_that_ends() -> None:
    settings = ListenerSettings(name=f"demo-{uuid.uuid4()}", source_id=str(uuid.uuid4()))
    with ListenerProcess(settings) as process:
        process.check()
        assert process._process is not None
        process._process.kill()
        process._process.wait(timeout=30.0)
        with pytest.raises(SourceError, match="ended early"):
            process.check()


@pytest.mark.lsl
def test_a_listener_stops_when_asked_before_anyone_listens() -> None:
    stop = threading.Event()
    stop.set()
    settings = ListenerSettings(
        name=f"demo-{uuid.uuid4()}", source_id=str(uuid.uuid4()), seconds=3.0
    )
    assert run_listener(settings, stop=stop) == 0


@pytest.mark.lsl
@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_ctrl_c_ends_the_demo_cleanly_with_what_was_heard(tmp_path: Path) -> None:
    code = (
        "import sys; from calibration.demo import *; from pathlib import Path\n"
        "s = run_demo(DemoSettings(modality='eeg', seconds=120.0, sink='null', keyboard=False,"
        " display=False,"
        f" out=Path({str(tmp_path / 'session')!r})), on_message=print)\n"
        "print('aborted', s.live.aborted)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        # What was decoded is written as it comes: when there is some, the sound is on.
        trace = tmp_path / "session" / "trace.jsonl"
        waiter = threading.Event()
        for _ in range(600):
            if (trace.exists() and trace.stat().st_size > 0) or process.poll() is not None:
                break
            waiter.wait(0.1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60.0)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, out
    assert "aborted True" in out


def test_the_demo_refuses_lengths_that_say_nothing() -> None:
    with pytest.raises(SettingError, match="lies between 3 and"):
        DemoSettings(modality="eeg", seconds=1.0)
    with pytest.raises(SettingError, match="fmri lies between 20 and"):
        DemoSettings(modality="fmri", seconds=5.0)
    assert demo_bundle("eeg").is_dir()
