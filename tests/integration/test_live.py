from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from pathlib import Path

import numpy as np
import pylsl
import pytest
import pyxdf
import soundfile

from models.errors import BundleError, SourceError, StageError
from stream.config import LiveSettings
from stream.live import run_live
from stream.lsl import configure
from stream.messages import Condition, FeatureWindow
from stream.monitor import Observer
from stream.stages import Decoder
from stream.summary import Summary
from tests.integration.sessions import HOP_S, RATE_HZ, replayed, write_bundle, write_recording

pytestmark = pytest.mark.lsl


def settings(tmp_path: Path, stream: str, **more: object) -> LiveSettings:
    values: dict[str, object] = {
        "bundle": tmp_path / "bundle",
        "stream": stream,
        "sink": "null",
        "find_s": 30.0,
        "ended_after_s": 1.0,
        "outlets": False,
    }
    return LiveSettings(**(values | more))  # type: ignore[arg-type]


def test_a_session_keeps_everything_that_came_in_and_went_out(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=4.0)
    out = tmp_path / "session"
    with replayed(recording) as replay:
        summary = run_live(settings(tmp_path, replay.stream, out=out, sink=str(tmp_path / "a.wav")))
    assert (summary.sent, summary.delivered, summary.lost, summary.gaps) == (800, 800, 0, 0)
    assert summary.windows == 36
    assert summary.decoded + summary.skipped_windows == 36
    assert not summary.aborted
    assert summary.peak_dbfs <= -12.0
    assert summary.trace_mismatched == 0
    written = json.loads((out / "summary.json").read_text())
    assert written == json.loads(json.dumps(summary.to_json()))
    for name in ("sent", "delivered", "lost", "gaps", "windows", "skipped_windows", "age_ms"):
        assert name in written
    assert set(written["age_ms"]) == {"p50", "p99"}

    trace = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
    assert sorted(row["seq"] for row in trace) == list(range(36))
    for row in trace:
        if row["outcome"] == "heard":
            assert row["sum_ms"] == pytest.approx(row["end_to_end_ms"], abs=1.0)

    streams = {s["info"]["name"][0]: s for s in pyxdf.load_xdf(str(out / "recording.xdf"))[0]}
    assert len(streams[replay.stream]["time_series"]) == 800
    assert len(streams["hearback decision"]["time_series"]) == summary.decoded
    assert len(streams["hearback feedback"]["time_series"]) == summary.decoded
    heard = streams["hearback played"]["time_series"]
    played_s = heard[heard[:, 0] >= 0, 2].sum() / RATE_HZ
    assert played_s == pytest.approx(summary.seconds_played, abs=0.01)
    for path in (out / "played.wav", tmp_path / "a.wav"):
        pcm, rate = soundfile.read(path)
        assert rate == RATE_HZ
        assert len(pcm) >= RATE_HZ * 3.5
        assert np.abs(pcm).max() > 0.01


def test_seconds_end_a_session_and_nothing_is_kept_without_out(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=30.0)
    with replayed(recording) as replay:
        summary = run_live(settings(tmp_path, replay.stream, seconds=2.5))
    assert summary.ended_because == "the time was up"
    assert summary.out is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "noise.csv"]


