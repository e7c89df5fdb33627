"""The left channel of the demo: what was heard, in step with what the right channel renders."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.stimuli import StimulusSequence
from stream.messages import FeatureWindow, Played, Sound
from stream.monitor import Observer

__all__ = ["DecodedTrack", "StimulusTrack"]

_NEAR_S = 0.02  # a jump smaller than this is smoothed over: the sounds go on as they were
_JOIN_S = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A decoded block, and the stretch of the stimulus that it stands beside."""

    seq: int
    first: int  # sample of the stimulus
    pcm: NDArray[np.float32]


class StimulusTrack:
    """Gives the stretch of stimulus that belongs to each decoded sound (a `stages.Companion`).

    The stream counts its samples from the onset of the stimulus, so the count of a window's last
    sample, its lag and the renderer's delay say what is rendered; no clock is involved.

    Parameters
    ----------
    sequence : StimulusSequence
        What is heard.
    sfreq_hz : float
        Of the brain stream, as it was recorded.
    delay_s : float
        By how much the renderer is behind the windows.
    """

    def __init__(self, sequence: StimulusSequence, *, sfreq_hz: float, delay_s: float) -> None:
        self._pcm = sequence.pcm
        self._rate = sequence.sample_rate_hz
        self._sfreq_hz = sfreq_hz
        self._delay_s = delay_s
        self._next: int | None = None
        self._lock = threading.Lock()
        self._blocks: list[_Block] = []

    def __call__(self, sound: Sound) -> NDArray[np.float32]:
        """Return the left channel for a decoded sound: (n,), float32."""
        n = len(sound.pcm)
        behind_s = sound.window.t_stop - sound.stimulus_start + self._delay_s
        wanted = round((sound.window.stop / self._sfreq_hz - behind_s) * self._rate)
        goes_on = self._next
        jump = goes_on is None or abs(wanted - goes_on) > _NEAR_S * self._rate
        first = wanted if goes_on is None or jump else goes_on
        left = self._stretch(first, n)
        if jump and goes_on is not None:
            n_join = min(n, round(_JOIN_S * self._rate))
            ramp = np.linspace(0.0, 1.0, n_join, dtype=np.float32)
            left[:n_join] = ramp * left[:n_join] + (1 - ramp) * self._stretch(goes_on, n_join)
        self._next = first + n
        decoded = np.array(sound.pcm, np.float32).reshape(n, -1)[:, 0]
        with self._lock:
            self._blocks.append(_Block(sound.window.seq, first, decoded))
        return left

    def _stretch(self, first: int, n: int) -> NDArray[np.float32]:
        """Return samples of the stimulus, silence beyond its ends."""
        out = np.zeros(n, np.float32)
        low, high = max(first, 0), min(first + n, len(self._pcm))
        if low < high:
            out[low - first : high - first] = self._pcm[low:high]
        return out

    def blocks(self) -> list[_Block]:
        """Return what was asked for so far."""
        with self._lock:
            return list(self._blocks)


class DecodedTrack(Observer):
    """Keeps which windows were really heard; gives the decoded sound on the stimulus's own time."""

    def __init__(self, track: StimulusTrack, n_samples: int) -> None:
        self._track = track
        self._n_samples = n_samples
        self._heard: set[int] = set()
        self.first_sound_s: float | None = None  # from the start of the first window to its sound
        self._t_first = float("nan")

    def on_window(self, window: FeatureWindow) -> None:
        """Note when the first window began."""
        if np.isnan(self._t_first):
            self._t_first = window.t_start

    def on_played(self, played: Played) -> None:
        """Note what left the loudspeaker."""
        if played.seq >= 0:
            self._heard.add(played.seq)
            if self.first_sound_s is None:
                self.first_sound_s = round(played.t_heard - self._t_first, 3)

    def assemble(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the decoded sound that was heard, and where there is any.

        Returns
        -------
        pcm : array of shape (n_samples,), float32
            Sample k renders sample k of the stimulus.
        known : array of shape (n_samples,), bool
        """
        pcm = np.zeros(self._n_samples, np.float32)
        known = np.zeros(self._n_samples, bool)
        for block in self._track.blocks():
            if block.seq not in self._heard:
                continue
            low, high = max(block.first, 0), min(block.first + len(block.pcm), self._n_samples)
            if low < high:
                pcm[low:high] = block.pcm[low - block.first : high - block.first]
                known[low:high] = True
        return pcm, known
