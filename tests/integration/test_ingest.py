"""Ingest over a real Lab Streaming Layer: senders in other processes die, freeze, come back."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import SourceError
from stream.lsl import StreamQuery, clock, find_streams
from stream.lsl_source import LslSource
from stream.messages import (
    Chunk,
    Gap,
    GapReason,
    SourceState,
    StateChange,
    TimelineEvent,
)
from stream.recorder_streams import SentText
from stream.text_source import TextSource
from stream.timeline_reader import Reader
from tests.integration.broker import wait_until
from tests.integration.lsl_rig import Sender, unique

pytestmark = pytest.mark.lsl

_ROOT = Path(__file__).resolve().parents[2]


class _Log:
    """Everything that a reader has seen."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.events: list[TimelineEvent] = []

    def until(self, condition: Callable[[_Log], bool], *, timeout_s: float = 60.0) -> None:
        """Read on until something holds."""
        deadline = clock() + timeout_s
        while not condition(self):
            assert clock() < deadline, f"not within {timeout_s} s; state and gaps: {self.others}"
            self.reader.wait(0.5)
            self.events += self.reader.read()

    @property
    def chunks(self) -> list[Chunk]:
        return [event for event in self.events if isinstance(event, Chunk)]

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    @property
    def others(self) -> list[TimelineEvent]:
        return [event for event in self.events if not isinstance(event, Chunk)]

    @property
    def states(self) -> list[SourceState]:
        return [event.state for event in self.events if isinstance(event, StateChange)]

    @property
    def n(self) -> int:
        return sum(len(chunk.stamps) for chunk in self.chunks)

    @property
    def index(self) -> NDArray[np.int64]:
        return np.concatenate([np.arange(chunk.first, chunk.stop) for chunk in self.chunks])

    def column(self, k: int) -> NDArray[np.float64]:
        return np.concatenate([chunk.samples[:, k] for chunk in self.chunks]).astype(float)

    @property
    def stamps(self) -> NDArray[np.float64]:
        return np.concatenate([chunk.stamps for chunk in self.chunks])


def _newest(log: _Log) -> int:
    return log.chunks[-1].stop if log.chunks else 0


def _reaches(index: int) -> Callable[[_Log], bool]:
    return lambda log: _newest(log) > index


def _log(source: LslSource) -> _Log:
    return _Log(source.timeline.reader("test"))


def test_all_samples_arrive_once_with_the_time_they_were_taken() -> None:
    with Sender(counter=True, wait=True, total=3000, chunk=7, unit="uV") as sender:
        with LslSource(sender.name) as source:
            log = _log(source)
            log.until(lambda log: log.n == 3000)
            done = sender.heard()
        assert done["pushed"] == 3000
        log.until(lambda log: log.reader.ended)
    np.testing.assert_array_equal(log.index, np.arange(3000))
    assert source.info.labels == tuple(f"E{k}" for k in range(1, 9))
    assert source.info.unit == "uV"
    accounting = source.timeline.accounting()
    assert (accounting.sent, accounting.delivered, accounting.lost) == (3000, 3000, 0)
    truth = log.column(1) / 1e-6  # s since t0, in float32
    assert np.abs(np.diff(log.stamps - truth)).max() < 1e-4
    assert log.gaps == []
    assert log.states == [SourceState.CONNECTED, SourceState.ENDED]


@pytest.mark.parametrize("resume", ["count", "clock"])
def test_a_killed_sender_is_flagged_and_found_again_with_every_sample_in_the_account(
    resume: str,
) -> None:
    with Sender(counter=True, format="double64", wait=True) as sender:
        with LslSource(sender.name) as source:
            log = _log(source)
            for trial in range(2):
                reached = _newest(log)
                log.until(_reaches(reached + 500))
                sender.kill()
                log.until(lambda log: log.states[-1] is SourceState.LOST)
                killed_at = sender.pushed
                back = sender.start(resume=resume, wait=False)
                log.until(_reaches(killed_at + 1000))
                gap = log.gaps[trial]
                assert gap.reason is GapReason.SOURCE_LOST
                assert gap.counted
                first = next(item for item in log.chunks if item.segment == trial + 1)
                assert first.first == gap.first + gap.n_lost
                assert first.arrived - back < 20.0  # 1 s is for an idle machine: benchmarks
        accounting = source.timeline.accounting()
        assert accounting.sent == accounting.delivered + accounting.lost
        assert log.states.count(SourceState.LOST) == 2
        # Each sample has the time at which it was taken, before the death and after it.
        assert np.abs(log.stamps - sender.t0 - log.column(1)).max() < 2e-3
        assert (np.diff(log.stamps) >= 0).all()
        assert (np.diff(log.index) >= 1).all()


