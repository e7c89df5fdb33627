from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from models.errors import FileError, SettingError
from stream.messages import Played
from stream.playback import Player
from stream.sinks import NullSink, OfflineSink, PacedSink, Sink, WavSink, open_sink
from tests.stream.sounds import sound, tone

RATE = 16_000
LSB = 2**-23


class FakeTime:
    """A clock that only moves when somebody waits, or when told to; stops a sink at `until`."""

    def __init__(self, until: float) -> None:
        self.now = 100.0
        self._until = 100.0 + until
        self.stalls: dict[int, float] = {}  # after so many waits, stand still for so long
        self.waits = 0

    def clock(self) -> float:
        return self.now

    def wait(self, duration: float) -> bool:
        self.now += duration + self.stalls.get(self.waits, 0.0)
        self.waits += 1
        return self.now >= self._until


def run(sink: PacedSink) -> None:
    """Run the sink's own loop to its end, on a fake clock, in this thread."""
    sink._keep_pace()


def player(**changes: float) -> Player:
    return Player(sample_rate_hz=RATE, **({"lead_s": 0.0, "max_queue_s": 60.0} | changes))  # type: ignore[arg-type]


def test_a_paced_sink_asks_for_as_many_samples_as_time_passed() -> None:
    fake, p = FakeTime(10.0), player()
    run(NullSink(p, clock=fake.clock, wait=fake.wait))
    n = round(p.statistics().seconds_rendered * RATE)
    assert abs(n - 10 * RATE) <= 160


@pytest.mark.parametrize("block_s", [0.001, 0.0213, 1.0])
def test_blocks_are_due_on_an_absolute_schedule(block_s: float) -> None:
    fake, p = FakeTime(5.0), player()
    run(NullSink(p, block_s=block_s, clock=fake.clock, wait=fake.wait))
    block = round(block_s * RATE)
    pieces = p.drain_played()
    expected = 100.0 + (1 + np.arange(len(pieces))) * block / RATE
    assert np.allclose([piece.t_heard for piece in pieces], expected, atol=1e-9)


def test_a_short_delay_is_made_up() -> None:
    fake, p = FakeTime(10.0), player()
    fake.stalls = {100: 0.09, 300: 0.05}
    sink = NullSink(p, clock=fake.clock, wait=fake.wait)
    run(sink)
    assert sink.statistics().stalls == 0
    assert abs(round(p.statistics().seconds_rendered * RATE) - 10 * RATE) <= 160
    # And heard when it was due, not when it was asked for.
    assert np.allclose(np.diff([piece.t_heard for piece in p.drain_played()]), 0.01)


def test_a_long_stop_does_not_burst() -> None:
    fake, p = FakeTime(10.0), player()
    fake.stalls = {100: 5.0}
    p.queue(sound(tone(RATE * 12)))
    sink = NullSink(p, clock=fake.clock, wait=fake.wait)
    run(sink)
    statistics = sink.statistics()
    assert statistics.stalls == 1
    assert statistics.missed_s == pytest.approx(5.0, abs=0.011)
    assert abs(round(p.statistics().seconds_rendered * RATE) - 5 * RATE) <= 320
    # What was queued is played on where it was left, not skipped, and the log tells when.
    heard = [piece for piece in p.drain_played() if piece.seq >= 0]
    offsets = np.cumsum([0] + [piece.n_samples for piece in heard])[:-1]
    assert [piece.offset for piece in heard] == offsets.tolist()
    gaps = np.diff([piece.t_heard for piece in heard])
    assert gaps.max() == pytest.approx(5.01, abs=0.011)
    assert np.sum(gaps > 0.02) == 1


def test_a_wav_sink_writes_what_was_played(tmp_path: Path) -> None:
    fake, p = FakeTime(2.0), player()
    signal_in = tone(RATE)
    p.queue(sound(signal_in))
    p.finish()
    path = tmp_path / "a" / "out.wav"
    sink = WavSink(p, path, clock=fake.clock, wait=fake.wait)
    run(sink)
    sink.stop()
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_24")
    written, _ = soundfile.read(path, dtype="float64")
    assert len(written) == round(p.statistics().seconds_rendered * RATE)
    assert np.abs(written[160 : RATE - 160] - signal_in[160:-160]).max() <= LSB * 1.5


def test_time_that_was_lost_is_silence_in_the_file(tmp_path: Path) -> None:
    fake, p = FakeTime(3.0), player()
    fake.stalls = {50: 1.0}
    p.queue(sound(np.full(5 * RATE, 0.1)))
    sink = WavSink(p, tmp_path / "out.wav", clock=fake.clock, wait=fake.wait)
    run(sink)
    sink.stop()
    written, _ = soundfile.read(tmp_path / "out.wav")
    assert abs(len(written) - 3 * RATE) <= 320
    silent = np.flatnonzero(written == 0.0)
    silent = silent[silent > 1000]
    assert len(silent) == pytest.approx(RATE, abs=320)


def test_a_file_never_passes_the_ceiling(tmp_path: Path) -> None:
    p = player()
    sink = OfflineSink(p, tmp_path / "out.wav")
    p.queue(sound(np.random.default_rng(0).standard_normal(RATE) * 5))
    sink.finish()
    written, _ = soundfile.read(tmp_path / "out.wav", dtype="float64")
    assert 0.24 < np.abs(written).max() <= 10 ** (-12 / 20)


