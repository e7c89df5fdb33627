"""Recordings of real LSL streams, sent and recorded by processes of their own."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyxdf
from numpy.typing import NDArray

from models.errors import SettingError
from stream.lsl import config_text
from stream.record import RecordSettings

pytestmark = [pytest.mark.lsl, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
RATE = 500

#: Sends 4 channels in microvolts and a counter, 10 samples every 20 ms, and says the count every
#: time; a marker every tenth time. Stops after the number of blocks that it is given.
SENDER = """
import sys, time
import numpy as np, pylsl
from stream.lsl import configure
from stream.sender import MarkerSender, Sender, StreamDescription
configure()
name, source_id, n_blocks, with_markers = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
sender = Sender(StreamDescription(name, "EEG", ("Fz", "Cz", "Pz", "Oz"), 500.0, source_id,
                                  unit="microvolts"))
markers = MarkerSender(name + "-markers", source_id=source_id + "m") if with_markers else None
print("ready", flush=True)
start = pylsl.local_clock()
for block in range(n_blocks):
    due = start + (block + 1) * 0.02
    time.sleep(max(0.0, due - pylsl.local_clock()))
    index = block * 10 + np.arange(10)
    values = (index[:, None] * 0.25 + np.arange(4) * 1000.0).astype(np.float32)
    sender.push(values, start + index / 500.0, first=int(index[0]))
    if markers and block % 10 == 0:
        markers.push(f"mark {index[0]}", start + index[0] / 500.0)
    print(block * 10 + 10, pylsl.local_clock(), flush=True)
sys.stdin.readline()
"""

#: Records until it is told to stop, as `hearback record` does.
RECORDER = """
import json, sys
from pathlib import Path
from stream.record import RecordSettings, run_record
from models.errors import HearbackError
said, wait_s = [], 1.0 if "nobody" in sys.argv else 20.0
def progress(done, _all):
    said.append(done)
    print("recording" if len(said) == 1 else f"done {done}", file=sys.stderr, flush=True)
try:
    summary = run_record(RecordSettings(tuple(sys.argv[3:]), float(sys.argv[2]), Path(sys.argv[1]),
                                        timeout_s=wait_s, on_progress=progress))
except HearbackError as error:
    print(type(error).__name__, error, flush=True)
else:
    print(json.dumps(summary.to_json(), allow_nan=False), flush=True)
