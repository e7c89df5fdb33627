"""Retrieval chain: sounds of a library as one continuous signal, equally loud, without seams."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from stream.messages import Condition

__all__ = ["LibraryRenderer", "SoundList", "SoundSource", "loudness_gain"]

# Prepared sounds kept by `LibraryRenderer`; a library may hold far more than fit in memory.
_PREPARED = 64


class SoundSource(Protocol):
    """Sounds by number: `export.library.Library` is one."""

    @property
    def sample_rate_hz(self) -> int:
        """Of all sounds."""

    def __len__(self) -> int: ...

    def sound(self, index: int) -> NDArray[np.float32]:
        """Return one sound: (n,), float32, full scale 1."""


class SoundList:
    """Sounds that are in memory, as a `SoundSource`.

    Parameters
    ----------
    sounds : list of arrays of shape (n,), float32
    sample_rate_hz : int
    """

    def __init__(self, sounds: list[NDArray[np.float32]], *, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._sounds = sounds

    def __len__(self) -> int:
        return len(self._sounds)

    def sound(self, index: int) -> NDArray[np.float32]:
        """Return one sound."""
        return self._sounds[index]


def loudness_gain(
    pcm: NDArray[np.float32],
    sample_rate_hz: int,
    *,
    rms_dbfs: float = -26.0,
    peak_dbfs: float = -13.0,
) -> float:
    """Return the gain that makes sounds of a library about equally loud.

    RMS of the 50-ms frames within 30 dB of the loudest one (so that pauses do not count), brought
    to `rms_dbfs`; less if the peak would pass `peak_dbfs`, which is 1 dB below the default ceiling.

    Parameters
    ----------
    pcm : array of shape (n,), float32
    sample_rate_hz : int
    rms_dbfs, peak_dbfs : float

    Returns
    -------
    gain : float
        1 for silence.
    """
    peak = float(np.abs(pcm).max(initial=0.0))
    if not 0.0 < peak < math.inf:
        return 1.0
    width = max(1, round(0.05 * sample_rate_hz))
    whole = pcm[: len(pcm) // width * width] if len(pcm) >= width else pcm
    power = np.square(whole, dtype=np.float64).reshape(-1, min(width, len(whole))).mean(axis=1)
    rms = math.sqrt(power[power >= 1e-3 * power.max()].mean())
    wanted = 10 ** (rms_dbfs / 20) / rms if rms > 0.0 else math.inf
    return min(wanted, 10 ** (peak_dbfs / 20) / peak)


class _Loop:
    """A sound that repeats without a seam: its end is crossfaded into its beginning."""

    def __init__(self, pcm: NDArray[np.float32], crossfade: int) -> None:
        x = min(crossfade, len(pcm) // 3)
        self._intro = pcm[:x]
        if x:
            angle = 0.5 * np.pi * (np.arange(x) + 0.5) / x
            seam = pcm[len(pcm) - x :] * np.cos(angle) + pcm[:x] * np.sin(angle)
            self._body = np.concatenate([pcm[x : len(pcm) - x], seam]).astype(np.float32)
        else:
            self._body = pcm

    def read(self, position: int, n: int) -> NDArray[np.float32]:
        """Return `n` samples from `position`, counted from the beginning of the first round."""
        x, length = len(self._intro), len(self._body)
        out = np.empty(n, np.float32)
        done = max(0, min(n, x - position))
        out[:done] = self._intro[position : position + done]
        while done < n:
            at = (position + done - x) % length
            m = min(n - done, length - at)
            out[done : done + m] = self._body[at : at + m]
            done += m
        return out


class _Voice:
    """One sound of the library that is heard now, rising or falling."""

    def __init__(self, item: int, loop: _Loop, position: int) -> None:
        self.item = item
        self.position = position
        self.phase = 0  # 0: silent, crossfade length: full
        self._loop = loop

    def read(self, n: int, *, length: int, rising: bool) -> NDArray[np.float32]:
        """Return the next `n` samples with this voice's part of an equal-power crossfade."""
        steps = np.arange(n) + 0.5
        phase = np.clip(self.phase + (steps if rising else -steps), 0, length)
        gain = np.sin(0.5 * np.pi / length * phase).astype(np.float32)
        sound: NDArray[np.float32] = self._loop.read(self.position, n) * gain
        # One that has fallen silent stays where it was left, whatever the length of the stretch.
        self.position += n if rising else min(n, self.phase)
        self.phase = min(length, self.phase + n) if rising else max(0, self.phase - n)
        return sound