def test_a_frozen_sender_is_flagged_and_its_backlog_costs_nothing() -> None:
    with Sender(counter=True, format="double64", wait=True) as sender:
        with LslSource(sender.name) as source:
            log = _log(source)
            log.until(_reaches(500))
            sender.freeze()
            log.until(lambda log: log.states[-1] is SourceState.STALLED)
            frozen = sender.pushed
            sender.thaw()
            log.until(lambda log: log.states[-1] is SourceState.CONNECTED)
            log.until(_reaches(frozen + 1000))
        assert log.gaps == []
        assert np.abs(log.stamps - sender.t0 - log.column(1)).max() < 1e-3
        np.testing.assert_array_equal(log.index, np.arange(log.n))


def test_a_consumer_that_was_stopped_lists_what_its_queue_dropped() -> None:
    with Sender(counter=True, format="double64", wait=True) as sender:
        with LslSource(sender.name, max_buflen_s=1) as source:
            log = _log(source)
            log.until(_reaches(500))
            # Holds the interpreter, as a badly written extension would: no thread of ours runs.
            ctypes.PyDLL(None).usleep(2_500_000)
            log.until(lambda log: len(log.gaps) > 0)
            gap = log.gaps[0]
            log.until(_reaches(gap.first + gap.n_lost + 1500))
        assert gap.reason is GapReason.OVERFLOW
        assert gap.n_lost > 1000
        assert abs(gap.t_start - sender.t0 - gap.first / 1000) < 1.5e-3
        assert abs(gap.t_stop - sender.t0 - (gap.first + gap.n_lost) / 1000) < 1.5e-3
        accounting = source.timeline.accounting()
        assert accounting.sent == accounting.delivered + accounting.lost
        np.testing.assert_allclose(log.index, log.column(1) * 1000, atol=1e-3)
        assert np.abs(log.stamps - sender.t0 - log.column(1)).max() < 2e-3


def test_a_stage_that_fails_costs_no_sample() -> None:
    with Sender(counter=True, wait=True, total=1500) as sender, LslSource(sender.name) as source:
        log = _log(source)
        stage = source.timeline.reader("stage")
        seen = 0
        failed = False

        def work() -> None:
            nonlocal seen, failed
            while seen < 1500:
                stage.wait(1.0)
                chunks = [event for event in stage.read() if isinstance(event, Chunk)]
                if seen > 300 and not failed:
                    failed = True
                    raise ZeroDivisionError
                seen += sum(len(chunk.stamps) for chunk in chunks)

        def run() -> None:
            while seen < 1500:
                try:
                    work()
                except ZeroDivisionError:
                    stage.rewind()

        thread = threading.Thread(target=run)
        thread.start()
        log.until(lambda log: log.n == 1500)
        thread.join(60.0)
        assert failed
        assert seen == 1500


def test_losses_and_repeats_that_the_sender_makes_are_listed() -> None:
    options = {"skip": "500:517,900:1000", "twice": "1200:1230"}
    with (
        Sender(counter=True, wait=True, total=2000, **options) as sender,
        LslSource(sender.name) as source,
    ):
        log = _log(source)
        log.until(lambda log: _newest(log) == 2000)
    lost = [(gap.first, gap.n_lost, gap.reason) for gap in log.gaps if gap.n_lost]
    assert lost == [(500, 17, GapReason.DROPPED), (900, 100, GapReason.DROPPED)]
    accounting = source.timeline.accounting()
    assert (accounting.sent, accounting.delivered, accounting.duplicates) == (2000, 1883, 30)
    assert all(gap.raised - gap.t_stop < 10.0 for gap in log.gaps)


def test_losses_without_a_counter_are_told_from_the_stamps() -> None:
    with (
        Sender(wait=True, total=4000, skip="2000:2300") as sender,
        LslSource(sender.name) as source,
    ):
        log = _log(source)
        log.until(lambda log: log.n == 3700)
    (gap,) = log.gaps
    assert (gap.first, gap.n_lost, gap.counted) == (2000, 300, False)
    assert source.timeline.accounting().sent is None


def test_integers_with_a_small_counter_are_scaled_and_counted() -> None:
    options = {"format": "int16", "unit": "µV", "modulo": 512, "sfreq": 2000, "chunk": 40}
    with (
        Sender(counter=True, wait=True, total=3000, **options) as sender,
        LslSource(sender.name) as source,
    ):
        log = _log(source)
        log.until(lambda log: log.n == 3000)
    assert source.info.counter_modulo == 512
    assert source.info.scale == 1e-6
    np.testing.assert_array_equal(log.index, np.arange(3000))
    values = log.column(3) * 1e6
    assert np.abs(values - np.round(values)).max() < 1e-4
    assert 0 < np.abs(values).max() < 100