class SlowDecoder:
    """Takes twice the hop for each window."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def decode(self, window: FeatureWindow) -> Condition:
        threading.Event().wait(2 * HOP_S)
        return self._decoder.decode(window)


def test_a_slow_decoder_skips_windows_and_counts_each(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=6.0)
    with replayed(recording) as replay:
        summary = run_live(settings(tmp_path, replay.stream), wrap_decoder=SlowDecoder)
    assert summary.windows == 56
    assert summary.decoded + summary.skipped_windows == 56
    assert summary.skipped["stale"] >= 25
    assert summary.lost == 0


class FailingDecoder(SlowDecoder):
    """Fails from the 10th window on."""

    def decode(self, window: FeatureWindow) -> Condition:
        if window.seq >= 10:
            raise ArithmeticError("planted")
        return self._decoder.decode(window)


def test_a_failing_stage_ends_the_session_and_the_recording_is_whole(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=30.0)
    out = tmp_path / "session"
    with (
        replayed(recording) as replay,
        pytest.raises(StageError, match=r"'decode' failed 5 times .* planted"),
    ):
        run_live(settings(tmp_path, replay.stream, out=out), wrap_decoder=FailingDecoder)
    written = json.loads((out / "summary.json").read_text())
    assert written["stage_errors"] == {"decode": 5}
    assert written["skipped"]["error"] == 5
    assert written["delivered"] == written["sent"]
    streams = {s["info"]["name"][0]: s for s in pyxdf.load_xdf(str(out / "recording.xdf"))[0]}
    assert len(streams[replay.stream]["time_series"]) == written["delivered"]


class Interrupt(Observer):
    """Sends this process SIGINT at a window."""

    def __init__(self, seq: int) -> None:
        self._seq = seq

    def on_window(self, window: FeatureWindow) -> None:
        if window.seq == self._seq:
            os.kill(os.getpid(), signal.SIGINT)


def test_sigint_is_an_abort(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=30.0)
    out = tmp_path / "session"
    with replayed(recording) as replay:
        summary = run_live(
            settings(tmp_path, replay.stream, out=out), observers=[Interrupt(seq=12)]
        )
    assert summary.aborted
    assert summary.ended_because == "aborted by SIGINT"
    assert summary.windows < 40
    events = (out / "events.jsonl").read_text()
    assert '"abort"' in events
    assert json.loads((out / "summary.json").read_text())["aborted"] is True


def test_a_killed_source_is_waited_for_and_its_loss_is_counted(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=7.0)
    out = tmp_path / "session"
    with replayed(recording, fault="kill:at=2,for=1") as replay:
        summary: Summary = run_live(settings(tmp_path, replay.stream, out=out, ended_after_s=4.0))
    assert summary.sent == 1400
    assert summary.sent == summary.delivered + summary.lost
    assert summary.lost > 100
    assert summary.gaps >= 1
    assert summary.n_restarts == 1


def test_marker_streams_of_text_and_of_numbers_are_recorded_as_they_are(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=4.0)
    out = tmp_path / "session"
    names = (f"cues-{uuid.uuid4().hex}", f"triggers-{uuid.uuid4().hex}")
    configure()
    cues = pylsl.StreamOutlet(pylsl.StreamInfo(names[0], "Markers", 1, 0, "string", names[0]))
    triggers = pylsl.StreamOutlet(pylsl.StreamInfo(names[1], "Markers", 1, 0, "int32", names[1]))
    ended = threading.Event()

    def send() -> None:
        code = -3
        while not ended.wait(0.05):
            cues.push_sample([f"cue {code}"])
            triggers.push_sample([code])
            code += 1

    sending = threading.Thread(target=send)
    sending.start()
    try:
        with replayed(recording) as replay:
            run_live(settings(tmp_path, replay.stream, out=out, markers=names))
    finally:
        ended.set()
        sending.join()
    streams, _ = pyxdf.load_xdf(str(out / "recording.xdf"))
    found = {stream["info"]["name"][0]: stream["time_series"] for stream in streams}
    texts = [int(row[0].removeprefix("cue ")) for row in found[names[0]]]
    codes = found[names[1]][:, 0].tolist()
    for numbers in (texts, codes):
        assert len(numbers) > 10
        assert np.diff(numbers).tolist() == [1] * (len(numbers) - 1)


def test_what_does_not_fit_is_said_before_any_sound(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", sfreq_hz=250.0)
    recording = write_recording(tmp_path / "noise.csv", seconds=30.0)
    with (
        replayed(recording) as replay,
        pytest.raises(SourceError, match=r"expects 250 Hz.*has 200 Hz"),
    ):
        run_live(settings(tmp_path, replay.stream, out=tmp_path / "session"))
    assert not (tmp_path / "session").exists()
    with pytest.raises(SourceError, match="No LSL stream named 'nobody'"):
        run_live(settings(tmp_path, "nobody", find_s=0.1))
    (tmp_path / "bundle" / "decoder.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        run_live(settings(tmp_path, "nobody"))
