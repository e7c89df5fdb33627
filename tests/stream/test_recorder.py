"""The recorder of a session against disks that fill up, vanish, hang and die."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyxdf

from models.errors import FileError
from stream.messages import Chunk, Gap, GapReason, SourceState, StateChange, TimelineEvent
from stream.recorder import Recorder
from stream.recorder_streams import SentText, as_sent
from stream.source_info import SourceInfo
from stream.text_source import TextTimeline
from stream.timeline import Timeline

DEADLINE_S = 30.0  # for what happens within milliseconds on a machine that is not busy


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that must come; the pause only keeps the processor free."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for: {what}"
        pause.wait(0.005)


def load(path: Path) -> dict[str, dict[str, Any]]:
    """Read a recording as it is; anything that pyxdf complains about is a failure."""
    complaints: list[str] = []

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(record.getMessage())

    handler = Listen(level=logging.WARNING)
    logging.getLogger("pyxdf").addHandler(handler)
    try:
        pyxdf.load_xdf(str(path))  # as everybody calls it
        streams, _ = pyxdf.load_xdf(str(path), synchronize_clocks=False, dejitter_timestamps=False)
    finally:
        logging.getLogger("pyxdf").removeHandler(handler)
    assert not complaints
    return {stream["info"]["name"][0]: stream for stream in streams}


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Feed:
    """Gives a recorder numbered samples, as many as wanted."""

    def __init__(self, recorder: Recorder, n_channels: int = 8) -> None:
        self.recorder = recorder
        self.number = recorder.add_stream("numbers", "features", n_channels)
        self.n_channels = n_channels
        self.n = 0

    def give(self, n: int) -> None:
        index = np.arange(self.n, self.n + n)
        values = np.repeat(index, self.n_channels).reshape(n, -1).astype(np.float32)
        self.recorder.write(self.number, 100 + index / 1000.0, values)
        self.n += n

    def check(self, path: Path, n: int | None = None) -> None:
        read = load(path)["numbers"]
        expected = np.arange(self.n if n is None else n)
        np.testing.assert_array_equal(read["time_series"][:, 0], expected)
        np.testing.assert_array_equal(read["time_series"][:, -1], expected)
        np.testing.assert_array_equal(read["time_stamps"], 100 + expected / 1000.0)

    def waiting(self) -> int:
        return self.recorder.statistics().streams[1].waiting


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def recorder(tmp_path: Path, told: list[str]) -> Iterator[Recorder]:
    with Recorder(tmp_path / "session", on_failure=told.append) as made:
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def source(**changes: Any) -> SourceInfo:
    values: dict[str, Any] = {
        "name": "cap",
        "type": "EEG",
        "n_channels": 2,
        "labels": ("C3", "C4"),
        "unit": "microvolts",
        "scale": 1e-6,
        "sfreq_hz": 100.0,
        "format": "float32",
    }
    return SourceInfo(**{**values, **changes})


def test_everything_given_is_in_the_file_after_a_clean_stop(tmp_path: Path) -> None:
    told: list[str] = []
    recorder = Recorder(tmp_path, on_failure=told.append)
    feed = Feed(recorder)
    feed.give(10)  # before the start, too
    recorder.start()
    recorder.start()
    for _ in range(200):
        feed.give(50)
    statistics = recorder.close()
    assert recorder.close() == statistics
    assert (statistics.streams[1].written, statistics.lost) == (10_010, 0)
    assert told == []
    assert statistics.failed is None
    feed.check(recorder.path)
    assert recorder.path.stat().st_size == statistics.n_bytes


def test_several_threads_may_write_at_once(recorder: Recorder) -> None:
    numbers = [recorder.add_stream(f"stream {index}", "features", 1) for index in range(4)]

    def give(number: int) -> None:
        for index in range(300):
            recorder.write(number, [float(index)], [[index]])
            recorder.event({"kind": "count", "stream": number, "n": index}, float(index))

    threads = [threading.Thread(target=give, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statistics = recorder.close()
    read = load(recorder.path)
    for index in range(4):
        np.testing.assert_array_equal(read[f"stream {index}"]["time_series"][:, 0], np.arange(300))
    assert len(read["hearback events"]["time_series"]) == 1200
    assert len(events(statistics.events_path)) == 1200


def test_a_source_is_recorded_as_it_was_sent_with_its_gaps(recorder: Recorder) -> None:
    modulo = 256
    desc = (
        "<info><desc><channels><channel><label>C3</label></channel><channel><label>C4</label>"
        "</channel><channel><label>counter</label><type>Counter</type></channel></channels>"
        "</desc></info>"
    )
    info = source(counter_channel=2, counter_modulo=modulo, desc_xml=desc, source_id="abc")
    timeline = Timeline(2, sfreq_hz=100.0, history_s=60.0)
    offsets = [(10.0, 0.5)]
    number = recorder.add_source(info, timeline.reader("file"), clock_offsets=lambda: offsets)
    rng = np.random.default_rng(0)
    sent = (rng.standard_normal((1000, 2)) * 50).astype(np.float32)
    raw = 50 + np.arange(1000) / 100.0
    for start in range(0, 600, 20):
        part = slice(start, start + 20)
        timeline.append(sent[part], raw[part] + 0.5, raw[part], start, arrived=0.0, scale=1e-6)
    timeline.gap(Gap(GapReason.DROPPED, 600, 100, 56.5, 57.5, 57.6))
    timeline.state(StateChange(SourceState.STALLED, 57.0, 57.7, "silence"))
    offsets.append((20.0, 0.5))
    timeline.append(sent[700:], raw[700:] + 0.5, raw[700:], 700, segment=1, arrived=0.0, scale=1e-6)
    statistics = recorder.close()
    assert statistics.streams[number - 1].written == 900
    kept = np.r_[0:600, 700:1000]
    read = load(recorder.path)["cap"]
    np.testing.assert_array_equal(read["time_stamps"], raw[kept])
    np.testing.assert_allclose(read["time_series"][:, :2], sent[kept], rtol=2e-7)
    np.testing.assert_array_equal(read["time_series"][:, 2], kept % modulo)
    assert read["clock_times"] == [9.5, 19.5]  # on the clock of the sender
    assert read["clock_values"] == [0.5, 0.5]
    assert read["info"]["source_id"] == ["abc"]
    gap, state = events(statistics.events_path)
    assert (gap["kind"], gap["reason"], gap["n_lost"], gap["first"]) == ("gap", "dropped", 100, 600)
    assert (gap["stream"], gap["t_start"], gap["t_stop"]) == ("cap", 56.5, 57.5)
    assert (state["kind"], state["state"], state["t"]) == ("state", "stalled", 57.7)


@pytest.mark.parametrize("kind", ["int16", "int8", "int32", "int64", "float32", "double64"])
def test_counts_of_an_amplifier_come_back_exactly(kind: str) -> None:
    dtype = np.dtype({"double64": "f8"}.get(kind, kind))
    sent = np.arange(-100, 100, dtype=dtype).reshape(100, 2) * (1 if kind == "int8" else 300)
    timeline = Timeline(2, sfreq_hz=100.0, history_s=10.0)
    times = np.arange(100.0)
    timeline.append(sent, times, times, 0, arrived=0.0, scale=1e-6)
    (chunk,) = timeline.reader("file").read()
    assert isinstance(chunk, Chunk)
    back = as_sent(source(format=kind), chunk)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, sent, rtol=0 if dtype.kind == "i" else 1e-7)


def test_markers_of_a_source_are_recorded(recorder: Recorder) -> None:
    timeline = TextTimeline()
    timeline.add(SentText(("go", "left"), 1.5))
    timeline.add(SentText(("Ende ü", ""), 2.5))
    info = source(name="marks", type="Markers", labels=(), sfreq_hz=0.0, format="string")
    recorder.add_source(info, timeline.reader("recorder"), clock_offsets=lambda: [(1.0, 0.5)])
    recorder.close()
    read = load(recorder.path)["marks"]
    assert read["time_series"] == [["go", "left"], ["Ende ü", ""]]
    np.testing.assert_array_equal(read["time_stamps"], [1.5, 2.5])
    assert read["clock_values"] == [0.5]


def test_a_source_that_cannot_be_read_is_told_once_and_the_others_go_on(
    recorder: Recorder, told: list[str]
) -> None:
    class Broken:
        calls = 0

        def read(self) -> list[TimelineEvent]:
            self.calls += 1
            raise RuntimeError("bad cable")

    broken = Broken()
    recorder.add_source(source(), broken)
    feed = Feed(recorder)
    until(lambda: broken.calls > 3, "several tries")
    feed.give(100)
    recorder.close()
    assert len(told) == 1
    assert "'cap'" in told[0]
    assert "bad cable" in told[0]
    assert recorder.statistics().streams[-1].written == 100


def test_a_full_disk_is_told_once_and_all_is_written_when_there_is_room(
    small_disk: Path, told: list[str]
) -> None:
    recorder = Recorder(small_disk / "session", on_failure=told.append)
    feed = Feed(recorder)
    with recorder:
        while not told and feed.n < 10**6:
            feed.give(100)
            until(lambda: told or feed.waiting() == 0, "the disk to take it or to be full")
        assert "the disk is full" in told[0]
        assert recorder.failed == told[0]
        feed.give(20_000)
        full = recorder.statistics()
        assert full.path.stat().st_size == full.n_bytes  # no half of a chunk at the end
        feed.check(recorder.path, full.streams[1].written)
        assert full.waiting_bytes > 500_000
        resize(small_disk, "20m")
        until(lambda: recorder.failed is None and feed.waiting() == 0, "writing to go on")
        feed.give(100)
    assert len(told) == 1
    feed.check(recorder.path)
    texts = [event["text"] for event in events(recorder.statistics().events_path)]
    assert texts == [told[0], "The recording is written again."]


def test_what_does_not_fit_into_memory_is_counted_and_written_down(
    small_disk: Path, told: list[str]
) -> None:
    recorder = Recorder(small_disk / "session", on_failure=told.append, memory_limit_bytes=1 << 20)
    feed = Feed(recorder)
    with recorder:
        feed.give(10_000)
        until(lambda: told, "the disk to be full")
        for _ in range(100):
            feed.give(1000)
        lost = recorder.statistics().lost
        resize(small_disk, "20m")
        until(lambda: recorder.failed is None and feed.waiting() == 0, "writing to go on")
        feed.give(500)
    kinds = sorted("full" if "disk is full" in text else text[:18] for text in told)
    assert kinds == ["1 MiB wait for the", "full"]
    statistics = recorder.statistics()
    assert statistics.streams[1].written + lost == feed.n
    (loss,) = [event for event in events(statistics.events_path) if event["kind"] == "not recorded"]
    assert (loss["stream"], loss["n_lost"]) == ("numbers", lost)
    read = load(recorder.path)["numbers"]["time_stamps"]
    missing = np.setdiff1d(100 + np.arange(feed.n) / 1000.0, read)
    assert (loss["t_start"], loss["t_stop"]) == (missing[0], missing[-1])


def test_a_disk_that_stays_full_does_not_hold_up_the_end(small_disk: Path, told: list[str]) -> None:
    recorder = Recorder(small_disk / "session", on_failure=told.append)
    feed = Feed(recorder)
    recorder.start()
    feed.give(20_000)
    until(lambda: told, "the disk to be full")
    statistics = recorder.close(timeout_s=0.3)
    assert "before the end" in told[-1]
    assert statistics.waiting_bytes > 0
    feed.check(recorder.path, statistics.streams[1].written)


def test_a_folder_without_room_is_refused_before_the_start(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * (256 << 10))
    with pytest.raises(FileError, match=r"disk is full|folder"):
        Recorder(small_disk / "session", on_failure=print)


def test_a_file_may_not_grow_beyond_a_limit(recorder: Recorder, told: list[str]) -> None:
    resource = pytest.importorskip("resource")
    feed = Feed(recorder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        feed.give(5000)
        until(lambda: told, "the limit to be told")
        assert "largest size" in told[0]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    recorder.close()
    feed.check(recorder.path)


def test_a_removed_folder_is_put_back_with_all_that_was_in_it(
    recorder: Recorder, told: list[str]
) -> None:
    feed = Feed(recorder)
    feed.give(5000)
    recorder.event("here")
    until(lambda: recorder.statistics().waiting_bytes == 0, "the first samples to be written")
    shutil.rmtree(recorder.path.parent)
    feed.give(5000)
    until(lambda: told and recorder.failed is None, "the removal to be seen and mended")
    feed.give(5000)
    statistics = recorder.close()
    assert len(told) == 1
    assert "was removed" in told[0]
    feed.check(recorder.path)
    assert events(statistics.events_path)[0]["text"] == "here"


def test_a_moved_file_is_told_and_still_written(
    recorder: Recorder, told: list[str], tmp_path: Path
) -> None:
    feed = Feed(recorder)
    moved = tmp_path / "elsewhere.xdf"
    recorder.path.rename(moved)
    until(lambda: told, "the move to be told")
    feed.give(100)
    recorder.close()
    assert len(told) == 1
    assert "moved or renamed" in told[0]
    feed.check(moved)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_died_is_told_and_replaced(
    recorder: Recorder, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(recorder)
    monkeypatch.setattr(recorder._writer.xdf, "put", _die)
    feed.give(100)
    until(lambda: told, "the death to be told")
    assert "died" in told[0]
    monkeypatch.undo()
    until(lambda: feed.waiting() == 0, "another thread to write it")
    recorder.close()
    assert len(told) == 1
    feed.check(recorder.path)


def _die(_chunks: object) -> None:
    raise SystemExit  # ends a thread without a word, as a crash in a library would


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_intake_that_died_is_told_and_replaced(recorder: Recorder, told: list[str]) -> None:
    class Deadly:
        calls = 0

        def read(self) -> list[TimelineEvent]:
            self.calls += 1
            if self.calls == 3:
                raise SystemExit
            return []

    reader = Deadly()
    recorder.add_source(source(), reader)
    until(lambda: reader.calls > 5 and recorder.failed is None, "another thread to read")
    recorder.close()
    assert len(told) == 1
    assert "reads has died" in told[0]


def test_a_disk_that_hangs_is_told_and_nobody_waits_for_it(
    recorder: Recorder, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(recorder)
    hangs = threading.Event()
    real = recorder._writer.xdf.put

    def put(chunks: Any) -> None:
        hangs.wait(DEADLINE_S)
        real(chunks)

    monkeypatch.setattr(recorder._writer.xdf, "put", put)
    feed.give(100)
    until(lambda: told, "the hang to be told")
    assert "not answered" in told[0]
    feed.give(100)  # comes back at once
    hangs.set()
    until(lambda: recorder.failed is None, "the disk to answer")
    recorder.close()
    assert len(told) == 1
    feed.check(recorder.path)


def test_what_cannot_be_recorded_never_raises_and_is_told_once(
    recorder: Recorder, told: list[str]
) -> None:
    feed = Feed(recorder)
    text = recorder.add_stream("text", "Markers", 1, channel_format="string")
    for _ in range(3):
        recorder.write(feed.number, [1.0, 2.0], np.zeros((3, 99)))
        recorder.write(feed.number, "nonsense", [[1.0]])
        recorder.write_text(text, 1.0, None)  # type: ignore[arg-type]
        recorder.write(99, [1.0], [[1.0]])
        recorder.event({"kind": "odd", "value": object(), "nan": float("nan")})
    feed.give(10)
    recorder.close()
    assert len(told) == 3
    feed.check(recorder.path)


def test_a_listener_that_fails_does_not_stop_the_recording(tmp_path: Path) -> None:
    def fail(_text: str) -> None:
        raise RuntimeError("listener")

    with Recorder(tmp_path, on_failure=fail) as recorder:
        feed = Feed(recorder)
        recorder.write(feed.number, [1.0], np.zeros((1, 99)))
        feed.give(10)
    feed.check(recorder.path)


def test_two_sessions_in_one_folder_do_not_touch_each_other(tmp_path: Path) -> None:
    paths = []
    for _ in range(2):
        with Recorder(tmp_path, on_failure=print) as recorder:
            Feed(recorder).give(10)
        statistics = recorder.statistics()
        paths += [statistics.path.name, statistics.events_path.name]
    assert paths == ["recording.xdf", "events.jsonl", "recording-2.xdf", "events-2.jsonl"]


def test_a_folder_that_cannot_be_made_is_refused_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="Choose another one"):
        Recorder(tmp_path / "file" / "session", on_failure=print)
