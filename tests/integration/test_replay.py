"""Replays as real LSL streams, sent by processes of their own and taken by an inlet here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pylsl
import pytest
from numpy.typing import NDArray
from pylsl.util import LostError

from stream.lsl import clock, configure, full_info
from stream.messages import Chunk
from stream.record import RecordSettings, run_record
from stream.recordings import Recording, Segment, read_recording, recording_events
from stream.sender import Sender, StreamDescription
from stream.source_info import BoldInfo, read_info
from tests.data import shared

pytestmark = [pytest.mark.lsl, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0

#: Replays what its argument says; prints the summary.
REPLAY = """
import dataclasses, json, sys
from stream.replay import ReplaySettings, run_replay
if __name__ == "__main__":
    summary = run_replay(ReplaySettings(**json.loads(sys.argv[1])))
    print(json.dumps(dataclasses.asdict(summary)), flush=True)
"""


@dataclass
class Taken:
    """What came over one stream."""

    samples: list[NDArray[np.float32]] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    ahead: float = -np.inf  # s, largest of stamp - time at which it came

    @property
    def values(self) -> NDArray[np.float32]:
        return np.concatenate(self.samples)

    @property
    def count(self) -> NDArray[np.int64]:
        return self.values[:, -1].astype(np.int64)


def find(name: str) -> Any:
    """Return a stream by its name.

    The questions are short, with pauses: each holds ports that the new outlets need.
    """
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := pylsl.resolve_byprop("name", name, 1, 0.6):
            return found[0]
        time.sleep(0.2)
    pytest.fail(f"no stream {name} after {DEADLINE_S:g} s")


class Replay:
    """A replay in another process, and inlets for its streams."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        configure()
        self.name = f"replay-{uuid.uuid4()}"
        program = folder / f"{self.name}.py"
        program.write_text(textwrap.dedent(REPLAY))
        values = {"name": self.name, "source_id": str(uuid.uuid4()), "linger_s": 1.0, **settings}
        self.process = subprocess.Popen(
            [sys.executable, str(program), json.dumps(values, default=str)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.reconnects = False  # when the sender is lost
        self.inlets: dict[str, Any] = {}
        self.taken: dict[str, Taken] = {}

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.inlets.clear()

    def connect(self, ending: str = "") -> Any:
        """Open an inlet; return the stream's description."""
        found = find(self.name + ending)
        # One that looks for a lost sender by itself takes the ports that the next one needs.
        inlet = pylsl.StreamInlet(found, max_buflen=360, recover=False)
        inlet.open_stream(DEADLINE_S)
        self.inlets[ending] = inlet
        self.taken.setdefault(ending, Taken())
        return read_info(full_info(found, timeout_s=DEADLINE_S))

    def take(self, until: Callable[[Replay], bool] = lambda replay: False) -> None:
        """Take all that comes until the process ends, or `until` says so."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            got = [self._pull(ending) for ending in self.inlets]
            if until(self) or (ended and not any(got)):
                return
        pytest.fail("the replay did not end")

    def _pull(self, ending: str) -> bool:
        taken = self.taken[ending]
        try:
            values, stamps = self.inlets[ending].pull_chunk(timeout=0.02, max_samples=4096)
        except LostError:
            if self.process.poll() is None and self.reconnects:
                self.connect(ending)
            return False
        now = clock()
        if not stamps:
            return False
        taken.ahead = max(taken.ahead, max(stamps) - now)
        taken.stamps += stamps
        if isinstance(values[0][0], str):
            taken.texts += [row[0] for row in values]
        else:
            taken.samples.append(np.asarray(values, dtype=np.float32))
        return True

    def summary(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == 0
        result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return result


def a_table(path: Path, seconds: float = 4.0) -> Path:
    rng = np.random.default_rng(7)
    n = int(200 * seconds)
    values = rng.normal(0, 20, (n, 3))
    rows = [
        f"{500 + k / 200:.3f},{','.join(f'{v:.3f}' for v in values[k])},{int(k % 100 == 3)}"
        for k in range(n)
        if not 300 <= k < 310
    ]
    path.write_text("\n".join(["timestamps,A,B,C,Marker0", *rows]) + "\n")
    return path


def expected(recording: Recording, speed: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return indices, samples and relative times that must come."""
    main = recording.choose()
    chunks = [e for e in recording_events(main, 64) if isinstance(e, Chunk)]
    index = np.concatenate([np.arange(c.first, c.stop) for c in chunks])
    stamps = np.concatenate([c.stamps for c in chunks])
    return index, np.concatenate([c.samples for c in chunks]), (stamps - stamps[0]) / speed


@pytest.mark.parametrize("speed", [1.0, 6.0])
def test_every_sample_and_every_marker_comes_exactly(tmp_path: Path, speed: float) -> None:
    path = a_table(tmp_path / "x.csv")
    recording = read_recording(path)
    with Replay(tmp_path, path=path, speed=speed) as replay:
        info = replay.connect()
        replay.connect("-markers")
        replay.take()
        summary = replay.summary()
    assert (info.unit, info.scale, info.labels) == ("V", 1.0, ("A", "B", "C"))
    assert (info.speed, info.recorded_sfreq_hz, info.sfreq_hz) == (speed, 200.0, 200.0 * speed)
    assert info.counter_channel == 3
    index, samples, times = expected(recording, speed)
    came, markers = replay.taken[""], replay.taken["-markers"]
    assert np.array_equal(came.count, index)
    assert came.values[:, :-1].tobytes() == samples.tobytes()
    t0 = came.stamps[0]
    assert np.array(came.stamps) - t0 == pytest.approx(times, abs=1e-9)
    # The marker's stamp is that of its sample, to the last bit.
    rows = np.searchsorted(recording.choose().stamps, recording.markers[0].stamps)
    assert markers.stamps == [came.stamps[row] for row in rows]
    assert tuple(markers.texts) == recording.markers[0].texts
    assert max(came.ahead, markers.ahead) <= 0
    assert summary["ended"] == "end"
    assert [s["sent"] for s in summary["streams"]] == [len(index), len(rows)]


@pytest.mark.data
def test_a_real_xdf_is_replayed_with_all_its_streams(tmp_path: Path) -> None:
    path = shared("xdf/muse/sub-P050.xdf")
    recording = read_recording(path)
    with Replay(tmp_path, path=path, speed=4.0) as replay:
        endings = {"EEG": "", "ACC": "-ACC", "GYRO": "-GYRO", "PPG": "-PPG"}
        for ending in endings.values():
            replay.connect(ending)
        replay.take()
    origin = replay.taken[""].stamps[0]
    start = recording.choose().stamps[0]
    for recorded in recording.signals:
        came = replay.taken[endings[recorded.type]]
        assert came.values[:, :-1].tobytes() == recorded.samples.tobytes()
        assert np.array(came.stamps) - origin == pytest.approx(
            (recorded.stamps - start) / 4.0, abs=1e-9
        )


@pytest.mark.data
def test_volumes_come_with_their_description(tmp_path: Path) -> None:
    path = shared("fmri_haxby/run001_bold_25mm.nii.gz")
    recording = read_recording(path)
    bold = recording.choose()
    with Replay(tmp_path, path=path, speed=100.0) as replay:
        info = replay.connect()
        replay.connect("-markers")
        replay.take()
    assert bold.bold is not None
    assert info.bold is not None
    assert (info.bold.shape, info.bold.tr_s) == (bold.bold.shape, 2.5)
    assert info.bold.mask_sha256 == bold.bold.mask_sha256
    assert info.bold.affine == pytest.approx(bold.bold.affine)
    came = replay.taken[""]
    assert came.values[:, :-1].tobytes() == bold.samples.tobytes()
    assert came.count.tolist() == list(range(121))
    assert came.ahead <= -0.02  # a volume takes its TR, here 25 ms, before it can be had
    assert tuple(replay.taken["-markers"].texts) == recording.markers[0].texts


def test_drops_and_duplicates_show_in_the_count(tmp_path: Path) -> None:
    path = a_table(tmp_path / "x.csv")
    faults = "drop:at=0.5,n=20;duplicate:at=1,n=5;jitter:sd=0.002"
    with Replay(tmp_path, path=path, speed=8.0, fault=faults) as replay:
        replay.connect()
        replay.take()
    index = expected(read_recording(path), 4.0)[0]
    kept = [*index[:100], *index[120:205], *index[200:205], *index[205:]]
    assert replay.taken[""].count.tolist() == kept
    assert replay.taken[""].ahead <= 0


@pytest.mark.slow
def test_a_killed_sender_dies_and_goes_on_with_count_and_time(tmp_path: Path) -> None:
    path = a_table(tmp_path / "x.csv", seconds=50.0)
    with Replay(tmp_path, path=path, speed=5.0, fault="kill:at=10,for=1") as replay:
        replay.connect()
        replay.reconnects = True
        replay.take(lambda r: bool(r.taken[""].stamps) and r.taken[""].count[-1] == 9_999)
        replay.reconnects = False
        replay.take()
        summary = replay.summary()
    came = replay.taken[""]
    jumps = np.flatnonzero(np.diff(came.count) != 1)
    first = came.count[came.count < 2000]
    assert (np.diff(came.count) > 0).all()
    assert summary["kills"] == 1
    # Only the gap of the recording and the death; after it, count and time are where they must be.
    assert len(jumps) == 2
    lost_at = int(jumps[1])
    assert came.count[lost_at + 1] - came.count[lost_at] >= 1000  # 1 s at 5 times 200 Hz
    elapsed = came.stamps[-1] - came.stamps[0]
    assert elapsed == pytest.approx((came.count[-1] - came.count[0]) / 1000.0, abs=1e-6)
    assert len(first) > 0


def test_an_interrupt_ends_it_cleanly(tmp_path: Path) -> None:
    path = a_table(tmp_path / "x.csv")
    with Replay(tmp_path, path=path, loop=True) as replay:
        replay.connect()
        replay.take(lambda r: sum(map(len, r.taken[""].samples)) > 900)  # more than one pass
        replay.process.send_signal(signal.SIGINT)
        summary = replay.summary()
    assert summary["ended"] == "interrupted"
    jumps = np.diff(replay.taken[""].count)
    assert set(jumps.tolist()) <= {1, 11}  # the gap of 10 in the table, and no other


def test_an_interrupt_ends_a_replay_with_kills_too(tmp_path: Path) -> None:
    path = a_table(tmp_path / "x.csv", seconds=60.0)
    with Replay(tmp_path, path=path, fault="kill:at=50,for=1") as replay:
        replay.connect()
        replay.take(lambda r: bool(r.taken[""].stamps))
        replay.process.send_signal(signal.SIGINT)
        assert replay.summary()["ended"] == "interrupted"


def test_it_begins_without_a_consumer_when_told_to(tmp_path: Path) -> None:
    path = a_table(tmp_path / "x.csv", seconds=1.0)
    with Replay(tmp_path, path=path, wait_s=0.0, linger_s=0.0) as replay:
        assert replay.summary()["streams"][0]["sent"] == 200


def test_a_recorded_replay_reads_back_as_the_first_recording(tmp_path: Path) -> None:
    path = a_table(tmp_path / "x.csv")
    faults = "drop:at=1,n=20;duplicate:at=2,n=10"
    with Replay(tmp_path, path=path, speed=2.0, fault=faults) as replay:
        names = (replay.name, f"{replay.name}-markers")
        for name in names:
            find(name)
        run_record(RecordSettings(names, 6.0, tmp_path / "out", timeout_s=DEADLINE_S))
    again = read_recording(next((tmp_path / "out").rglob("*.xdf")))
    first, second = read_recording(path), again.choose()
    kept = np.r_[0:200, 220:790]
    assert second.samples.tobytes() == first.choose().samples[kept].tobytes()
    assert second.segments == (Segment(0, 200, 0), Segment(200, 280, 220), Segment(280, 770, 310))
    assert (second.labels, second.unit, second.sfreq_hz) == (("A", "B", "C"), "V", 200.0)
    # Half a millisecond: the recorder measures the sender's clock, and a busy machine disturbs it.
    stamps = first.choose().stamps[kept]
    assert second.stamps - second.stamps[0] == pytest.approx(stamps - stamps[0], abs=1e-3)
    markers = next(m for m in again.markers if m.name == names[1])
    assert markers.texts == first.markers[0].texts
    expected_s = first.markers[0].stamps - stamps[0]
    assert markers.stamps - second.stamps[0] == pytest.approx(expected_s, abs=1e-3)


def test_a_volume_of_65000_voxels_is_described_and_counted() -> None:
    configure()
    bold = BoldInfo((50, 50, 26), np.diag([3.0, 3.0, 3.0, 1.0]), 1.5, "ab" * 32)
    name = str(uuid.uuid4())
    description = StreamDescription(
        name, "BOLD", ("v",) * 65_000, 1 / 1.5, str(uuid.uuid4()), unit="a.u.", bold=bold
    )
    with Sender(description) as sender:
        found = find(name)
        info = read_info(full_info(found, timeout_s=DEADLINE_S))
        assert (info.n_channels, info.counter_channel, info.scale) == (65_000, 65_000, 1.0)
        assert info.bold is not None
        assert info.bold.tr_s == 1.5
        inlet = pylsl.StreamInlet(found)
        inlet.open_stream(DEADLINE_S)
        assert sender.wait_for_consumer(DEADLINE_S)
        values = np.random.default_rng(0).normal(size=(2, 65_000)).astype(np.float32)
        sender.push(values, np.array([5.25, 6.75]), first=2**24 - 1)
        rows: list[Any] = []
        stamps: list[float] = []
        deadline = time.monotonic() + DEADLINE_S
        while len(rows) < 2 and time.monotonic() < deadline:
            more, at = inlet.pull_chunk(timeout=0.2, max_samples=2)
            rows += list(more)
            stamps += at
        inlet.close_stream()
    came = np.asarray(rows, dtype=np.float32)
    assert came[:, :-1].tobytes() == values.tobytes()
    assert came[:, -1].tolist() == [2**24 - 1, 0]
    assert stamps == [5.25, 6.75]
