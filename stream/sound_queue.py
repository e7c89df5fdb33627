"""What waits to be played: sounds in, one continuous signal out, nothing that blocks in between.

The side that puts sounds in checks and splits them; the audio thread only takes finished pieces
from a deque, whose `append` and `popleft` are atomic. So the audio thread never waits for a lock.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from stream.messages import Sound

__all__ = ["LOUDEST", "Label", "SoundQueue", "fade_table"]

# Finite samples beyond this (+40 dBFS) are no sound either: a decoder that diverged.
LOUDEST = 100.0

# Sounds are cut into pieces of this length, so that what is dropped is dropped in small steps.
_PIECE_S = 0.005


def fade_table(n: int) -> NDArray[np.float32]:
    """Return the gains of a fade, sin^2 from 0 to 1 in `n` steps: shape (n + 1,), float32."""
    steps = np.arange(n + 1) / max(1, n)
    return np.asarray(np.sin(0.5 * np.pi * steps) ** 2, np.float32)


class Label(NamedTuple):
    """Where a run of samples comes from."""

    seq: int
    offset: int  # of the first sample, within the sound of this window
    brain_stop: float
    n: int


class _Piece(NamedTuple):
    pcm: NDArray[np.float32]  # (n, n_channels), finite
    start: int  # index of the first sample among all that was ever put in
    label: Label
    clear: int  # good samples before the first invalid one, fade length at most
    filler: bool  # may be taken back for something newer


class SoundQueue:
    """A bounded queue of sound between one or more writers and the audio thread.

    Parameters
    ----------
    sample_rate_hz, n_channels : int
    fade : int
        Length of every fade and crossfade, in samples.
    """

    def __init__(self, *, sample_rate_hz: int, n_channels: int, fade: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.n_channels = n_channels
        self.fade = fade
        self._gains = fade_table(fade)
        self._inbox: deque[_Piece] = deque()

        # Writers' side, under their lock, which the audio thread never takes.
        # Re-entrant: a signal handler may abort in the middle of a `put` of the same thread.
        self._writers = threading.RLock()
        self._since_invalid = fade  # good samples since the last invalid one, `fade` at most
        self._piece = max(1, round(_PIECE_S * sample_rate_hz))
        self.n_put = 0
        self.n_dropped_waiting = 0  # too old before the audio thread saw them
        self.n_discarded_waiting = 0  # put away by pause or abort
        self.n_replaced = 0  # filler that was taken back
        self._filler_put = 0  # filler since the last sound that was none, without what was replaced
        self.n_invalid = 0

        # Audio thread's side.
        self._buffer = np.zeros((4 * self._piece + 4 * fade, n_channels), np.float32)
        self._start = self._stop = 0
        self._labels: deque[Label] = deque()
        self._position = 0  # index among all that was put in, of the next piece if none is missing
        self._old = np.zeros((0, n_channels), np.float32)  # still to be mixed, in a crossfade
        self._old_length = 0  # at the crossfade's beginning
        self.n_taken = 0  # out of the inbox
        self.n_overlapped = 0  # old samples that a crossfade replaced

    # -- writers --------------------------------------------------------------------------------

    def put(self, sound: Sound, *, filler: bool = False) -> None:
        """Add a sound after those that wait.

        Parameters
        ----------
        sound : Sound
        filler : bool
            Whether `drop_filler` may take it back.

        Raises
        ------
        SettingError
            If rate or channels are not those of the player.
        """
        pcm = self._shaped(sound)
        with self._writers:
            pcm, clear = self._without_invalid(pcm)
            brain_stop = sound.window.t_stop
            self._filler_put = self._filler_put + len(pcm) if filler else 0
            for offset in range(0, len(pcm), self._piece):
                part = pcm[offset : offset + self._piece]
                label = Label(sound.window.seq, offset, brain_stop, len(part))
                self._inbox.append(_Piece(part, self.n_put, label, clear, filler))
                self.n_put += len(part)
                clear = self.fade

    def drop_beyond(self, keep: int, *, on_purpose: bool = False) -> None:
        """Drop the oldest pieces that wait, until at most `keep` samples do."""
        with self._writers:
            while self.waiting > keep:
                try:
                    piece = self._inbox.popleft()
                except IndexError:  # the audio thread has just taken the last one
                    return
                if on_purpose:
                    self.n_discarded_waiting += len(piece.pcm)
                else:
                    self.n_dropped_waiting += len(piece.pcm)

    def drop_filler(self, keep: int) -> None:
        """Take filler back, the newest first, while at least `keep` samples go on waiting.

        What is put in next is crossfaded with the end of what is left.
        """
        with self._writers:
            while True:
                try:
                    newest = self._inbox[-1]
                    if not newest.filler or self.waiting - len(newest.pcm) < keep:
                        return
                    # The same piece, since only writers append; or it has just been taken.
                    piece = self._inbox.pop()
                except IndexError:
                    return
                self.n_replaced += len(piece.pcm)
                self._filler_put -= len(piece.pcm)

    @property
    def waiting(self) -> int:
        """Samples put in that the audio thread has not taken yet."""
        gone = self.n_dropped_waiting + self.n_discarded_waiting + self.n_replaced
        return self.n_put - self.n_taken - gone

    @property
    def filler(self) -> int:
        """How much of what waits is filler, at its end."""
        return max(0, min(self.waiting, self._filler_put))

    def _shaped(self, sound: Sound) -> NDArray[np.float32]:
        if sound.sample_rate_hz != self.sample_rate_hz:
            raise SettingError(
                f"The player runs at {self.sample_rate_hz} Hz, a sound came at "
                f"{sound.sample_rate_hz} Hz. Make the player at the bundle's rate."
            )
        pcm = np.asarray(sound.pcm, np.float32)
        if pcm.ndim == 1:
            pcm = pcm[:, None]
        if pcm.ndim == 2 and pcm.shape[1] == 1 and self.n_channels > 1:
            pcm = np.repeat(pcm, self.n_channels, axis=1)
        if pcm.ndim != 2 or pcm.shape[1] != self.n_channels:
            raise SettingError(
                f"The player takes sound of shape (n, {self.n_channels}), "
                f"got {np.shape(sound.pcm)}."
            )
        return pcm

    def _without_invalid(self, pcm: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        """Replace invalid samples by silence with fades to both sides; count them.

        Returns the sound, and how many good samples stand before the first invalid one (`fade` at
        most): if fewer than a fade, then the end of the sound before must fade out too, which the
        audio thread does, because it still holds that end back.
        """
        n = len(pcm)
        with np.errstate(invalid="ignore"):
            good = np.abs(pcm) <= LOUDEST  # (n, n_channels), False for NaN
            bad: NDArray[np.bool_] = np.logical_not(np.all(good, axis=1))  # (n,)
        if not bad.any():
            if self._since_invalid >= self.fade:
                return pcm, self.fade
            gains = self._gains[np.minimum(self._since_invalid + 1 + np.arange(n), self.fade)]
            self._since_invalid = min(self.fade, self._since_invalid + n)
            return pcm * gains[:, None], self.fade
        index = np.arange(n)
        before = np.maximum.accumulate(np.where(bad, index, -1 - self._since_invalid))
        after = np.minimum.accumulate(np.where(bad, index, n + self.fade)[::-1])[::-1]
        distance = np.minimum(np.minimum(index - before, after - index), self.fade)
        repaired = np.where(bad[:, None], np.float32(0.0), pcm)
        self.n_invalid += int(bad.sum())
        self._since_invalid = min(self.fade, n - 1 - int(before[-1]))
        return repaired * self._gains[distance][:, None], min(self.fade, int(np.argmax(bad)))

    # -- audio thread ---------------------------------------------------------------------------

    @property
    def ahead(self) -> NDArray[np.float32]:
        """What is to be played next, as far as it was filled: (n, n_channels), a view."""
        return self._buffer[self._start : self._stop]

    @property
    def has_any(self) -> bool:
        """Whether there is anything at all to play."""
        return self._stop > self._start or bool(self._inbox)

    def fill(self, wanted: int) -> int:
        """Take pieces until `wanted` samples are ahead, or none waits; return how many are."""
        while self._stop - self._start < wanted:
            try:
                piece = self._inbox.popleft()
            except IndexError:
                break
            self._take_in(piece)
        return self._stop - self._start

    def advance(self, n: int) -> list[Label]:
        """Go on by `n` samples; return where they come from."""
        self._start += n
        gone: list[Label] = []
        while n > 0:
            label = self._labels.popleft()
            if label.n > n:
                rest = Label(label.seq, label.offset + n, label.brain_stop, label.n - n)
                self._labels.appendleft(rest)
                label = label._replace(n=n)
            gone.append(label)
            n -= label.n
        return gone

    def clear_ahead(self) -> int:
        """Forget what was filled; return how many samples that were."""
        n = self._stop - self._start
        self._start = self._stop = 0
        self._labels.clear()
        self._old = self._old[:0]
        return n

    def _take_in(self, piece: _Piece) -> None:
        n = len(piece.pcm)
        self.n_taken += n
        held = self._stop - self._start
        if piece.start != self._position and held:
            self._begin_crossfade(min(self.fade, held))
        elif piece.clear < self.fade:
            k = min(self.fade - piece.clear, held)
            distance = piece.clear + np.arange(k, 0, -1)
            self._buffer[self._stop - k : self._stop] *= self._gains[distance][:, None]
        self._position = piece.start + n
        self._make_room(n)
        into = self._buffer[self._stop : self._stop + n]
        into[:] = piece.pcm
        if len(self._old):
            self._mix_old(into)
        self._stop += n
        self._labels.append(piece.label)

    def _begin_crossfade(self, k: int) -> None:
        """Something was dropped: mix the `k` newest samples held into what comes now."""
        self._old = self._buffer[self._stop - k : self._stop].copy()
        self._old_length = k
        self._stop -= k
        self.n_overlapped += k
        while k > 0:
            label = self._labels.pop()
            if label.n > k:
                self._labels.append(label._replace(n=label.n - k))
            k -= label.n

    def _mix_old(self, into: NDArray[np.float32]) -> None:
        """Mix what is left of the old sound into the new, equal power."""
        k = min(len(self._old), len(into))
        done = self._old_length - len(self._old)
        angle = 0.5 * np.pi * (done + 0.5 + np.arange(k)) / self._old_length
        into[:k] *= np.sin(angle)[:, None].astype(np.float32)
        into[:k] += self._old[:k] * np.cos(angle)[:, None].astype(np.float32)
        self._old = self._old[k:]

    def _make_room(self, n: int) -> None:
        if self._stop + n <= len(self._buffer):
            return
        held = self.ahead
        size = len(held)
        # Grows for a device with long blocks, once; otherwise the rest moves to the front.
        room = self._buffer
        if size + n > len(room):
            room = np.zeros((2 * (size + n), self.n_channels), np.float32)
        room[:size] = held
        self._buffer, self._start, self._stop = room, 0, size
