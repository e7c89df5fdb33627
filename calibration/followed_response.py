"""What a listener streams who hears as it happens: answers at their onsets, and endless noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from calibration.stimuli import SAMPLE_RATE_HZ
from models.errors import SettingError

__all__ = ["EndlessNoise", "FollowedResponse"]

_EARLY_S = 0.01  # the cochlea's windows are 16 ms long, so they see a sound 8 ms before it begins


class EndlessNoise:
    """Noise of any length from a maker of pieces, one crossfaded into the next at equal power.

    Parameters
    ----------
    make : callable
        `make(n, seed)` returns an array of shape (n, n_channels).
    n, join : int
        Samples of a piece, and of a crossfade.
    seed : int
        Of the first piece; the next ones have the next seeds.
    """

    def __init__(
        self, make: Callable[[int, int], NDArray[np.float64]], *, n: int, join: int, seed: int
    ) -> None:
        if not 0 < 2 * join <= n:
            raise SettingError(f"A join of {join} samples does not fit twice into pieces of {n}.")
        self._make = make
        self._n = n
        self._seed = seed
        angle = 0.5 * np.pi * (np.arange(join) + 0.5) / join
        self._up, self._down = np.sin(angle)[:, None], np.cos(angle)[:, None]
        self._piece = make(n, seed)
        self._at = 0

    def take(self, n: int) -> NDArray[np.float64]:
        """Return the next `n` samples, shape (n, n_channels)."""
        parts = []
        join = len(self._up)
        while n > 0:
            if self._at == self._n - join:
                self._seed += 1
                following = self._make(self._n, self._seed)
                following[:join] = self._down * self._piece[-join:] + self._up * following[:join]
                self._piece, self._at = following, 0
            m = min(n, self._n - join - self._at)
            parts.append(self._piece[self._at : self._at + m])
            self._at += m
            n -= m
        return np.concatenate(parts)


class FollowedResponse:
    """The answers to sounds whose onsets become known while the brain is being streamed.

    Answers of a listener are linear in the envelopes of the cochlea, so those to sounds that do not
    overlap add up.

    Parameters
    ----------
    respond : callable
        `respond(pcm, n)` returns (n, n_channels): the answer to a sound at 16 kHz, the first sample
        at the beginning of the sound.
    sfreq_hz : float
    n_channels : int
    kept_s : float
        How long an answer goes on after the end of its sound.
    """

    def __init__(
        self,
        respond: Callable[[NDArray[np.float32], int], NDArray[np.float64]],
        *,
        sfreq_hz: float,
        n_channels: int,
        kept_s: float,
    ) -> None:
        self._respond = respond
        self._sfreq_hz = sfreq_hz
        self._n_channels = n_channels
        self._kept_s = kept_s
        self._answers: list[tuple[int, NDArray[np.float64]]] = []  # first sample, values
        self._next = 0  # sample that is taken next
        self.n_heard = 0
        self.n_late = 0  # sounds of whose answer some was due before the sound was known

    def hear(self, pcm: NDArray[np.float32], onset_s: float) -> None:
        """Answer to a sound that began `onset_s` after sample 0.

        Parameters
        ----------
        pcm : array of shape (n,), float32
            16 kHz.
        onset_s : float
        """
        first = int(np.floor((onset_s - _EARLY_S) * self._sfreq_hz + 1e-9))
        # The onset lies between two samples: silence before it moves it to its place.
        n_before = max(0, round((onset_s - first / self._sfreq_hz) * SAMPLE_RATE_HZ))
        n_after = round(self._kept_s * SAMPLE_RATE_HZ)
        padded = np.pad(np.asarray(pcm, np.float32), (n_before, n_after))
        n = int(len(padded) / SAMPLE_RATE_HZ * self._sfreq_hz)
        answer = self._respond(padded, n)[:n]
        self.n_heard += 1
        self.n_late += first < self._next
        self._answers.append((first, answer))

    def stop(self, at_s: float) -> None:
        """Note that the newest sound was cut short; nothing is answered after `at_s`."""
        if self._answers:
            first, answer = self._answers[-1]
            keep = max(0, round(at_s * self._sfreq_hz) - first)
            self._answers[-1] = (first, answer[:keep])

    def take(self, n: int) -> NDArray[np.float64]:
        """Return the next `n` samples, shape (n, n_channels)."""
        out = np.zeros((n, self._n_channels))
        start, stop = self._next, self._next + n
        for first, answer in self._answers:
            low, high = max(first, start), min(first + len(answer), stop)
            if low < high:
                out[low - start : high - start] += answer[low - first : high - first]
        self._answers = [item for item in self._answers if item[0] + len(item[1]) > stop]
        self._next = stop
        return out
