"""From what a window was decoded to, to sound: one renderer for each kind of chain.

A renderer returns exactly the number of samples that it is asked for, and successive stretches
join without a click; the player adds nothing to the joins.
"""

from __future__ import annotations

import logging
import math
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.mel import MelSpec
from stream.generator_renderer import GeneratorRenderer
from stream.library_renderer import LibraryRenderer, SoundList, SoundSource, loudness_gain
from stream.messages import Condition
from stream.sound_queue import fade_table

__all__ = [
    "GeneratorRenderer",
    "LibraryRenderer",
    "MelRenderer",
    "PiecewiseRenderer",
    "Renderer",
    "SoundList",
    "SoundSource",
    "StreamingVocoder",
    "loudness_gain",
]

_log = logging.getLogger(__name__)

# Largest ln mel magnitude that is believed: a full-scale sine has about ln(n_fft / 4) at most.
_LARGEST_LN_MEL = 8.0


@runtime_checkable
class Renderer(Protocol):
    """Makes the sound of one window after another, as one continuous signal."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second."""

    @property
    def n_channels(self) -> int:
        """Channels of what `render` returns: 1 means shape (n,)."""

    @property
    def delay_s(self) -> float:
        """By how much the sound is behind the conditions that it renders."""

    def render(self, condition: Condition, n_samples: int) -> NDArray[np.float32]:
        """Return the next `n_samples` of sound: shape (n_samples,), float32, full scale 1."""

    def reset(self) -> None:
        """Begin anew after a gap or skipped windows.

        The old sound fades out, and what is rendered next fades in.
        """


@runtime_checkable
class PiecewiseRenderer(Renderer, Protocol):
    """A renderer that takes its time: the first piece of a long sound can be played meanwhile."""

    @property
    def cost_s(self) -> float:
        """What a piece took lately, s: so much sound must wait while one is made."""

    def piece(self, n_samples: int) -> int:
        """Return how many of the next `n_samples` the first piece has.

        Rendering piece by piece gives the same sound as rendering at once.
        """

    def warm_up(self) -> None:
        """Do once all that is slow the first time; leaves no trace in the sound."""


class StreamingVocoder(Protocol):
    """Mel frames in, samples out, with a memory: `models.inversion.PhaseRecovery` is one."""

    @property
    def delay_samples(self) -> int:
        """By how many samples the sound is behind the frames."""

    def step(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the `n * hop` samples that `n` more ln-mel frames, (n, n_mels), give."""

    def reset(self) -> None:
        """Forget the frames before."""


class MelRenderer:
    """Direct chain: the decoded mel spectrogram, through phase recovery.

    The frames of a window are stretched or squeezed in time (linearly) to as many as its samples
    need; what a frame gives beyond the window is carried to the next one. The last `fade_s` of
    sound are always kept back, so that a reset has real sound to fade out.

    Parameters
    ----------
    spec : MelSpec
        Of the decoder.
    vocoder : StreamingVocoder
    fade_s : float
        Of the fades at a reset.
    """

    n_channels = 1

    def __init__(self, spec: MelSpec, vocoder: StreamingVocoder, *, fade_s: float = 0.01) -> None:
        self.sample_rate_hz = spec.sample_rate_hz
        self.n_invalid = 0  # mel values that were NaN, infinite or absurdly large
        self._spec = spec
        self._vocoder = vocoder
        self._rise = fade_table(max(1, round(fade_s * spec.sample_rate_hz)))[1:]
        self._fade = len(self._rise)
        self._carried = np.zeros(self._fade, np.float32)  # at least one fade long
        self._risen = 0  # how far the fade-in of this stretch has come, samples
        self.delay_s = (vocoder.delay_samples + self._fade) / spec.sample_rate_hz

    def render(self, condition: Condition, n_samples: int) -> NDArray[np.float32]:
        """Return the next `n_samples` of sound: shape (n_samples,), float32.

        Raises
        ------
        SettingError
            If the condition holds no mel frames of the right kind.
        """
        mel = self._checked(condition.values)
        missing = n_samples + self._fade - len(self._carried)
        n_frames = math.ceil(missing / self._spec.hop)
        if n_frames > 0:
            pcm = self._vocoder.step(_stretch(mel, n_frames))
            if not np.isfinite(pcm).all():
                # Its memory is spoilt for good; begin it anew.
                _log.warning("The vocoder gave NaN or infinite samples; it was reset.")
                self._vocoder.reset()
                pcm = np.zeros(n_frames * self._spec.hop, np.float32)
            rising = min(len(pcm), self._fade - self._risen)
            if rising:
                pcm = pcm.copy()
                pcm[:rising] *= self._rise[self._risen : self._risen + rising]
                self._risen += rising
            self._carried = np.concatenate([self._carried, pcm.astype(np.float32, copy=False)])
        out, self._carried = self._carried[:n_samples], self._carried[n_samples:]
        return out

    def reset(self) -> None:
        """Begin anew: what is kept back of the old sound fades out, then the new one fades in."""
        if not self._risen:
            return
        self._carried = self._carried[: self._fade] * self._rise[::-1]
        self._vocoder.reset()
        self._risen = 0

    def _checked(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if values.ndim != 2 or len(values) < 1 or values.shape[1] != self._spec.n_mels:
            raise SettingError(
                f"A direct chain renders ln mel frames of shape (n >= 1, {self._spec.n_mels}), "
                f"got {values.shape}."
            )
        floor = math.log(self._spec.floor)
        bad = ~(values <= _LARGEST_LN_MEL)  # True for NaN; -inf is only very silent
        if bad.any():
            self.n_invalid += int(bad.sum())
            values = np.where(bad, np.float32(floor), values)
        return np.maximum(values, np.float32(floor))


def _stretch(mel: NDArray[np.float32], n_frames: int) -> NDArray[np.float32]:
    """Return a mel spectrogram with `n_frames` frames over the same time, linear between them."""
    if len(mel) == n_frames:
        return mel
    # Each new frame's centre, in old frames; the outer half frames repeat the first and last.
    at = np.clip((np.arange(n_frames) + 0.5) * (len(mel) / n_frames) - 0.5, 0, len(mel) - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, len(mel) - 1)
    part = (at - low)[:, None].astype(np.float32)
    stretched: NDArray[np.float32] = mel[low] * (1 - part) + mel[high] * part
    return stretched
