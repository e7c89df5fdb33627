"""Semantic and coarse-to-fine chains: a generator's stretches as one continuous signal.

A stretch is made only when the sound of a window needs it, and the shortest ones that do are
chosen. So less than the shortest stretch is left over for the next window, and that is how late a
changed condition is heard: 80 ms at most where the shortest stretch has two frames.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.stretch import (
    CONDITION_DIM,
    TOKEN_DIM,
    TOKEN_FRAMES,
    TOKENS_PER_STEP,
    Generator,
    GeneratorInput,
    cover,
)
from stream.messages import Condition
from stream.quantiles import Quantiles
from stream.sound_queue import fade_table

__all__ = ["GeneratorRenderer", "StartLatents"]

_log = logging.getLogger(__name__)

_REMEMBERED = 16  # times of stretches
_MOST_OVER_MEDIAN = 4.0


class StartLatents(Protocol):
    """Sounds to begin from, by number: `export.library_latents.LibraryLatents` is one."""

    def __len__(self) -> int: ...

    def read(self, item: int, position: int, n_frames: int) -> NDArray[np.float32]:
        """Return `n_frames` latent frames from `position` on, of a sound that repeats for ever."""
        ...


class GeneratorRenderer:
    """Makes the sound of each window with a generator.

    The noise of a stretch depends on the seed, the number of its window and its place among the
    stretches of that window, on nothing else: the same windows give the same sound, live or from a
    file, whatever came before. Going on with a window (to hold it) goes on in its tokens; where
    they end, their last step goes on.

    Where the generator begins from sounds of a library, the sound that was found runs beside the
    stream, looped; one that comes back goes on where it was left.

    Parameters
    ----------
    generator : Generator
    seed : int
        Of the noise.
    start : StartLatents, optional
        Sounds of the library; without it everything comes from noise.
    strength : float
        How much of the sound that was found is made anew: 1 all of it, 0 nothing.
    fade_s : float
        Of the fades at a reset; so much sound is always kept back.
    clock : callable
        Measures what a stretch takes, s.

    Raises
    ------
    SettingError
        If the generator cannot begin from a sound, or the strength is not from 0 to 1.
    """

    n_channels = 1

    def __init__(
        self,
        generator: Generator,
        *,
        seed: int = 0,
        start: StartLatents | None = None,
        strength: float = 1.0,
        fade_s: float = 0.005,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        spec = generator.spec
        if not 0.0 <= strength <= 1.0:
            raise SettingError(f"The strength of a start is 0 to 1, got {strength}.")
        if start is not None and not spec.startable:
            raise SettingError(
                f"The {spec.family} generator cannot begin from a sound. Leave the library out of "
                "the bundle, or choose another generator."
            )
        self.sample_rate_hz = spec.sample_rate_hz
        self.n_invalid = 0  # stretches that were not finite
        self.stretch_ms = Quantiles()  # what each took
        self._generator, self._spec = generator, spec
        self._seed = seed
        self._start = start if strength < 1.0 else None
        self._strength = strength
        self._clock = clock
        self._costs: deque[float] = deque(maxlen=_REMEMBERED)
        self._rise = fade_table(max(1, round(fade_s * spec.sample_rate_hz)))[1:]
        self._fade = len(self._rise)
        self.delay_s = (spec.delay_samples + self._fade) / spec.sample_rate_hz
        self._state = generator.initial_state()
        self._carried = np.zeros(self._fade, np.float32)  # at least one fade long
        self._risen = 0  # how far the fade-in after a reset has come, samples
        self._seq: int | None = None  # the window that is rendered
        self._rendered = 0  # samples of its sound that were given so far
        self._stretches = 0  # that were made for it
        self._left_at: dict[int, int] = {}  # sound of the library -> frame

    @property
    def cost_s(self) -> float:
        """What a stretch took lately, s; 0 before any.

        The second longest time of the last 16, but no more than four times their median: what is
        held ready for the slow ones must not make all others late.
        """
        if not self._costs:
            return 0.0
        second = sorted(self._costs)[-2:][0]
        return min(second, _MOST_OVER_MEDIAN * statistics.median(self._costs))

    def piece(self, n_samples: int) -> int:
        """Return how many of the next `n_samples` there are after one more stretch, at least 1.

        Rendering in such pieces gives the same sound as rendering at once.
        """
        lengths = self._lengths(n_samples)
        if len(lengths) < 2:
            return n_samples
        return len(self._carried) - self._fade + lengths[0] * self._spec.samples_per_frame

    def render(self, condition: Condition, n_samples: int) -> NDArray[np.float32]:
        """Return the next `n_samples` of sound: shape (n_samples,), float32.

        Raises
        ------
        SettingError
            If the condition is not one that the generator takes, or the library has no such sound.
        """
        if condition.window.seq != self._seq:
            self._seq, self._rendered, self._stretches = condition.window.seq, 0, 0
        for n_frames in self._lengths(n_samples):
            self._carried = np.concatenate([self._carried, self._stretch(condition, n_frames)])
        out, self._carried = self._carried[:n_samples], self._carried[n_samples:]
        self._rendered += n_samples
        return out

    def reset(self) -> None:
        """Begin anew: what is kept back of the old sound fades out, then the new one fades in."""
        if not self._risen:
            return
        self._carried = self._carried[: self._fade] * self._rise[::-1]
        self._begin()

    def warm_up(self, *, n_runs: int = 2) -> None:
        """Make a stretch of every length, for nobody: the first of each are slow.

        Raises
        ------
        BundleError, DeviceError
            If the generator fails.
        """
        vector = np.zeros(CONDITION_DIM, np.float32)
        vector[0] = 1.0
        # One step, or what the speech model reads at once.
        many = self._spec.family == "audioldm2-speech"
        tokens = np.zeros((512 if many else TOKENS_PER_STEP, TOKEN_DIM), np.float32)
        for n_frames in self._spec.stretches:
            noise = np.zeros(self._generator.noise_shape(n_frames), np.float32)
            for _ in range(n_runs):
                began = self._clock()
                given = self._given(vector, tokens, -1, n_frames)
                self._generator.stretch(
                    given, self._generator.initial_state(), noise, n_frames=n_frames
                )
                took = self._clock() - began
            self._costs.append(took)

    # -- one stretch -----------------------------------------------------------------------------

    def _lengths(self, n_samples: int) -> tuple[int, ...]:
        """Return the stretches that must be made for so many samples, shortest first."""
        missing = n_samples + self._fade - len(self._carried)
        n_frames = math.ceil(missing / self._spec.samples_per_frame)
        return cover(n_frames, self._spec.stretches)[::-1]

    def _stretch(self, condition: Condition, n_frames: int) -> NDArray[np.float32]:
        """Return the next stretch; silence if it was not finite."""
        generator = self._generator
        began = self._clock()
        noise = self._noise(generator.noise_shape(n_frames))
        given = self._given(condition.values, condition.tokens, condition.item, n_frames)
        pcm, self._state = generator.stretch(given, self._state, noise, n_frames=n_frames)
        self._stretches += 1
        took = self._clock() - began
        self._costs.append(took)
        self.stretch_ms.add(1e3 * took)
        if self._start is not None and condition.item >= 0:
            at = self._left_at.get(condition.item, 0)
            self._left_at[condition.item] = at + n_frames
        if np.isfinite(pcm).all():
            return self._faded_in(pcm)
        # Its memory is spoilt for good; begin it anew.
        _log.warning("The generator gave NaN or infinite samples; it was reset.")
        self.n_invalid += 1
        if self._risen:
            self._carried[len(self._carried) - self._fade :] *= self._rise[::-1]
        self._begin()
        return np.zeros(len(pcm), np.float32)

    def _faded_in(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a stretch that fades in if it is the first after a reset."""
        rising = min(len(pcm), self._fade - self._risen)
        if rising:
            pcm = pcm.copy()
            pcm[:rising] *= self._rise[self._risen : self._risen + rising]
            self._risen += rising
        return np.asarray(pcm, np.float32)

    def _begin(self) -> None:
        self._state = self._generator.initial_state()
        self._risen = 0
        self._left_at.clear()

    def _noise(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        seq = -1 if self._seq is None else self._seq  # -1: a window of nothing, for warming up
        key = (self._seed, seq + 1, self._stretches)
        return np.random.default_rng(key).standard_normal(shape, np.float32)

    def _given(
        self,
        vector: NDArray[np.float32],
        tokens: NDArray[np.float32] | None,
        item: int,
        n_frames: int,
    ) -> GeneratorInput:
        """Return what the generator is told for a stretch."""
        takes = self._spec.conditions
        if tokens is not None and "tokens" in takes:
            tokens = self._tokens_from_here(tokens)
        start = None
        if self._start is not None and item >= 0:
            at = self._left_at.get(item, 0)
            start = self._start.read(item, at, n_frames + self._spec.held)
        return GeneratorInput(
            vector=vector if "vector" in takes else None,
            tokens=tokens if "tokens" in takes else None,
            start=start,
            strength=1.0 if start is None else self._strength,
        )

    def _tokens_from_here(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the tokens from the beginning of the next stretch on, one step at least."""
        if self._spec.family != "small":
            return tokens  # a full-size checkpoint reads those of the whole window
        steps = len(tokens) // TOKENS_PER_STEP
        place = self._rendered + len(self._carried) - self._fade  # samples of the window's sound
        step = round(place / (TOKEN_FRAMES * self._spec.samples_per_frame))
        return tokens[TOKENS_PER_STEP * max(0, min(step, steps - 1)) :]
