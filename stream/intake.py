"""What one pull from a stream means: which samples, which are missing, and when each was taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.clock import CorrectionFilter
from stream.messages import Gap, GapReason
from stream.source_info import SourceInfo
from stream.timeline import Timeline

__all__ = ["Intake"]


class Intake:
    """Counts, checks and stamps what was pulled, and puts it on the timeline."""

    def __init__(self, info: SourceInfo, timeline: Timeline) -> None:
        self._info = info
        self._timeline = timeline
        self._next: int | None = None
        self._segment = 0
        self._last = -np.inf
        self._lost = False

    def connected(self, info: SourceInfo) -> None:
        """Note that the next samples are the first of a new connection."""
        self._lost = True
        self._info = info

    def feed(
        self,
        block: NDArray[np.generic],
        raw: NDArray[np.float64],
        *,
        now: float,
        correction: CorrectionFilter,
        stalled_s: float = 0.0,
    ) -> None:
        """Take in consecutive rows of a pull."""
        info, timeline = self._info, self._timeline
        stamps = np.maximum.accumulate(np.maximum(raw + correction.at(now), self._last))
        if info.counter_channel is None:
            first = self._next or 0
        else:
            count = int(block[0, -1])
            first = count if self._next is None else self._next + (count - self._next) % 2**24
            lost = first - (self._next or first)
            if lost:
                self._segment += 1
                reason = GapReason.SOURCE_LOST if self._lost else GapReason.DROPPED
                timeline.gap(Gap(reason, first - lost, lost, self._last, float(stamps[0]), now))
            timeline.count_sent(len(raw) + lost)
            block = block[:, :-1]
        timeline.append(
            block,
            stamps,
            raw,
            first,
            segment=self._segment,
            arrived=now,
            scale=info.scale if info.scales is None else info.scales,
        )
        self._lost = False
        self._next = first + len(raw)
        self._last = float(stamps[-1])