"""


class Process:
    """A Python program that says where it is, line by line."""

    def __init__(self, program: str, *arguments: str, config: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LSLAPICFG": str(config)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.errors: queue.Queue[str] = queue.Queue()
        self.newest = ""
        self.readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self.readers:
            reader.start()

    def _read(self, stream: Any, lines: queue.Queue[str]) -> None:
        for line in stream:
            if lines is self.lines:
                self.newest = line.strip()
            lines.put(line.strip())

    def until(self, text: str, *, errors: bool = False) -> None:
        """Wait for a line that holds this text."""
        deadline = time.monotonic() + DEADLINE_S
        lines = self.errors if errors else self.lines
        seen: list[str] = []
        while not any(text in line for line in seen):
            try:
                seen.append(lines.get(timeout=0.1))
            except queue.Empty:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    others = list(self.errors.queue)
                    pytest.fail(f"waited in vain for {text!r}; came: {seen} {others}")

    def count(self) -> int:
        """Samples that a sender has sent."""
        return int(self.newest.split()[0])

    def wait_for(self, count: int) -> None:
        """Wait until a sender has sent so many."""
        while self.count() < count:
            self.lines.get(timeout=DEADLINE_S)

    def stop(self) -> None:
        """End it now, if it has not ended by itself."""
        self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """Start programs that end with the test, on an LSL of their own."""
    processes: list[Process] = []
    # Each stream on a machine takes one of 32 ports, and no further one is found: more of them,
    # because other programs may be busy here, other tests among them.
    text = config_text(f"test-{uuid.uuid4()}")
    config = tmp_path_factory.mktemp("lsl") / "lsl.cfg"
    config.write_text(
        text if "PortRange" in text else text.replace("[ports]\n", "[ports]\nPortRange = 256\n")
    )

    def begin(program: str, *arguments: str) -> Process:
        processes.append(Process(program, *arguments, config=config))
        return processes[-1]

    yield begin
    for process in processes:
        process.stop()


@pytest.fixture
def name() -> str:
    return f"cap-{uuid.uuid4()}"


@pytest.fixture
def sender(name: str, start: Callable[..., Process]) -> Process:
    process = start(SENDER, name, str(uuid.uuid4()), "100000")
    process.until("ready")
    process.until("0 ")
    return process


def load(path: Path) -> dict[str, dict[str, Any]]:
    streams, _ = pyxdf.load_xdf(str(path), synchronize_clocks=False, dejitter_timestamps=False)
    return {stream["info"]["name"][0]: stream for stream in streams}


def check(stream: dict[str, Any]) -> NDArray[np.int_]:
    """Check that the samples are the ones that were sent, and return their counts."""
    values, stamps = stream["time_series"], stream["time_stamps"]
    counts: NDArray[np.int_] = values[:, -1].astype(int)
    np.testing.assert_array_equal(np.diff(counts), 1)
    sent = (counts[:, None] * 0.25 + np.arange(4) * 1000.0).astype(np.float32)
    np.testing.assert_allclose(values[:, :4], sent, rtol=2e-7)
    np.testing.assert_allclose(stamps - stamps[0], (counts - counts[0]) / RATE, atol=1e-6)
    return counts


def test_a_signal_ends_the_recording_and_nothing_sent_before_it_is_missing(
    sender: Process, name: str, tmp_path: Path, start: Callable[..., Process]
) -> None:
    recorder = start(RECORDER, str(tmp_path), "600", name)
    recorder.until("recording", errors=True)
    begun = sender.count()
    sender.wait_for(begun + RATE)
    before = sender.count()
    recorder.process.send_signal(signal.SIGTERM)
    recorder.until('"sent"')
    summary = json.loads(recorder.newest)
    assert recorder.process.wait(DEADLINE_S) == 0

    counts = check(load(tmp_path / "recording.xdf")[name])
    assert counts[0] <= begun
    assert counts[-1] + 1 >= before
    assert summary["stopped"] is True
    assert summary["failures"] == []
    assert summary["sent"] == summary["delivered"] == summary["written"] == len(counts)
    assert (summary["lost"], summary["gaps"]) == (0, 0)


def test_markers_are_recorded_beside_the_samples_they_belong_to(
    name: str, tmp_path: Path, start: Callable[..., Process]
) -> None:
    sender = start(SENDER, name, str(uuid.uuid4()), "100000", "with markers")
    sender.until("ready")
    recorder = start(RECORDER, str(tmp_path), "600", name, f"{name}-markers")
    recorder.until("recording", errors=True)
    sender.wait_for(sender.count() + 2 * RATE)
    recorder.process.send_signal(signal.SIGINT)
    recorder.until('"sent"')
    summary = json.loads(recorder.newest)
    assert recorder.process.wait(DEADLINE_S) == 0

    streams = load(tmp_path / "recording.xdf")
    counts = check(streams[name])
    marks = streams[f"{name}-markers"]
    texts = np.array([int(text[0].split()[1]) for text in marks["time_series"]])
    np.testing.assert_array_equal(np.diff(texts), 100)
    assert texts[-1] >= counts[-1] - 110
    inside = texts >= counts[0]
    sample = np.searchsorted(counts, texts[inside])
    np.testing.assert_array_equal(
        marks["time_stamps"][inside], streams[name]["time_stamps"][sample]
    )
    assert summary["sent"] == len(counts)  # markers are told apart
    assert [stream["type"] for stream in summary["streams"]] == ["EEG", "Markers"]


def test_a_killed_recorder_leaves_all_but_the_last_tenth_of_a_second(
    sender: Process, name: str, tmp_path: Path, start: Callable[..., Process]
) -> None:
    recorder = start(RECORDER, str(tmp_path), "600", name)
    recorder.until("recording", errors=True)
    begun = sender.count()
    sender.wait_for(begun + RATE)
    recorder.process.kill()
    after = sender.count()
    recorder.process.wait()
    counts = check(load(tmp_path / "recording.xdf")[name])
    assert counts[0] <= begun
    # On a machine that is not busy this is 20 to 40 ms (benchmarks/recording.py).
    assert after - counts[-1] - 1 <= 2 * RATE


def test_a_sender_that_dies_and_comes_back_is_accounted_for(
    sender: Process, name: str, tmp_path: Path, start: Callable[..., Process]
) -> None:
    recorder = start(RECORDER, str(tmp_path), "600", name)
    recorder.until("recording", errors=True)
    sender.wait_for(sender.count() + 100)
    sender.process.kill()
    events = tmp_path / "events.jsonl"
    deadline = time.monotonic() + DEADLINE_S
    while '"lost"' not in events.read_text():
        assert time.monotonic() < deadline
        recorder.errors.get(timeout=DEADLINE_S)
    recorder.process.send_signal(signal.SIGINT)
    recorder.until('"sent"')
    summary = json.loads(recorder.newest)
    assert recorder.process.wait(DEADLINE_S) == 0
    check(load(tmp_path / "recording.xdf")[name])
    assert summary["sent"] == summary["delivered"] + summary["lost"]
    states = [json.loads(line).get("state") for line in events.read_text().splitlines()]
    assert "lost" in states


def test_the_time_given_is_the_time_recorded(
    sender: Process, name: str, tmp_path: Path, start: Callable[..., Process]
) -> None:
    recorder = start(RECORDER, str(tmp_path), "1", name)
    recorder.until('"sent"')
    summary = json.loads(recorder.newest)
    recorder.until("done 1.0", errors=True)
    counts = check(load(tmp_path / "recording.xdf")[name])
    assert len(counts) >= RATE // 2  # a busy machine sends late
    assert summary["stopped"] is False
    assert summary["seconds"] >= 1.0
    assert summary["sent"] == len(counts)


def test_a_stream_that_is_not_there_is_told_with_what_is(
    sender: Process, name: str, tmp_path: Path, start: Callable[..., Process]
) -> None:
    recorder = start(RECORDER, str(tmp_path / "out"), "1", name, "nobody")
    recorder.until("SourceError")
    assert "No LSL stream named 'nobody'" in recorder.newest
    assert f"Found: '{name}' (EEG, 4 channels at 500 Hz)" in recorder.newest
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_used_is_told_before_the_start(
    sender: Process, name: str, tmp_path: Path, start: Callable[..., Process]
) -> None:
    (tmp_path / "file").touch()
    recorder = start(RECORDER, str(tmp_path / "file" / "out"), "1", name)
    recorder.until("FileError")
    assert "Choose another one with --out" in recorder.newest
    assert "recording" not in list(recorder.errors.queue)


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--stream"):
        RecordSettings((), 1.0, tmp_path)
    with pytest.raises(SettingError, match="--seconds"):
        RecordSettings(("x",), 0.0, tmp_path)