@pytest.mark.parametrize("n_sounds", [0, 1, 7])
def test_the_offline_sink_plays_every_sample_and_never_underruns(
    tmp_path: Path, n_sounds: int
) -> None:
    p = player(max_queue_s=0.5)
    path = tmp_path / "out.wav"
    whole = tone(n_sounds * 1601)
    with OfflineSink(p, path, t_start=7.0) as sink:
        for seq in range(n_sounds):
            p.queue(sound(whole[seq * 1601 : (seq + 1) * 1601], seq))
            sink.pump()
    written, _ = soundfile.read(path, dtype="float32")
    assert p.statistics().underruns == 0
    assert p.statistics().seconds_played == n_sounds * 1601 / RATE
    if n_sounds > 0:
        assert np.abs(written[160 : len(whole) - 160] - whole[160:-160]).max() <= LSB * 1.5
        first: Played = p.drain_played()[0]
        assert (first.t_heard, first.seq) == (7.0, 0)


def test_open_sink_knows_its_kinds(tmp_path: Path) -> None:
    p = player()
    null = open_sink("null", p)
    wav = open_sink(str(tmp_path / "x.WAV"), p)
    assert isinstance(null, NullSink)
    assert isinstance(wav, WavSink)
    wav.stop()
    assert isinstance(OfflineSink(p), Sink)
    with pytest.raises(SettingError, match=r"'device', 'device:NAME', 'null' or a file"):
        open_sink("out.mp3", p)
    with pytest.raises(SettingError, match="block_s"):
        open_sink("null", p, block_s=0.0)


def test_a_file_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        open_sink(str(tmp_path / "file" / "out.wav"), player())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_full_from_the_start_is_told_at_once() -> None:
    with pytest.raises(FileError, match="the disk is full"):
        OfflineSink(player(), Path("/dev/full"))


def test_offline_a_full_disk_is_an_error(tmp_path: Path) -> None:
    p = player()
    sink = OfflineSink(p, tmp_path / "out.wav")
    p.queue(sound(tone(RATE)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, hard))
    try:
        with pytest.raises(FileError, match=r"stopped after 0\.5 s"):
            sink.pump()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sink.stop()
    assert soundfile.info(tmp_path / "out.wav").frames * 3 <= 24_000


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"x" * 100_000)
    sink = OfflineSink(player(), path)
    sink.finish()
    assert soundfile.info(path).frames == 0


def test_a_sink_keeps_pace_with_the_real_clock_and_stops(tmp_path: Path) -> None:
    p = player()
    sink = open_sink(str(tmp_path / "out.wav"), p)
    with sink:
        p.queue(sound(tone(3200)))
        p.finish()
        deadline = time.monotonic() + 30
        while not p.idle and time.monotonic() < deadline:
            time.sleep(0.01)
    assert p.idle
    statistics = sink.statistics()
    assert statistics.failure == ""
    sink.stop()  # harmless
    assert soundfile.info(tmp_path / "out.wav").frames == round(
        (p.statistics().seconds_rendered + statistics.missed_s) * RATE
    )


CHILD = """
import resource, sys, time
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
import numpy as np
from pathlib import Path
from stream.playback import Player
from stream.sinks import open_sink
from tests.stream.sounds import sound
p = Player(sample_rate_hz=16000, lead_s=0.0, max_queue_s=1000.0)
p.queue(sound(np.full(16000 * 600, 0.125)))
sink = open_sink(sys.argv[1], p)
sink.start()
while True:
    time.sleep(0.01)
    print(sink.statistics().failure or p.statistics().seconds_rendered, flush=True)
"""


def child(path: Path, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )


def test_a_killed_process_leaves_a_readable_file_short_of_at_most_100_ms(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    with child(path) as process:
        assert process.stdout is not None
        rendered = 0.0
        while rendered < 0.5:
            rendered = float(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    written, rate = soundfile.read(path)
    assert len(written) / rate >= rendered - 0.1
    assert np.abs(written[200:] - 0.125).max() < 2 * LSB


def test_a_full_disk_is_flagged_and_the_sound_goes_on(tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: 24,000 bytes are half a second."""
    path = tmp_path / "out.wav"
    with child(path, "24000") as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        while "out.wav" not in line:
            line = process.stdout.readline().strip()
        assert "largest size that is allowed" in line
        assert process.poll() is None  # still playing
        process.kill()
    written, rate = soundfile.read(path)
    assert len(written) * 3 <= 24_000
    assert len(written) / rate > 0.4
    assert np.abs(written[200:] - 0.125).max() < 2 * LSB


def test_statistics_are_plain_values(tmp_path: Path) -> None:
    from dataclasses import asdict

    p = player()
    assert json.dumps(asdict(p.statistics()), allow_nan=False)
    assert json.dumps(asdict(NullSink(p).statistics()), allow_nan=False)


def test_a_player_that_fails_ends_the_sink_and_not_the_process() -> None:
    class Broken(Player):
        def render_block(self, n: int, t_heard: float) -> NDArray[np.float32]:
            raise RuntimeError("broken")

    sink = NullSink(Broken(sample_rate_hz=RATE))
    sink._run()
    assert "broken" in sink.statistics().failure
