"""A changed condition with nothing else going on: five stamps, one stretch after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.stretch import FRAME_S, GeneratorInput, GeneratorState
from stream.bench.spread import Spread, spread_ms
from stream.bench.subject import Subject
from stream.messages import FeatureWindow, Sound
from stream.playback import Player

__all__ = ["ComputeTimes", "stretch_sound", "time_changes", "time_stretches", "warm_up"]

Progress = Callable[[str, float, float], None]

_BLOCK = 80  # samples, 5 ms
_FADE_S = 0.005


@dataclass(slots=True)
class ComputeTimes:
    """Seconds from the moment at which a condition came in, one entry for each change."""

    started: list[float] = field(default_factory=list)  # its stretch began to be computed
    latent: list[float] = field(default_factory=list)  # its latents were there; empty: not taken
    waveform: list[float] = field(default_factory=list)  # its sound was there
    sink: list[float] = field(default_factory=list)  # its first sample was in a block for the sink
    stretch: list[float] = field(default_factory=list)  # what the stretch itself took
    processor: list[float] = field(default_factory=list)  # of it, what the processor worked

    def stamps(self) -> dict[str, Spread]:
        """Return the percentiles of each stamp."""
        found = {
            "stretch_start": self.started,
            "latent": self.latent,
            "waveform": self.waveform,
            "first_sample": self.sink,
        }
        return {name: spread_ms(values) for name, values in found.items() if values}


def warm_up(
    subject: Subject, conditions: Sequence[GeneratorInput], *, n_frames: int, seconds: float
) -> None:
    """Make stretches for so long: first calls allocate, and clocks rise."""
    rng = np.random.default_rng(0)
    state = subject.generator.initial_state()
    until = time.perf_counter() + seconds
    count = 0
    while count < 5 or time.perf_counter() < until:
        _, state, _ = _stretch(subject, conditions[count % len(conditions)], state, n_frames, rng)
        count += 1


def time_changes(
    subject: Subject,
    conditions: Sequence[GeneratorInput],
    *,
    n_frames: int,
    n: int,
    rng: np.random.Generator,
    latents: bool = True,
    progress: Progress | None = None,
) -> ComputeTimes:
    """Change the condition, make a stretch at once, hand it to a player, and again.

    Parameters
    ----------
    subject : Subject
    conditions : sequence of GeneratorInput
        Each differs from the next.
    n_frames : int
    n : int
        Changes.
    rng : numpy.random.Generator
        Of the noise.
    latents : bool
        Take that stamp too; it costs a second run after each stretch.
    progress : callable, optional
    """
    clock = time.perf_counter
    player = _player(subject.spec.sample_rate_hz)
    state = subject.generator.initial_state()
    path = subject.latent_path(n_frames) if latents else None
    times = ComputeTimes()
    shape = subject.generator.noise_shape(n_frames)
    for change in range(n):
        given = conditions[change % len(conditions)]
        came = clock()
        noise = rng.standard_normal(shape, dtype=np.float32)
        start, worked = clock(), time.process_time()
        sound, after = subject.generator.stretch(given, state, noise, n_frames=n_frames)
        made, worked = clock(), time.process_time() - worked
        player.queue(stretch_sound(sound, subject.spec.sample_rate_hz, seq=change))
        _play_to(player, change)
        handed = clock()
        times.started.append(start - came)
        times.waveform.append(made - came)
        times.sink.append(handed - came)
        times.stretch.append(made - start)
        times.processor.append(worked)
        if path is not None:
            begin = clock()
            path.run(given, state, noise, n_frames=n_frames)
            # The second run cannot take longer than the whole of the first but by disturbance.
            took = min(clock() - begin, made - start)
            times.latent.append(start - came + took)
        state = after
        while player.can_render(_BLOCK):
            player.render_block(_BLOCK, 0.0)
        player.drain_played()
        if progress is not None and change % 20 == 0:
            progress("changing the condition", change, n)
    return times


def time_stretches(
    subject: Subject,
    conditions: Sequence[GeneratorInput],
    *,
    n_frames: int,
    n: int,
    rng: np.random.Generator,
) -> list[float]:
    """Return what each of `n` stretches took, s, one straight after the other."""
    state = subject.generator.initial_state()
    times = []
    for count in range(n):
        given = conditions[count % len(conditions)]
        _, state, took = _stretch(subject, given, state, n_frames, rng)
        times.append(took)
    return times


def stretch_sound(pcm: NDArray[np.float32], sample_rate_hz: int, *, seq: int) -> Sound:
    """Return a stretch as the player takes it, numbered."""
    window = FeatureWindow(np.zeros(0, np.float32), seq, 0, 0, 0.0, 0.0)
    return Sound(pcm[:, np.newaxis], sample_rate_hz, window, 0.0, len(pcm) / sample_rate_hz)


def _stretch(
    subject: Subject,
    given: GeneratorInput,
    state: GeneratorState,
    n_frames: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], GeneratorState, float]:
    noise = rng.standard_normal(subject.generator.noise_shape(n_frames), dtype=np.float32)
    start = time.perf_counter()
    sound, after = subject.generator.stretch(given, state, noise, n_frames=n_frames)
    return sound, after, time.perf_counter() - start


def _player(sample_rate_hz: int) -> Player:
    return Player(sample_rate_hz=sample_rate_hz, lead_s=0.0, fade_s=_FADE_S, max_queue_s=60.0)


def _play_to(player: Player, seq: int) -> None:
    """Let the sink have blocks until the first sample of a sound is in one of them."""
    for _ in range(round(2 * FRAME_S * player.sample_rate_hz / _BLOCK)):
        player.render_block(_BLOCK, 0.0)
        if any(played.seq == seq for played in player.drain_played()):
            return