class LibraryRenderer:
    """Retrieval chain: the sound of the library that was found nearest.

    While the item stays, its sound goes on, looped without a seam. When it changes, the old and the
    new one are crossfaded (equal power). A sound that comes back goes on where it was left, so that
    a decoder that wavers between two gives a mix of both and not a stutter of beginnings; `reset`
    starts all at their beginnings again. Sounds are brought to equal loudness (`loudness_gain`).

    Parameters
    ----------
    library : SoundSource
    crossfade_s : float
        From one sound to the next, and at the loop point.
    rms_dbfs, peak_dbfs : float
        Loudness of each sound, see `loudness_gain`.
    """

    n_channels = 1
    delay_s = 0.0

    def __init__(
        self,
        library: SoundSource,
        *,
        crossfade_s: float = 0.05,
        rms_dbfs: float = -26.0,
        peak_dbfs: float = -13.0,
    ) -> None:
        self.sample_rate_hz = library.sample_rate_hz
        self._library = library
        self._crossfade = max(1, round(crossfade_s * library.sample_rate_hz))
        self._rms_dbfs, self._peak_dbfs = rms_dbfs, peak_dbfs
        self._prepared: OrderedDict[int, _Loop] = OrderedDict()
        self._left_at: dict[int, int] = {}
        self._voices: list[_Voice] = []
        self._current: _Voice | None = None

    def render(self, condition: Condition, n_samples: int) -> NDArray[np.float32]:
        """Return the next `n_samples` of sound: shape (n_samples,), float32.

        An item of -1 (nothing found) fades to silence.

        Raises
        ------
        SettingError
            If the item is not in the library.
        """
        self._turn_to(condition.item)
        out = np.zeros(n_samples, np.float32)
        for voice in self._voices:
            out += voice.read(n_samples, length=self._crossfade, rising=voice is self._current)
            self._left_at[voice.item] = voice.position
        self._voices = [v for v in self._voices if v.phase > 0 or v is self._current]
        return out

    def reset(self) -> None:
        """Begin anew: what sounds now fades out, and each sound starts at its beginning."""
        self._current = None
        self._left_at.clear()
        for voice in self._voices:
            voice.item = -1  # belongs to the past: not to be taken up again

    def _turn_to(self, item: int) -> None:
        if not -1 <= item < len(self._library):
            raise SettingError(
                f"The library holds sounds 0 to {len(self._library) - 1}; a decoder chose {item}. "
                "Decoder and library belong to different bundles."
            )
        if self._current is not None and self._current.item == item:
            return
        self._current = None
        if item < 0:
            return
        for voice in self._voices:
            if voice.item == item:
                self._current = voice
                return
        self._current = _Voice(item, self._loop(item), self._left_at.get(item, 0))
        self._voices.append(self._current)

    def _loop(self, item: int) -> _Loop:
        """Return a sound at its loudness, ready to loop; the ones used last are kept."""
        if item in self._prepared:
            self._prepared.move_to_end(item)
            return self._prepared[item]
        pcm = np.asarray(self._library.sound(item), np.float32)
        if not len(pcm):
            pcm = np.zeros(1, np.float32)
        gain = loudness_gain(
            pcm, self.sample_rate_hz, rms_dbfs=self._rms_dbfs, peak_dbfs=self._peak_dbfs
        )
        loop = _Loop(pcm * np.float32(gain), self._crossfade)
        self._prepared[item] = loop
        if len(self._prepared) > _PREPARED:
            self._prepared.popitem(last=False)
        return loop