def test_volumes_of_65000_voxels_pass_with_their_description() -> None:
    options = {
        "type": "BOLD",
        "channels": 65_000,
        "sfreq": 5.0,  # faster than a scanner, to keep the test short
        "chunk": 1,
        "bold_shape": "50x50x26",
        "unit": "a.u.",
    }
    with Sender(wait=True, total=6, **options) as sender, LslSource(sender.name) as source:
        log = _log(source)
        log.until(lambda log: log.n == 6)
    bold = source.info.bold
    assert bold is not None
    assert (bold.shape, bold.tr_s) == ((50, 50, 26), 0.2)
    assert bold.affine.shape == (4, 4)
    assert log.gaps == []
    np.testing.assert_allclose(np.diff(log.stamps), 0.2, atol=1e-3)
    assert log.chunks[0].samples.shape[1] == 65_000


def test_a_missing_stream_is_refused_with_what_was_found() -> None:
    with Sender(name="rig cap", counter=True) as sender:
        wanted = unique("missing")
        with pytest.raises(SourceError, match=f"No LSL stream named '{wanted}' after 0.2 s") as hit:
            LslSource(wanted, timeout_s=0.2).start()
        assert "'rig cap' (EEG, 9 channels)" in str(hit.value)
        names = {(item.name, item.source_id, item.n_channels) for item in find_streams()}
        assert ("rig cap", sender.source_id, 8) in names


def test_names_with_both_kinds_of_quotes_are_found() -> None:
    name = unique("""it's "that" one""")
    with Sender(name=name, counter=True, wait=True) as sender:
        with LslSource(StreamQuery(name=name, source_id=sender.source_id)) as source:
            log = _log(source)
            log.until(lambda log: log.n > 10)


def test_we_and_a_program_with_the_default_configuration_find_each_other() -> None:
    # Both sides in processes of their own: liblsl reads its configuration once.
    ours = f"""
import pylsl
from stream.lsl import configure
from stream.lsl_source import LslSource
configure()
outlet = pylsl.StreamOutlet(pylsl.StreamInfo("a", "EEG", 1, 100, "float32", "{uuid.uuid4()}-ours"))
with LslSource("NAME", timeout_s=30) as source:
    reader = source.timeline.reader("x")
    reader.wait(30)
found = pylsl.resolve_bypred("name='a'", 1, 5)
print(source.info.name, len(found))
input()
"""
    theirs = """
import pylsl, sys
found = pylsl.resolve_bypred("name='a'", 1, 30)
print([info.name() for info in found])
"""
    with Sender(default_config=True, counter=True) as sender:
        environment = {"PATH": "", "PYTHONPATH": str(_ROOT)}
        us = subprocess.Popen(
            [sys.executable, "-c", ours.replace("NAME", sender.name)],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        them = subprocess.run(
            [sys.executable, "-c", theirs],
            env=environment,
            text=True,
            capture_output=True,
            timeout=90,
        )
        said, _ = us.communicate("\n", timeout=90)
    assert said.split() == [sender.name, "1"]
    assert them.stdout.strip() == "['a']"


def test_markers_come_with_their_times_and_survive_the_death_of_their_sender() -> None:
    script = """
import pylsl, sys
from stream.lsl import configure
configure()
outlet = pylsl.StreamOutlet(pylsl.StreamInfo(sys.argv[1], "Markers", 1, 0, "string", sys.argv[2]))
print("ready", flush=True)
outlet.wait_for_consumers(60)
for line in sys.stdin:
    stamp, text = line.rstrip("\\n").split(" ", 1)
    outlet.push_sample([text], float(stamp))
"""
    name, source_id = unique("markers"), str(uuid.uuid4())

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, name, source_id],
            cwd=_ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def tell(process: subprocess.Popen[str], text: str, stamp: float) -> None:
        assert process.stdin is not None
        process.stdin.write(f"{stamp!r} {text}\n")
        process.stdin.flush()

    process = start()
    got: list[SentText] = []
    states: list[SourceState] = []
    with TextSource(StreamQuery(name=name)) as source:

        def until(condition: Callable[[], bool]) -> None:
            def holds() -> bool:
                for item in source.timeline.read():
                    got.append(item) if isinstance(item, SentText) else states.append(item.state)
                return condition()

            assert wait_until(holds, 60), (got, states)

        tell(process, "ärger beginnt", 1234.5)
        tell(process, "stimulus 7", 1235.25)
        until(lambda: len(got) == 2)
        process.kill()
        process.communicate()
        until(lambda: states == [SourceState.LOST])
        process = start()
        until(lambda: states == [SourceState.LOST, SourceState.CONNECTED])
        tell(process, "again", 1300.0)
        until(lambda: len(got) == 3)
    process.kill()
    process.communicate()
    assert source.info.name == name
    assert source.error is None
    assert [(item.texts, item.raw_stamp) for item in got] == [
        (("ärger beginnt",), 1234.5),
        (("stimulus 7",), 1235.25),
        (("again",), 1300.0),
    ]
    assert source.timeline.newest_stamp == pytest.approx(1300.0, abs=0.1)  # one machine, one clock
    assert source.timeline.accounting().delivered == 3
