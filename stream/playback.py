"""The player: blocks of sound in at any time, one safe, continuous signal out, and a log of it.

A sink (`stream.sinks`) calls `Player.render_block` from its audio thread. Nothing there waits: what
is put in was checked, split and repaired by the thread that put it in.

What the player does to the sound, in order:

1. Blocks are joined as they are: a renderer makes successive blocks continuous.
2. Invalid samples (NaN, infinite, beyond +40 dBFS) are silence, with fades around them.
3. More than `max_queue_s` waiting: the oldest is dropped, the join is a crossfade. So is the join
   to a sound that replaces filler (`drop_waiting`).
4. Underrun: the last `fade_s` of real sound, always held back for this, fade out; after new sound
   has come and `lead_s` have passed, it fades in.
5. Ceiling (`stream.limiter`): after everything else, always.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from stream.limiter import Limiter, dbfs
from stream.messages import Played, Sound
from stream.sound_queue import Label, SoundQueue, fade_table

__all__ = ["PlaybackStatistics", "Player", "PlayerState"]

_log = logging.getLogger(__name__)

# Played pieces kept while nobody drains them: 10 minutes of 10-ms blocks.
_LOG_LENGTH = 60_000


# How much more than the lead may wait without being too much: blocks of sinks, jitter.
_MARGIN_S = 0.04


class PlayerState(StrEnum):
    """What the player is doing."""

    WAITING = "waiting"  # for the first sound, for the lead to pass, or after an underrun
    PLAYING = "playing"
    PAUSED = "paused"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class PlaybackStatistics:
    """What has come out of the player so far.

    `n_put` = played + dropped + discarded + replaced + what still waits, exactly, in samples.
    """

    underruns: int  # playing -> starved, while sound was due and nobody had paused or aborted
    seconds_played: float  # of real sound, fades included; silence is not counted
    seconds_rendered: float  # all that came out, silence included
    peak_dbfs: float  # after the ceiling; -200 stands for digital silence
    dropped_s: float  # too old, replaced by a crossfade
    discarded_s: float  # put away on purpose, by pause or abort
    replaced_s: float  # filler that something newer took the place of
    n_invalid: int  # samples that were NaN, infinite or absurd, replaced by silence
    blocks: int
    waiting_s: float  # in the queue now
    tap_errors: int  # a listener to the output (file writer) failed


class Player:
    """Turn sounds that come in blocks into one signal that never clicks and never is too loud.

    Parameters
    ----------
    sample_rate_hz, n_channels : int
        Of the sounds and of the output. Mono sounds go to all channels.
    ceiling_dbfs : float
        Peak that is never exceeded, -120 to 0.
    lead_s : float
        Time from the first sound of a stretch to its first sample out, at the start and after each
        underrun. A later sound may come this much later than the first did (less one device block
        and one fade) before there is an underrun.
    fade_s : float
        Length of fades and crossfades, 1 ms to 1 s.
    max_queue_s : float
        What waits beyond this is too old: dropped from the old end. At least one sound long.
    catch_up_s : float
        When for this long every sound has come while more than `lead_s` and 40 ms of sound still
        waited, what waits beyond `lead_s` is dropped. So a source whose clock is faster than that
        of the sink, or a backlog after an underrun, does not add to the delay for ever. Infinite:
        never, for players that are filled in advance.

    Raises
    ------
    SettingError
        If a value is out of range.

    Notes
    -----
    Underruns are counted once each: at the moment when playing turns to starving, if sound is due.
    It starves when what is left is shorter than the next block and the fade out that would follow.
    Sound is due from the first `queue` on, and no longer after `finish` until the next `queue`.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int,
        n_channels: int = 1,
        ceiling_dbfs: float = -12.0,
        lead_s: float = 0.06,
        fade_s: float = 0.01,
        max_queue_s: float = 2.0,
        catch_up_s: float = math.inf,
    ) -> None:
        if sample_rate_hz < 1000 or n_channels < 1:
            raise SettingError(
                "A player needs at least 1000 Hz and 1 channel, "
                f"got {sample_rate_hz} Hz and {n_channels}."
            )
        if not 0.001 <= fade_s <= 1.0:
            raise SettingError(f"fade_s must lie between 0.001 and 1 s, got {fade_s}.")
        if not 0.0 <= lead_s <= 60.0:
            raise SettingError(f"lead_s must lie between 0 and 60 s, got {lead_s}.")
        if not max_queue_s >= lead_s + 2 * fade_s:
            raise SettingError(
                f"max_queue_s={max_queue_s} is too short for lead_s={lead_s} and "
                f"fade_s={fade_s}; make it at least {lead_s + 2 * fade_s:g} s."
            )
        if not catch_up_s > 0.0:
            raise SettingError(f"catch_up_s must be above 0, got {catch_up_s}.")
        self.sample_rate_hz = sample_rate_hz
        self.n_channels = n_channels
        self.ceiling_dbfs = ceiling_dbfs
        self._fade = max(1, round(fade_s * sample_rate_hz))
        self._lead = round(lead_s * sample_rate_hz)
        self._keep = round(min(max_queue_s, 1e6) * sample_rate_hz)
        self._catch_up = catch_up_s * sample_rate_hz
        self._low_since = 0  # sample rendered since when more than the lead has waited
        self._low = math.inf  # least that has waited when a sound came, since then
        self._limiter = Limiter(
            sample_rate_hz=sample_rate_hz,
            ceiling_dbfs=ceiling_dbfs,
            lookahead_s=min(0.0015, fade_s),
        )
        self._sounds = SoundQueue(
            sample_rate_hz=sample_rate_hz, n_channels=n_channels, fade=self._fade
        )
        self._taps: tuple[Callable[[NDArray[np.float32]], None], ...] = ()
        self._skips: tuple[Callable[[int], None], ...] = ()
        self._log: deque[Played] = deque(maxlen=_LOG_LENGTH)

        # Wishes, written by any thread and read by the audio thread: single assignments.
        self._due = False
        self._want_pause = False
        self._want_abort = False
        self._stalled = False

        # The audio thread's own.
        self._gains = fade_table(self._fade)
        self._level = 0  # 0 (silent) to `fade` (full): where in the fade table we are
        self._playing = False
        self._fading_out = False
        self._waited = 0  # samples of silence since there is sound again
        self._silenced = False
        self._labels: list[Label] = []  # of the samples that this block plays
        self._underruns = self._blocks = self._n_played = self._n_rendered = 0
        self._n_discarded = self._tap_errors = 0
        self._peak = np.float32(0.0)

    # -- any thread -----------------------------------------------------------------------------

    def queue(self, sound: Sound, *, filler: bool = False) -> None:
        """Add a sound after those that wait. Never blocks for longer than it takes to copy it.

        Parameters
        ----------
        sound : Sound
        filler : bool
            Something to go on with until the next sound comes; `drop_waiting` takes it back.

        Raises
        ------
        SettingError
            If rate or channels are not those of the player.
        """
        excess = self._excess()
        self._sounds.put(sound, filler=filler)
        self._due = True
        if self._want_abort or self._want_pause:
            self._sounds.drop_beyond(0, on_purpose=True)
        else:
            self._sounds.drop_beyond(min(self._keep, self._sounds.waiting - excess))

    def _excess(self) -> int:
        """Return how many samples have waited needlessly, for so long that they are to go."""
        waits = self._sounds.waiting + len(self._sounds.ahead)
        margin = round(_MARGIN_S * self.sample_rate_hz)
        if not self._playing or waits <= self._lead + margin:
            self._low_since, self._low = self._n_rendered, math.inf
            return 0
        self._low = min(self._low, waits)
        if self._n_rendered - self._low_since < self._catch_up:
            return 0
        excess = int(self._low) - self._lead
        self._low_since, self._low = self._n_rendered, math.inf
        return excess

    def drop_waiting(self, keep_s: float) -> None:
        """Take back filler that waits, the newest first, as long as `keep_s` go on waiting.

        Called just before a newer sound is queued: the join is a crossfade. What is no filler is
        never taken back.
        """
        keep = round(keep_s * self.sample_rate_hz) - len(self._sounds.ahead)
        self._sounds.drop_filler(max(0, keep))

    def finish(self) -> None:
        """No more sound is due: what waits is played to its end, and its end is no underrun.

        The next `queue` takes this back. Call it at the end of a session, and where a brain stream
        was lost, so that the silence after it is not held against the player.
        """
        self._due = False

    def pause(self) -> None:
        """Fade out; what waits, and what comes during the pause, is never played."""
        self._want_pause = True
        self._sounds.drop_beyond(0, on_purpose=True)

    def resume(self) -> None:
        """End a pause: play again from the next sound that comes, with a fade in."""
        self._want_pause = False

    def abort(self) -> None:
        """Fade out within the next block, then exact silence for ever."""
        self._want_abort = True
        self._sounds.drop_beyond(0, on_purpose=True)

    def interrupted(self, n_missed: int = 0) -> None:
        """Tell that the sink stood still: the next block fades in. Called by sinks.

        Parameters
        ----------
        n_missed : int
            Samples of time that passed without a block, if known.
        """
        self._stalled = True
        if n_missed > 0:
            for skip in self._skips:
                skip(n_missed)

    def add_tap(
        self,
        tap: Callable[[NDArray[np.float32]], None],
        skip: Callable[[int], None] | None = None,
    ) -> None:
        """Let others have what leaves, as a file of it does; both are called in the audio thread.

        Parameters
        ----------
        tap : callable
            `tap(block)` gets every block (n, n_channels). It must not block; the array is its to
            keep, not to change.
        skip : callable, optional
            `skip(n)` hears that time for n samples passed without a block.
        """
        self._taps = (*self._taps, tap)
        if skip is not None:
            self._skips = (*self._skips, skip)

    def observe_peak(self, peak: float) -> None:
        """Count a peak that was made behind the player, by resampling to a device's rate."""
        self._peak = max(self._peak, np.float32(peak))

    @property
    def aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._want_abort

    @property
    def idle(self) -> bool:
        """Whether all that was put in has left, faded to silence, and no more is due."""
        if self._want_abort:
            return self._silenced
        return not self._due and not self._playing and not self._sounds.has_any

    @property
    def state(self) -> PlayerState:
        """What the player is doing now."""
        if self._want_abort:
            return PlayerState.ABORTED
        if self._want_pause:
            return PlayerState.PAUSED
        return PlayerState.PLAYING if self._playing else PlayerState.WAITING

    @property
    def waiting_s(self) -> float:
        """Seconds of sound that wait."""
        return (self._sounds.waiting + len(self._sounds.ahead)) / self.sample_rate_hz

    @property
    def filler_s(self) -> float:
        """How many of these seconds `drop_waiting` can take back."""
        return self._sounds.filler / self.sample_rate_hz

    @property
    def lead_s(self) -> float:
        """Time from the first sound of a stretch to its first sample out; can be changed."""
        return self._lead / self.sample_rate_hz

    @lead_s.setter
    def lead_s(self, seconds: float) -> None:
        self._lead = round(seconds * self.sample_rate_hz)

    def can_render(self, n: int) -> bool:
        """Whether a block of `n` samples can be rendered now without an underrun (offline use)."""
        if not self._due:
            return not self.idle
        return self._sounds.waiting + len(self._sounds.ahead) >= n + self._fade

    def drain_played(self) -> list[Played]:
        """Return what has been played since the last call, in order, silence (seq -1) included."""
        drained: list[Played] = []
        while self._log:
            drained.append(self._log.popleft())
        return drained

    def statistics(self) -> PlaybackStatistics:
        """Return the counts so far."""
        rate = self.sample_rate_hz
        sounds = self._sounds
        return PlaybackStatistics(
            underruns=self._underruns,
            seconds_played=self._n_played / rate,
            seconds_rendered=self._n_rendered / rate,
            peak_dbfs=dbfs(float(self._peak)),
            dropped_s=(sounds.n_dropped_waiting + sounds.n_overlapped) / rate,
            discarded_s=(sounds.n_discarded_waiting + self._n_discarded) / rate,
            replaced_s=sounds.n_replaced / rate,
            n_invalid=sounds.n_invalid,
            blocks=self._blocks,
            waiting_s=self.waiting_s,
            tap_errors=self._tap_errors,
        )

    # -- audio thread ---------------------------------------------------------------------------

    def render_block(self, n: int, t_heard: float) -> NDArray[np.float32]:
        """Return the next `n` samples.

        Parameters
        ----------
        n : int
        t_heard : float
            When the first of them leaves the loudspeaker, s, LSL clock.

        Returns
        -------
        block : array of shape (n, n_channels), float32
            Never above the ceiling, never NaN.
        """
        out = np.zeros((n, self.n_channels), np.float32)
        m = 0 if self._silenced else self._render_sound(out, n)
        self._note(m, n, t_heard)
        self._peak = max(self._peak, np.abs(out).max(initial=0.0))
        for tap in self._taps:
            try:
                tap(out)
            except Exception:
                # Whoever listens (a file on a full disk) must not stop the sound; once is enough.
                if not self._tap_errors:
                    _log.exception("A listener to the sound failed; the sound goes on.")
                self._tap_errors += 1
        return out

    def _render_sound(self, out: NDArray[np.float32], n: int) -> int:
        """Write real sound to the front of `out`; return how many samples."""
        sounds = self._sounds
        # While fading out, only what is held counts: what comes now is played after the silence.
        held = len(sounds.ahead) if self._fading_out else sounds.fill(n + self._fade)
        if self._stalled:
            self._stalled = False
            self._level = 0
        if self._want_abort:
            return self._render_abort(out, n, held)
        if not self._playing and not self._start(n, held):
            return 0
        gains = self._plan(n, held)
        self._write(out, gains)
        if self._fading_out and self._level == 0:
            self._become_silent()
        return len(gains)

    def _start(self, n: int, held: int) -> bool:
        """Decide whether to begin to play with this block."""
        if self._want_pause:
            return False
        enough = held >= n + self._fade and self._waited >= self._lead
        if enough or (held and not self._due):
            self._playing, self._waited = True, 0
            return True
        if held:
            self._waited += n
        return False

    def _plan(self, n: int, held: int) -> NDArray[np.float32]:
        """Return the gain of each sample that is played in this block, at most `n`; up, then down.

        Also decides whether this is the moment at which playing turns to fading out.
        """
        fade, level = self._fade, self._level
        up, top = 0, level
        if not self._fading_out and self._want_pause:
            self._fading_out = True
        elif not self._fading_out:
            if held >= 2 * fade - level:
                up, top = held - fade, fade
            else:  # a sound shorter than two fades: up half way, then down
                top = level + max(0, held - level) // 2
                up = max(0, held - top)
            # Here `up` is how far to play on so that the whole way down still fits.
            if up >= n:
                up, top = n, min(level + n, top)
            else:
                self._fading_out = True
                self._underruns += self._due
        rising = np.minimum(level + np.arange(up), top)
        down = min(top, n - up, held - up) if self._fading_out else 0
        falling = top - 1 - np.arange(down)
        self._level = top - down
        if down == held - up:
            self._level = 0
        gains: NDArray[np.float32] = self._gains[np.concatenate([rising, falling])]
        return gains

    def _render_abort(self, out: NDArray[np.float32], n: int, held: int) -> int:
        """Fade from wherever we are to nothing, inside this block, and never sound again."""
        m = min(self._level, n, held)
        if m:
            level = self._level * (1.0 - np.arange(1, m + 1) / m) / self._fade
            self._write(out, np.asarray(np.sin(0.5 * np.pi * level) ** 2, np.float32))
        self._silenced = True
        self._become_silent()
        return m

    def _become_silent(self) -> None:
        self._playing = self._fading_out = False
        self._level = self._waited = 0
        self._limiter.reset()
        if self._want_pause or self._want_abort:
            self._n_discarded += self._sounds.clear_ahead()

    def _write(self, out: NDArray[np.float32], gains: NDArray[np.float32]) -> None:
        """Limit and fade the next samples into the front of `out`, and take them."""
        m = len(gains)
        limited = self._limiter.process(self._sounds.ahead[: m + self._limiter.lookahead], m)
        np.multiply(limited, gains[:, None], out=out[:m])  # gains are 1 at most
        self._labels = self._sounds.advance(m)

    def _note(self, m: int, n: int, t_heard: float) -> None:
        """Log and count `m` samples of sound, then `n - m` of silence."""
        at = 0
        for label in self._labels:
            t = t_heard + at / self.sample_rate_hz
            self._log.append(Played(label.seq, t, label.n, label.offset, label.brain_stop))
            at += label.n
        self._labels = []
        if n > m:
            self._log.append(Played(-1, t_heard + m / self.sample_rate_hz, n - m, 0))
        self._blocks += 1
        self._n_played += m
        self._n_rendered += n
