"""Sounds into a player, one after another, and when each of them was really heard.

What is presented is told by what the player says it has played, never by what was put into it: an
onset is the time at which the first sample leaves the loudspeaker, and a sound that was interrupted
(an underrun, a stalled device, a pause) is no presentation and is played again.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.messages import FeatureWindow, Played, Sound
from stream.playback import Player

__all__ = ["Presentation", "Presenter"]

_SILENCE = -2  # the label of silence that we put in; the player's own is -1
_AHEAD_S = 4.0  # of sound in the player: how long this process may be held up
# How far samples may be off the line through their onset. Clocks of sound devices jitter by less;
# an underrun, a stall or a pause costs at least a block of the device, so more.
_TOLERANCE_S = 5e-3
_DRIFT = 500e-6  # and by which share of the time since: clocks of sound devices differ
_ATTEMPTS = 3
_SETTLED_S = 2.0  # within this the clock of a device is itself again after a jump
_LEAST_GAP_S = 0.02  # the player fades within it if this process is held up for too long
_AGAIN_S = 0.1  # silence before a sound that comes after the player had nothing left


@dataclass(frozen=True, slots=True)
class Presentation:
    """A sound that was played, or begun."""

    trial: int  # counts all attempts of a session
    sound: int  # index among the sounds
    onset: float  # s, LSL clock, first sample heard; at the end from what all samples tell
    duration_s: float  # of the whole sound
    played_s: float  # how much of it was heard so far


@dataclass(slots=True)
class _Attempt:
    seq: int
    sound: int
    n: int
    onset: float = math.nan
    heard: int = 0
    even: bool = True
    onsets: list[float] = field(default_factory=list)  # s, as the later pieces tell it


class Presenter:
    """Plays blocks of sounds; `step` is to be called many times a second, from one thread.

    Parameters
    ----------
    player : Player
        Fed by nobody else; it must take more than 4 s and the longest sound.
    sounds : sequence of arrays of shape (n,), float32
        At the player's rate.
    gap_s : float
        Silence between two sounds, s; at least 0.02.
    on_onset : callable
        Told of each sound as soon as its first sample is known to be heard, or to be within the
        latency of the device.
    on_end : callable
        `on_end(presentation, whole)`: a sound has been heard, or was cut short.
    """

    def __init__(
        self,
        player: Player,
        sounds: Sequence[NDArray[np.float32]],
        *,
        gap_s: float,
        on_onset: Callable[[Presentation], None],
        on_end: Callable[[Presentation, bool], None],
    ) -> None:
        self._player = player
        self._sounds = sounds
        self._rate = player.sample_rate_hz
        self._gap_s = max(gap_s, _LEAST_GAP_S)
        self._on_onset = on_onset
        self._on_end = on_end
        self._todo: deque[int] = deque()
        self._flight: deque[_Attempt] = deque()  # queued, not heard to their end
        self._tries: Counter[int] = Counter()
        self._seq = 0
        self._lead_s = self._tail_s = 0.0
        self._lead_due = False
        self._stopping = False
        self._waiting_for_silence = False
        self._silent = False
        self.paused = False
        self.began = math.nan  # s, when the first sample of all was heard, silence included
        self.last_end = math.nan  # s, when the last sample of a sound was heard
        self.n_cut = 0
        self.n_given_up = 0

    # -- wishes ------------------------------------------------------------------------------------

    def begin(self, order: Sequence[int], *, lead_s: float, tail_s: float) -> None:
        """Play these sounds, with silence before the first and after the last."""
        self._todo.extend(order)
        self._tries.clear()
        self._lead_s, self._tail_s, self._lead_due = lead_s, tail_s, True

    def pause(self) -> None:
        """Fade out; the sound that is interrupted is played again after `resume`."""
        if not self.paused:
            self.paused = True
            self._waiting_for_silence, self._silent = True, False
            self._player.pause()

    def resume(self) -> None:
        """Go on."""
        self.paused = False

    def stop(self) -> None:
        """End after the sound that is heard now."""
        self._stopping = True

    @property
    def finished(self) -> bool:
        """Whether all that `begin` asked for was heard or given up."""
        return not self._todo and not self._flight and not self._waiting_for_silence

    # -- work --------------------------------------------------------------------------------------

    def note_heard(self) -> None:
        """See what was heard."""
        for played in self._player.drain_played():
            self._note(played)

    def step(self) -> None:
        """See what was heard, and put in what is to come."""
        self.note_heard()
        if self._stopping and not any(attempt.heard for attempt in self._flight):
            self._todo.clear()
            self._flight.clear()
            self._player.pause()  # what waits is put away; silence from here on
            return
        if self._waiting_for_silence:
            if not self._silent:
                return
            self._take_back()
        if not self.paused:
            self._fill()

    def _note(self, played: Played) -> None:
        if math.isnan(self.began):
            self.began = played.t_heard
        self._silent = played.seq == -1  # whatever came last
        if played.seq < 0:
            return
        while self._flight and self._flight[0].seq != played.seq:
            self._end(self._flight.popleft())  # never heard to its end
        if not self._flight:
            return
        attempt = self._flight[0]
        if math.isnan(attempt.onset):
            attempt.onset = played.t_heard - played.offset / self._rate
            attempt.even = played.offset == 0
            attempt.heard = played.offset
            self._on_onset(self._presentation(attempt))
        since_s = played.offset / self._rate
        off_s = played.t_heard - attempt.onset - since_s
        if played.offset != attempt.heard or abs(off_s) > _TOLERANCE_S + _DRIFT * since_s:
            attempt.even = False
        if 0.5 * self._settled(attempt) <= played.offset < self._settled(attempt):
            attempt.onsets.append(played.t_heard - since_s)
        attempt.heard = played.offset + played.n_samples
        self.last_end = played.t_heard + played.n_samples / self._rate
        if attempt.heard >= attempt.n:
            self._end(self._flight.popleft())

    def _settled(self, attempt: _Attempt) -> int:
        return min(attempt.n, round(_SETTLED_S * self._rate))

    def _presentation(self, attempt: _Attempt) -> Presentation:
        # What a device says of its first block may be some milliseconds off if it has just missed
        # one (`stream.audio_device.DacClock`); what it says later of the same sound is better.
        onset = statistics.median(attempt.onsets) if attempt.onsets else attempt.onset
        return Presentation(
            attempt.seq,
            attempt.sound,
            onset,
            attempt.n / self._rate,
            attempt.heard / self._rate,
        )

    def _end(self, attempt: _Attempt) -> None:
        """Tell how a sound ended; one that was not whole comes again after all others."""
        whole = attempt.even and attempt.heard >= attempt.n
        if not math.isnan(attempt.onset):
            self._on_end(self._presentation(attempt), whole)
        if whole:
            return
        self.n_cut += 1
        if self._tries[attempt.sound] < _ATTEMPTS:
            self._todo.append(attempt.sound)
        else:
            self.n_given_up += 1

    def _take_back(self) -> None:
        """After a pause: what was not heard to its end is to come again, in its order."""
        self._waiting_for_silence = False
        again = list(self._flight)
        self._flight.clear()
        for attempt in again:
            if not math.isnan(attempt.onset):
                self.n_cut += 1
                self._on_end(self._presentation(attempt), False)
            self._tries[attempt.sound] -= 1  # nobody's fault
        self._todo.extendleft(attempt.sound for attempt in reversed(again))
        self._lead_due = True

    def _fill(self) -> None:
        while self._todo and self._player.waiting_s < _AHEAD_S:
            if self._player.aborted:
                return
            self._player.resume()
            if self._lead_due:
                self._put_silence(self._lead_s)
                self._lead_due = False
            elif self._player.waiting_s < _LEAST_GAP_S:
                self._put_silence(_AGAIN_S)  # the player fades in, not into the sound
            sound = self._todo.popleft()
            self._tries[sound] += 1
            pcm = self._sounds[sound]
            # First into our own list: the sink may play it before `queue` has returned.
            self._flight.append(_Attempt(self._seq, sound, len(pcm)))
            self._put(pcm, self._seq)
            self._seq += 1
            last = not self._todo
            self._put_silence(max(self._gap_s, self._tail_s) if last else self._gap_s)
            if last:
                self._player.finish()  # the silence that follows is no underrun

    def _put_silence(self, seconds: float) -> None:
        self._put(np.zeros(max(1, round(seconds * self._rate)), np.float32), _SILENCE)

    def _put(self, pcm: NDArray[np.float32], seq: int) -> None:
        window = FeatureWindow(np.zeros(0, np.float32), seq, 0, 1, math.nan, math.nan)
        self._player.queue(Sound(pcm, self._rate, window, math.nan, math.nan))
