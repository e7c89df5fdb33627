from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from calibration.config import CalibrationSettings
from calibration.following_listener import make_sounds
from calibration.live_session import CalibrationAborted, LiveCalibration, record_live
from calibration.presentation import load_programme
from calibration.readers import read_dataset
from models.errors import FileError, SourceError
from stream.recordings import read_recording
from tests.integration.lsl_rig import Sender

_ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.lsl


@contextmanager
def listener(stimuli: Path, *options: str) -> Iterator[str]:
    """Run the listener who follows, as a person would; yield the name of its stream."""
    name = f"EEG-{uuid.uuid4().hex[:8]}"
    arguments = [
        sys.executable,
        "-m",
        "calibration.following_listener",
        f"--stimuli={stimuli}",
        f"--name={name}",
        "--with-parent",
        *options,
    ]
    process = subprocess.Popen(
        arguments, cwd=_ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        assert "Streaming" in process.stderr.readline()
        yield name
    finally:
        process.communicate(timeout=30)


def live(stream: str, tmp_path: Path, **options: Any) -> LiveCalibration:
    given: dict[str, Any] = {
        "stimuli": tmp_path / "sounds",
        "out": tmp_path / "me",
        "sink": "null",
        "repeats": 2,
        "gap_s": 0.1,
        "lead_s": 0.2,
        "tail_s": 0.2,
        "keyboard": False,
        "markers": f"markers-{uuid.uuid4().hex[:8]}",
        "find_s": 10.0,
        "meet_s": 0.0,
    }
    return LiveCalibration(stream=stream, **(given | options))


def test_markers_in_the_file_are_where_the_sounds_are_in_the_sound_file(tmp_path: Path) -> None:
    make_sounds(tmp_path / "sounds", n=3, duration_s=0.3, labels=("noise", "rain", "engine"))
    said: list[str] = []
    with Sender(sfreq=250.0, channels=4, counter=True) as sender:
        asked = live(sender.name, tmp_path, sink=str(tmp_path / "played.wav"))
        dataset, settings = record_live(asked, CalibrationSettings(), on_message=said.append)
    assert dataset == tmp_path / "me.session"
    assert settings.data.stimuli == tmp_path / "sounds"
    assert any(text.startswith("3 sounds x 2 = ") for text in said)
    assert any(f"hearback calibrate {dataset}" in text for text in said)
    report = json.loads((dataset / "session.json").read_text())
    assert report["kept"] == 6 == len(report["presented"])
    assert report["brain"]["lost"] == 0
    heard, rate = soundfile.read(tmp_path / "played.wav", dtype="float32")
    programme = load_programme(tmp_path / "sounds", ceiling_dbfs=-12.0)
    by_name = {s.id: pcm for s, pcm in zip(programme.stimuli, programme.pcm, strict=True)}
    runs = sorted(path.name for path in dataset.iterdir() if path.is_dir())
    assert runs == ["sub-me_run-01", "sub-me_run-02"]
    n_markers = 0
    for run in runs:
        recording = read_recording(dataset / run / "recording.xdf")
        [markers] = [m for m in recording.markers if m.name == asked.markers]
        assert len(markers.stamps) == 3
        for stamp, text in zip(markers.stamps, markers.texts, strict=True):
            pcm = by_name[json.loads(text)["stimulus"]]
            near = round((stamp - report["sound_starts"]) * rate)
            stretch = heard[near - 400 : near + 400 + len(pcm)]
            # Where the sound matches best is where it was written.
            best = int(np.argmax(np.correlate(stretch, pcm, "valid"))) + near - 400
            np.testing.assert_allclose(heard[best:][: len(pcm)], pcm, atol=1e-4)
            assert abs(stamp - report["sound_starts"] - best / rate) <= 1.0 / rate + 1e-3
            # On the clock that both share it is the sample itself.
            assert abs((stamp - report["sound_starts"]) * rate - best) <= 1.0
            n_markers += 1
        # And the brain beside them: the second channel says when each sample was taken.
        signal_ = recording.choose()
        taken = signal_.samples[:, 1].astype(np.float64)
        assert np.ptp(signal_.stamps - taken) < 1e-3
        assert signal_.stamps[0] < markers.stamps[0] - 0.15
        assert signal_.stamps[-1] > markers.stamps[-1] + 0.3 + 0.15
    assert n_markers == 6
    read = read_dataset(dataset, stimuli=tmp_path / "sounds")
    assert read.participants == ("sub-me",)
    assert [run.run for run in read.runs] == ["run-01", "run-02"]
    assert all(len(run.events) == 3 for run in read.runs)
    assert all(s.path is not None for s in read.stimuli.values())


def test_no_stream_and_no_sound_end_before_anything_is_played(tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    with pytest.raises(FileError, match="no sound file"):
        record_live(live("nobody", tmp_path), CalibrationSettings())
    make_sounds(tmp_path / "sounds", n=2, duration_s=0.4)
    with pytest.raises(SourceError, match="nobody"):
        record_live(live("nobody", tmp_path, find_s=0.5), CalibrationSettings())
    assert not (tmp_path / "me.session").exists()


@pytest.mark.slow
def test_a_stream_that_dies_for_good_ends_the_session_and_what_came_is_kept(
    tmp_path: Path,
) -> None:
    make_sounds(tmp_path / "sounds", n=3, duration_s=0.5)
    said: list[str] = []
    with Sender(sfreq=250.0, channels=2, counter=True) as sender:

        def on_progress(what: str, done: float, _total: float) -> None:
            if done >= 1 and sender.process is not None and sender.process.poll() is None:
                sender.kill()

        with pytest.raises(SourceError, match="has been gone") as caught:
            record_live(
                live(sender.name, tmp_path, give_up_s=2.2),
                CalibrationSettings(),
                progress=on_progress,
                on_message=said.append,
            )
    assert "me.session" in str(caught.value)
    assert any("has stopped" in text for text in said)
    recording = read_recording(tmp_path / "me.session" / "sub-me_run-01" / "recording.xdf")
    assert len(recording.choose().samples) >= 150
    report = json.loads((tmp_path / "me.session" / "session.json").read_text())
    assert report["brain"]["stopped"] == 1
    assert "has been gone" in report["failure"]


_COMMAND = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import hearback
hearback.main()
"""


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command line."""
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, str(_ROOT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_ctrl_c_in_the_middle_keeps_what_was_recorded(tmp_path: Path) -> None:
    make_sounds(tmp_path / "sounds", n=3, duration_s=0.4)
    newest: list[float] = []  # when the newest sample that was sent by then was taken

    def on_progress(_what: str, done: float, _total: float) -> None:
        if done == 1:
            newest.append(sender.t0 + (sender.pushed - 1) / 250.0)
            os.kill(os.getpid(), signal.SIGINT)

    with Sender(sfreq=250.0, channels=2, counter=True) as sender:
        asked = live(sender.name, tmp_path)
        with pytest.raises(CalibrationAborted, match=r"SIGINT: 1 of 6 .*me\.session") as caught:
            record_live(asked, CalibrationSettings(), progress=on_progress)
    assert caught.value.exit_code == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    recording = read_recording(tmp_path / "me.session" / "sub-me_run-01" / "recording.xdf")
    [markers] = [m for m in recording.markers if m.name == asked.markers]
    assert len(markers.stamps) == 1
    # What was still on its way (a tenth of a second at most) may be missing, nothing else.
    assert recording.choose().stamps[-1] > newest[0] - 0.1
    assert recording.choose().stamps[0] < markers.stamps[0]
    assert json.loads((tmp_path / "me.session" / "session.json").read_text())["aborted"] is True


@pytest.mark.slow
@pytest.mark.parametrize("how", ["key", "signal"])
def test_an_abort_leaves_with_4_and_names_what_is_kept(tmp_path: Path, how: str) -> None:
    make_sounds(tmp_path / "sounds", n=3, duration_s=1.5)
    wav = tmp_path / "played.wav"
    terminal, keyboard = pty.openpty()
    with Sender(sfreq=250.0, channels=2, counter=True) as sender:
        process = command(
            "calibrate", "--live", "--stream", sender.name, "--stimuli", f"{tmp_path / 'sounds'}",
            "--out", f"{tmp_path / 'me'}", "--sink", str(wav), "--repeats", "2",
            stdin=keyboard, start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        # Until the first sound has been playing for a while.
        deadline = time.monotonic() + 60.0
        while not (wav.exists() and wav.stat().st_size > 3 * 16_000 * 3):
            assert time.monotonic() < deadline
            assert process.poll() is None
            threading.Event().wait(0.02)
        if how == "signal":
            process.send_signal(signal.SIGINT)
        else:
            os.write(terminal, b"a")
        _, said = process.communicate(timeout=60)
    os.close(terminal)
    os.close(keyboard)
    assert process.returncode == 4, said
    assert "Traceback" not in said
    assert f"kept in {tmp_path / 'me.session'}" in said
    assert not (tmp_path / "me").exists()
    recording = read_recording(tmp_path / "me.session" / "sub-me_run-01" / "recording.xdf")
    assert len(recording.choose().samples) > 250
    heard, _ = soundfile.read(wav)
    assert np.all(heard[-160:] == 0.0)


def _take_terminal() -> None:
    """Make standard input the terminal of the new session, as a shell does."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.slow
def test_a_disk_that_is_full_in_the_middle_ends_in_one_sentence(tmp_path: Path) -> None:
    make_sounds(tmp_path / "sounds", n=3, duration_s=0.5)
    with Sender(sfreq=1000.0, channels=16, counter=True) as sender:
        process = command(
            "calibrate", "--live", "--stream", sender.name, "--stimuli", f"{tmp_path / 'sounds'}",
            "--out", f"{tmp_path / 'me'}", "--sink", "null", "--repeats", "1", "--gap-s", "0.2",
            stdin=subprocess.DEVNULL, preexec_fn=_small_files,
        )  # fmt: skip
        _, said = process.communicate(timeout=90)
    assert process.returncode == 3, said
    assert "Traceback" not in said
    assert "is not whole" in said
    assert "too few to fit" in said
    recording = read_recording(tmp_path / "me.session" / "sub-me_run-01" / "recording.xdf")
    assert len(recording.choose().samples) > 1_000


def _small_files() -> None:
    """Let no file grow beyond 150 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))


@pytest.mark.slow
def test_a_newcomer_without_a_cap_gets_a_bundle_that_decodes_what_was_played(
    tmp_path: Path,
) -> None:
    from export.bundle import load_bundle

    make_sounds(tmp_path / "sounds", n=5, duration_s=3.0)
    with listener(tmp_path / "sounds") as name:
        process = command(
            "calibrate", "--live", "--stream", name, "--stimuli", f"{tmp_path / 'sounds'}",
            "--out", f"{tmp_path / 'me'}", "--sink", "null", "--repeats", "3", "--gap-s", "0.5",
            "--json", stdin=subprocess.DEVNULL,
        )  # fmt: skip
        out, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    values = json.loads(out.strip().splitlines()[-1])
    assert values["decodable"] is True
    assert "run" in values["split"]
    bundle = load_bundle(tmp_path / "me")
    assert bundle.manifest.participant == "sub-me"
    # By hand, later: the same.
    again = command(
        "calibrate", f"{tmp_path / 'me.session'}", "--stimuli", f"{tmp_path / 'sounds'}",
        "--out", f"{tmp_path / 'again'}", "--json", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    out, said = again.communicate(timeout=400)
    assert again.returncode == 0, said
    repeated = json.loads(out.strip().splitlines()[-1])
    for key in ("identification", "identification_ties_half", "chance", "permutation_p", "lag_s"):
        assert repeated[key] == values[key]


@pytest.mark.slow
def test_a_scanner_is_waited_for_and_bold_gets_longer_gaps(tmp_path: Path) -> None:
    make_sounds(tmp_path / "sounds", n=2, duration_s=0.6)
    said: list[str] = []
    options = {"type": "BOLD", "sfreq": 10.0, "chunk": 1, "channels": 24, "bold_shape": "4x3x2"}
    with Sender(**options) as sender:
        dataset, _ = record_live(
            live(sender.name, tmp_path, start_volume=12, bold_gap_s=0.8, gap_s=0.1, repeats=1),
            CalibrationSettings(),
            on_message=said.append,
        )
        assert sender.pushed >= 12
    assert any("Waiting for volume 12" in text for text in said)
    assert any("0.8 s of silence" in text for text in said)
    read = read_dataset(dataset, stimuli=tmp_path / "sounds")
    assert read.modality == "bold"
    [run] = read.runs
    assert run.events[1].onset_s - run.events[0].onset_s == pytest.approx(1.4, abs=2e-3)
