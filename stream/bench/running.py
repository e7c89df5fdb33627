"""A changed condition in a running stream: it waits for a stretch to end, and for what is queued.

A sink asks for blocks at the pace of a device. A stretch is made when no more than the ring (a
tenth of a second) of sound still waits, with the newest condition there is then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import SettingError
from models.stretch import FRAME_S, GeneratorInput
from stream.bench.compute import stretch_sound
from stream.bench.subject import Subject
from stream.messages import Played
from stream.playback import Player
from stream.sinks import NullSink

__all__ = ["RING_S", "RunningTimes", "run_stream"]

Progress = Callable[[str, float, float], None]

# As much as a change within 250 ms (p95) leaves room for: what waits is what a stall may last.
RING_S = 0.1
_BLOCK_S = 0.005
_FADE_S = 0.005
_LEAST_RING_S = 0.02


@dataclass(frozen=True, slots=True)
class RunningTimes:
    """Seconds from the moment at which a condition came in, one entry for each change heard."""

    started: tuple[float, ...]  # its stretch began to be computed
    waveform: tuple[float, ...]
    sink: tuple[float, ...]  # the block with its first sample was handed over
    changed: tuple[float, ...]  # the block with the first sample that differs was
    stretch: tuple[float, ...]  # what each stretch took
    superseded: int  # changes that a later one replaced before a stretch began
    underruns: int
    stalls: int  # of the sink's thread
    seconds: float  # of the run


@dataclass(slots=True)
class _Asked:
    """The condition that holds now."""

    number: int
    given: GeneratorInput
    came: float


class _Changer(threading.Thread):
    """Changes the condition at random moments until it is stopped or has done so often enough."""

    def __init__(
        self,
        conditions: Sequence[GeneratorInput],
        pauses: Callable[[], float],
        n: int | None,
    ) -> None:
        super().__init__(name="conditions", daemon=True)
        self.asked = _Asked(0, conditions[0], time.perf_counter())
        self.done = threading.Event()
        self._conditions, self._pauses, self._n = conditions, pauses, n
        self._stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while (self._n is None or number < self._n) and not self._stopping.wait(self._pauses()):
            number += 1
            given = self._conditions[number % len(self._conditions)]
            self.asked = _Asked(number, given, time.perf_counter())
        self.done.set()

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def run_stream(
    subject: Subject,
    conditions: Sequence[GeneratorInput],
    *,
    n_frames: int,
    n: int | None,
    seconds: float | None,
    rng: np.random.Generator,
    ring_s: float = RING_S,
    changed_after_s: float = 0.0,
    progress: Progress | None = None,
) -> RunningTimes:
    """Run a stream in real time while its condition changes at random moments.

    Parameters
    ----------
    subject : Subject
    conditions : sequence of GeneratorInput
        At least 2.
    n_frames : int
        Of a stretch.
    n : int or None
        Changes after which it ends; None: when `seconds` are over.
    seconds : float or None
        Length of the run; None: until `n` changes are done.
    rng : numpy.random.Generator
        Of the noise and of the moments: from one to two stretches apart, evenly.
    ring_s : float
        Sound that still waits when the next stretch is begun, s.
    changed_after_s : float
        By how much later than the first sample of its stretch a new condition shows.
    progress : callable, optional

    Raises
    ------
    SettingError
        If neither `n` nor `seconds` is given, or the ring is too short for a sink's block.
    """
    if n is None and seconds is None:
        raise SettingError("A stream runs for so many changes or so many seconds; give one.")
    if ring_s < _LEAST_RING_S:
        raise SettingError(
            f"The ring must hold at least {_LEAST_RING_S} s, some blocks of the sink, got {ring_s}."
        )
    clock, spec = time.perf_counter, subject.spec
    stretch_s = n_frames * FRAME_S
    moments = np.random.default_rng(int(rng.integers(2**63)))
    changer = _Changer(
        conditions, lambda: float(moments.uniform(stretch_s, 2.0 * stretch_s) + 0.02), n
    )
    player = Player(
        sample_rate_hz=spec.sample_rate_hz,
        lead_s=ring_s,
        fade_s=_FADE_S,
        max_queue_s=max(2.0, 4.0 * stretch_s + ring_s),
    )
    handed: list[float] = []  # when each block was
    player.add_tap(lambda block: handed.append(clock()))
    sink = NullSink(player, block_s=_BLOCK_S, clock=clock)
    heard: list[Played] = []
    begun: list[tuple[int, float, float, float]] = []  # change, when it came, start, waveform
    state = subject.generator.initial_state()
    shape = subject.generator.noise_shape(n_frames)
    noise = rng.standard_normal(shape, dtype=np.float32)
    start_of_run = clock()
    player.queue(
        stretch_sound(
            np.zeros(n_frames * spec.samples_per_frame, np.float32), spec.sample_rate_hz, seq=0
        )
    )
    with sink:
        changer.start()
        while True:
            now = clock() - start_of_run
            if (seconds is not None and now >= seconds) or (
                n is not None and changer.done.is_set()
            ):
                break
            spare = player.waiting_s - ring_s
            if spare > 0.0:
                time.sleep(min(spare, 0.05))
                continue
            asked = changer.asked
            start = clock()
            sound, state = subject.generator.stretch(asked.given, state, noise, n_frames=n_frames)
            made = clock()
            begun.append((asked.number, asked.came, start, made))
            player.queue(stretch_sound(sound, spec.sample_rate_hz, seq=len(begun)))
            heard += player.drain_played()
            # Drawn while sound is playing, so that no change waits for it.
            noise = rng.standard_normal(shape, dtype=np.float32)
            if progress is not None:
                done = asked.number / n if n else now / seconds if seconds else 0.0
                progress("running a stream", done, 1.0)
        seconds_run = clock() - start_of_run
        underruns, stalls = player.statistics().underruns, sink.statistics().stalls
        player.finish()
        while not player.idle:
            time.sleep(_BLOCK_S)
        changer.stop()
    heard += player.drain_played()
    return _collected(
        begun,
        _handed_at(heard, handed, sink_block=round(_BLOCK_S * spec.sample_rate_hz)),
        changed_after=round(changed_after_s * spec.sample_rate_hz),
        length=n_frames * spec.samples_per_frame,
        counts=(underruns, stalls, seconds_run),
    )


def _handed_at(
    heard: Sequence[Played], handed: Sequence[float], *, sink_block: int
) -> Callable[[int, int], float]:
    """Return a function of stretch and sample within it: when its block was handed over, or NaN."""
    pieces: dict[int, list[tuple[int, int, int]]] = {}  # stretch: (offset, n, sample rendered)
    rendered = 0
    for piece in heard:
        pieces.setdefault(piece.seq, []).append((piece.offset, piece.n_samples, rendered))
        rendered += piece.n_samples

    def at(stretch: int, sample: int) -> float:
        for offset, n, first in pieces.get(stretch, ()):
            if offset <= sample < offset + n:
                block = (first + sample - offset) // sink_block
                return handed[block] if block < len(handed) else float("nan")
        return float("nan")

    return at


def _collected(
    begun: Sequence[tuple[int, float, float, float]],
    handed_at: Callable[[int, int], float],
    *,
    changed_after: int,
    length: int,
    counts: tuple[int, int, float],
) -> RunningTimes:
    started, waveform, sink, changed = [], [], [], []
    last = superseded = 0
    later, sample = divmod(changed_after, length)  # a change may show in a later stretch only
    for stretch, (number, came, start, made) in enumerate(begun, start=1):
        if number == last:
            continue
        superseded += number - last - 1
        last = number
        first = handed_at(stretch, 0)
        if not np.isfinite(first):
            continue  # the run ended before it was heard
        started.append(start - came)
        waveform.append(made - came)
        sink.append(first - came)
        differs = handed_at(stretch + later, sample)
        if np.isfinite(differs):
            changed.append(differs - came)
    underruns, stalls, seconds = counts
    took = tuple(made - start for _, _, start, made in begun)
    return RunningTimes(
        tuple(started),
        tuple(waveform),
        tuple(sink),
        tuple(changed),
        took,
        superseded,
        underruns,
        stalls,
        seconds,
    )
