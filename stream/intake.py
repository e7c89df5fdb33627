"""What one pull from a stream means: which samples, which are missing, and when each was taken."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.clock import ClockMap
from stream.counting import SampleCount
from stream.messages import Gap, GapReason
from stream.source_info import SourceInfo
from stream.stamp_check import Repeats, StampCheck, mend_stamps
from stream.timeline import Timeline

__all__ = ["Intake"]

_HOLD_S = 0.1  # a jump that cannot be judged by then is judged by what there is
_SLOW_HZ = 20.0  # slower streams are judged at once: waiting for more would cost too much time
_OFF_LINE_S = 1.0  # a sender's stamps that lie off the line for longer are its new time
_AGREES_S = 2e-3  # the line holds across a gap if the stamps after it are this close to it
_AGREES_RATE = 300e-6
_DERIVED_S = 2e-6


class Correction(Protocol):
    """What `CorrectionFilter` offers to those who only use it."""

    def at(self, now: float) -> float:
        """Return what to add to raw stamps, s."""
        ...


@dataclass(slots=True, eq=False)
class _Piece:
    """Rows of one pull that follow one another, as far as the count can tell."""

    rows: NDArray[np.generic]  # without the counter
    raw: NDArray[np.float64]
    index: int
    n_lost: int = 0  # counted as missing just before
    counted: bool = True  # False: `n_lost` is a guess, or less than the truth
    cut: bool = False  # not known to follow what came before

    @property
    def stop(self) -> int:
        """Index one past the last row."""
        return self.index + len(self.raw)


class Intake:
    """Counts, checks and stamps what was pulled, and puts it on the timeline.

    Parameters
    ----------
    info : SourceInfo
        The stream.
    timeline : Timeline
        Where everything goes.
    max_buflen_s : float
        Length of liblsl's queue: samples older than this when they come were kept in a full one.
    """

    def __init__(self, info: SourceInfo, timeline: Timeline, *, max_buflen_s: float) -> None:
        self._timeline = timeline
        self._max_buflen_s = max_buflen_s
        self._info = info
        self._scale = info.scale if info.scales is None else info.scales
        self._floats = info.format in ("float32", "double64")
        self._count: SampleCount | None = None
        if info.counter_channel is not None:
            self._count = SampleCount(info.counter_modulo, first_index=info.first_index)
        self._clock: ClockMap | None = None
        if info.sfreq_hz > 0:
            self._clock = ClockMap(info.sfreq_hz)
            self._check = StampCheck(self._clock, counted=self._count is not None)
        self._index = 0  # next one, where nothing counts
        self._segment = 0
        self._last = -math.inf  # stamp of the sample before, local
        self._last_raw = -math.inf
        self._last_arrival = -math.inf
        self._reconnected: bool | None = False  # True: and the count starts again; None: perhaps
        self._is_new = False
        self._paused_until = -math.inf
        self._repeats = Repeats(self._scale)
        self._held: list[_Piece] = []
        self._held_since = 0.0
        self._off_since: float | None = None  # since when the stamps are not believed
        self._derived = False  # because they were derived from one that was dropped

    def connected(self, info: SourceInfo) -> None:
        """Note that the next samples are the first of a new connection to the same stream."""
        before = self._info.first_index
        began = info.first_index is not None and info.first_index == before
        self._reconnected = True if began else None
        self._is_new = True
        self._info = info

    def paused(self, seconds: float, *, now: float) -> None:
        """Note that nothing was pulled for a while because our own process did not run."""
        if seconds >= 0.5 * self._max_buflen_s:
            # What the queue dropped meanwhile shows as the backlog behind it is worked off.
            self._paused_until = now + seconds + 5.0

    def feed(
        self,
        block: NDArray[np.generic],
        raw: NDArray[np.float64],
        *,
        now: float,
        correction: Correction,
    ) -> None:
        """Take in what one pull gave.

        Parameters
        ----------
        block : array of shape (n, channels sent)
            In the stream's own number format; not kept.
        raw : array of shape (n,), float64
            As the sender stamped it, s.
        now : float
            Local LSL time, s.
        correction : Correction
            From the sender's clock to ours.
        """
        if not math.isfinite(float(raw.sum())):
            due = now - correction.at(now)
            period = self._clock.period_s if self._clock is not None else 0.0
            if math.isfinite(self._last_raw):
                due = self._last_raw + period
            raw = mend_stamps(raw, due=due, period_s=period)
        if self._count is None:
            pieces = self._cut_by_stamps(block, raw, now)
        else:
            pieces = self._cut_by_count(self._count, block, raw, now)
        for piece in pieces:
            self._take(piece, now, correction)
        self._last_arrival = now

    def tick(self, *, now: float, correction: Correction) -> None:
        """Let go of what is held back for too long; called when nothing was pulled."""
        if self._held and now - self._held_since > _HOLD_S:
            self._release(now, correction, at_once=True)

    def flush(self, *, now: float, correction: Correction) -> None:
        """Let go of all that is held back: nothing will follow on this connection."""
        self._release(now, correction, at_once=True)

    # ---------------------------------------------------------------- which samples

    def _cut_by_count(
        self,
        count: SampleCount,
        block: NDArray[np.generic],
        raw: NDArray[np.float64],
        now: float,
    ) -> list[_Piece]:
        counts, rows = block[:, -1], block[:, :-1]
        if not self._is_new and count.is_next(counts):
            return [_Piece(rows, raw, count.advance(len(raw)))]
        pieces: list[_Piece] = []
        for run in count.runs(
            counts,
            raw,
            last_raw=self._last_raw,
            period_s=self._clock.nominal_s if self._clock else 0.0,
            restarted=self._reconnected if self._is_new else False,
        ):
            part = slice(run.start, run.stop)
            if run.kind == "behind":
                self._leave_out(run.index, run.stop - run.start, run.n_late, now)
                continue
            again = run.kind == "restarted"
            pieces.append(
                _Piece(
                    rows[part],
                    raw[part],
                    run.index,
                    n_lost=run.n_lost,
                    counted=not again,
                    cut=again or run.n_lost > 0 or (self._is_new and not pieces),
                )
            )
        return pieces

    def _cut_by_stamps(
        self, block: NDArray[np.generic], raw: NDArray[np.float64], now: float
    ) -> list[_Piece]:
        if self._clock is not None and raw[0] <= self._last_raw:
            again = 0 if self._held else self._repeats.count(block, raw, self._timeline)
            if again:
                self._leave_out(self._index - again, again, 0, now)
                block, raw = block[again:], raw[again:]
        self._repeats.remember(raw)
        if not len(raw):
            return []
        edges = self._check.edges(raw) if self._clock is not None else [0, len(raw)]
        pieces = []
        for start, stop in pairwise(edges):
            pieces.append(_Piece(block[start:stop], raw[start:stop], -1, counted=False))
        pieces[0].cut = self._is_new
        return pieces

    def _leave_out(self, index: int, n: int, n_late: int, now: float) -> None:
        """Note samples that came again, or after they had been listed as lost."""
        period = self._clock.period_s if self._clock else 0.0
        following = self._count.next_index if self._count else self._index
        due = self._last - (following - 1 - index) * period
        for reason, number in ((GapReason.LATE, n_late), (GapReason.DUPLICATE, n - n_late)):
            if number:
                gap = Gap(reason, index, 0, due, due + n * period, now, n_extra=number)
                self._timeline.gap(gap if self._count else replace(gap, counted=False))

    # ---------------------------------------------------------------- when they were taken

    def _take(self, piece: _Piece, now: float, correction: Correction) -> None:
        """Judge the stamps of a piece, or hold it back until they can be judged."""
        clock = self._clock
        if piece.cut:
            self._release(now, correction, at_once=True)
        if piece.index < 0:
            piece.index = self._held[-1].stop if self._held else self._index
        if clock is None or not clock.started:
            self._deliver(piece, now, correction, cut=piece.n_lost > 0)
        elif piece.cut:
            self._after_gap(piece, now, correction)
        elif self._off_since is not None:
            self._off_line(piece, now, correction)
        elif self._held or self._check.suspicious(
            self._check.shift(piece.index, piece.raw), period_s=len(piece.raw) * clock.nominal_s
        ):
            if not self._held:
                self._held_since = now
            # Copied: the block is the puller's, and will be filled again.
            self._held.append(replace(piece, rows=piece.rows.copy(), raw=piece.raw.copy()))
            late = now - self._held_since > _HOLD_S or self._info.sfreq_hz < _SLOW_HZ
            self._release(now, correction, at_once=late)
        else:
            self._deliver(piece, now, correction)

    def _release(self, now: float, correction: Correction, *, at_once: bool) -> None:
        """Judge what is held back; hand it on if that can be done."""
        if not self._held:
            return
        last = self._held[-1]
        late_by = self._check.shift(last.index, last.raw)
        shift = self._check.judge(late_by, at_once=at_once)
        if shift is None:
            return
        held, self._held = self._held, []
        if shift:
            self._jump(held[0], shift, now, correction)
        else:
            # A single late packet bends the line hardly at all; of a backlog that was stamped
            # when it left, the line says more than the stamps do.
            back = abs(late_by) <= self._check.limit_s
            self._off_since = None if back else now
            self._deliver(held[0], now, correction, learn=back)
        for piece in held[1:]:
            if self._count is None:
                piece.index = self._index
            self._deliver(piece, now, correction, learn=self._off_since is None)

    def _off_line(self, piece: _Piece, now: float, correction: Correction) -> None:
        """Go by the line, not by the stamps, until they are back on it, or off it for too long."""
        assert self._off_since is not None
        shift = self._check.shift(piece.index, piece.raw)
        if abs(shift) <= (self._agrees_s() if self._derived else self._check.limit_s):
            self._on_line()
            self._deliver(piece, now, correction)
            return
        agreed = None if self._derived else self._check.judge(shift, at_once=False)
        if agreed or now - self._off_since > _OFF_LINE_S:
            self._on_line()
            self._jump(piece, shift, now, correction)
            return
        self._deliver(piece, now, correction, learn=False)

    def _on_line(self) -> None:
        self._off_since, self._derived = None, False
        self._check.reset()

    def _jump(self, piece: _Piece, shift: float, now: float, correction: Correction) -> None:
        """Follow stamps that moved for good: samples were lost, or the sender's time was set."""
        assert self._clock is not None
        if self._count is None:
            piece.n_lost = self._lost_by_time(shift, now)
            piece.index += piece.n_lost
        if piece.n_lost == 0:
            self._clock.restart()
        self._deliver(piece, now, correction, cut=True)

    def _lost_by_time(self, shift: float, now: float) -> int:
        """Return how many samples a jump of the stamps means; 0 if it cannot mean lost samples."""
        assert self._clock is not None
        if shift > now - self._last_arrival + self._max_buflen_s + 2.0:
            return 0  # more than there was time for: the sender's clock was set
        return max(0, round(shift / self._clock.period_s))

    def _after_gap(self, piece: _Piece, now: float, correction: Correction) -> None:
        """Find whether the line still holds after lost samples, or with a new sender."""
        clock = self._clock
        assert clock is not None
        self._on_line()
        if self._count is None:
            piece.n_lost = self._lost_by_time(float(piece.raw[0]) - clock.predict(piece.index), now)
            piece.index += piece.n_lost
        shift = self._check.shift(piece.index, piece.raw)
        if abs(shift) > self._agrees_s() + _AGREES_RATE * piece.n_lost * clock.nominal_s:
            step = float(piece.raw[0]) - self._last_raw
            # liblsl dropped samples from the sender's queue, and with them the stamp from which
            # this one should have been derived; the next one that was sent will be right.
            self._derived = not self._is_new and abs(step - clock.nominal_s) < _DERIVED_S
            if self._derived and shift < 0:
                self._off_since = now
            else:
                self._derived = False
                clock.restart()
        jumped = abs(shift) > 0.75 * clock.nominal_s or not piece.counted
        self._deliver(
            piece, now, correction, cut=piece.n_lost > 0 or jumped, learn=self._off_since is None
        )

    def _agrees_s(self) -> float:
        assert self._clock is not None
        return max(_AGREES_S, 8 * self._clock.noise_s)

    # ---------------------------------------------------------------- onto the timeline

    def _deliver(
        self,
        piece: _Piece,
        now: float,
        correction: Correction,
        *,
        cut: bool = False,
        learn: bool = True,
    ) -> None:
        """Stamp a piece and append it, after the gap before it if there is one."""
        raw, n = piece.raw, len(piece.raw)
        if self._clock is None:
            stamps = raw + correction.at(now)
        elif learn or not self._clock.started:
            stamps = self._clock.update(piece.index, raw) + correction.at(now)
        else:
            stamps = self._clock.expected(piece.index, n) + correction.at(now)
        if stamps[0] < self._last or self._clock is None:
            stamps = np.maximum.accumulate(np.maximum(stamps, self._last))
        if cut:
            self._raise_gap(piece, float(stamps[0]), now)
        if self._count is not None:
            self._timeline.count_sent(n + piece.n_lost)
        if self._floats and not np.isfinite(piece.rows).all():
            self._raise_invalid(piece, stamps, now)
        self._timeline.append(
            piece.rows,
            stamps,
            raw,
            piece.index,
            segment=self._segment,
            arrived=now,
            scale=self._scale,
        )
        self._is_new = False
        self._index = piece.stop
        self._last, self._last_raw = float(stamps[-1]), float(raw[-1])

    def _raise_gap(self, piece: _Piece, t_stop: float, now: float) -> None:
        if self._is_new:
            reason = GapReason.SOURCE_LOST
        elif now < self._paused_until or now - t_stop > 0.8 * self._max_buflen_s:
            reason = GapReason.OVERFLOW
        else:
            reason = GapReason.DROPPED
        period = self._clock.period_s if self._clock is not None else 0.0
        self._segment += 1
        self._timeline.gap(
            Gap(
                reason,
                piece.index - piece.n_lost,
                piece.n_lost,
                min(self._last + period, t_stop),
                t_stop,
                now,
                counted=piece.counted,
            )
        )

    def _raise_invalid(self, piece: _Piece, stamps: NDArray[np.float64], now: float) -> None:
        """Point out NaN and infinite values; the samples themselves are kept as they came."""
        bad = np.flatnonzero(~np.isfinite(piece.rows).all(axis=1))
        first, last = int(bad[0]), int(bad[-1])
        period = self._clock.period_s if self._clock is not None else 0.0
        self._timeline.gap(
            Gap(
                GapReason.INVALID,
                piece.index + first,
                0,
                float(stamps[first]),
                float(stamps[last]) + period,
                now,
                n_extra=len(bad),
            )
        )
