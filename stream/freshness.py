"""Which window is decoded next, and how long its sound may be: the present before the past.

The contract: the age of the newest brain sample behind each output is at most one hop, plus the
time the decoder takes, plus 50 ms. Two places keep it. `Freshest` leaves out windows that a decoder
slower than the hop cannot reach. `SoundClock` keeps the sound that waits in the player at `lead_s`,
whatever the windows and the loudspeaker's own clock do.

Sound that waits bridges what a busy machine does to us: a process that gets no processor for 20 to
50 ms is common on one that does anything else. While the decoder is quicker than the hop, a window
never waits for it, and of its hop in the contract up to 70 ms of sound may wait instead; when it
gets slower, what waits goes down to 35 ms (`lead_for`).
"""

from __future__ import annotations

import asyncio
import statistics
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from stream.messages import FeatureWindow

__all__ = ["LEAST_LEAD_S", "Batch", "Freshest", "SoundClock", "lead_for"]

# A sender that puts 100 ms of samples in one chunk completes five windows of 20 ms at once. They
# are one delivery, not a backlog: they are decoded in order and heard in order, up to this span.
BURST_S = 0.2
# A decoder this many hops slow may still finish what lies before the newest window.
_HARMLESS_HOPS = 0.25
# Deviations of the waiting sound below this are jitter; correcting them would be heard.
_TOLERANCE_S = 0.015
# Too much sound waiting, up to this, is taken back over several windows, none below half a hop.
_AT_ONCE_S = 0.05
# Sound that waits when a window's sound is added: at least, and as long as nothing speaks for less.
LEAST_LEAD_S = 0.035
_MOST_LEAD_S = 0.07
_SPARE_S = (
    0.02  # of the 50 ms, beside the lead: to arrive, features, rendering, a block of the sink
)
# The decoder counts as slow from so many hops on, and as quick again below the other.
_SLOW_HOPS = 0.8
_QUICK_HOPS = 0.6
_REMEMBERED = 8192
_ROUNDING_S = 1e-3


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows that one piece of the stream completed together."""

    number: int
    before: float  # s, t_stop of the newest window known before
    newest: float  # s, t_stop of the newest window in it


class Freshest:
    """Windows between features and decoder: bounded, closable, and only as old as is harmless.

    Each delivery is sent whole. The decoder takes windows in order as long as going through all
    that wait costs less than a quarter of a hop, or, within one delivery of at most 0.2 s, if the
    decoder is faster than the hop. Otherwise the oldest is left out, and `on_skip` is told. When
    the stream stops, the last window is left out too if a slow decoder gets to it a hop too late.

    Parameters
    ----------
    hop_s : float
        Time between two windows.
    on_skip : callable
        Called with each window that is left out.
    """

    def __init__(self, hop_s: float, on_skip: Callable[[FeatureWindow], None]) -> None:
        self._hop_s = hop_s
        self._on_skip = on_skip
        self._waiting: deque[FeatureWindow] = deque()
        self._changed = asyncio.Condition()
        self._closed = False
        self._costs: deque[float] = deque(maxlen=5)
        self._batches: OrderedDict[int, Batch] = OrderedDict()
        self._n_batches = 0
        self._newest = self._sent_at = float("-inf")

    @property
    def cost_s(self) -> float:
        """What decoding one window takes: the median of the last five, 0 before the first."""
        return statistics.median(self._costs) if self._costs else 0.0

    def took(self, seconds: float) -> None:
        """Note how long the decoder took for a window."""
        self._costs.append(seconds)

    def batch(self, window: FeatureWindow) -> Batch:
        """Return the delivery that a window came with."""
        return self._batches[window.seq]

    async def send(self, windows: Sequence[FeatureWindow]) -> None:
        """Put the windows of one delivery in; never waits for the decoder."""
        if not windows:
            return
        async with self._changed:
            before = self._newest if self._n_batches else windows[0].t_stop - self._hop_s
            self._newest = windows[-1].t_stop
            self._sent_at = asyncio.get_running_loop().time()
            batch = Batch(self._n_batches, before, self._newest)
            self._n_batches += 1
            for window in windows:
                self._waiting.append(window)
                self._batches[window.seq] = batch
            while len(self._batches) > _REMEMBERED:
                self._batches.popitem(last=False)
            self._leave_out()
            self._changed.notify_all()

    async def close(self) -> None:
        """No more windows will come; those that wait are still delivered."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FeatureWindow:
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: self._closed or bool(self._waiting))
                if not self._waiting:
                    raise StopAsyncIteration
                self._leave_out()
                window = self._waiting.popleft()
                if not self._overtaken_by_time():
                    return window
                self._on_skip(window)

    def _overtaken_by_time(self) -> bool:
        """Whether the newest window is old too: nothing came while a slow decoder was at work."""
        waited_s = asyncio.get_running_loop().time() - self._sent_at
        return self.cost_s > self._hop_s and waited_s > self._hop_s + _ROUNDING_S

    def _leave_out(self) -> None:
        cost = self.cost_s
        while len(self._waiting) > 1:
            oldest, newest = self._waiting[0], self._waiting[-1]
            span_s = newest.t_stop - oldest.t_stop - _ROUNDING_S
            harmless = (len(self._waiting) - 1) * cost <= _HARMLESS_HOPS * self._hop_s
            if harmless and span_s <= max(BURST_S, 2 * self._hop_s):
                return
            together = self._batches[oldest.seq].number == self._batches[newest.seq].number
            if together and cost <= self._hop_s and span_s <= BURST_S:
                return
            self._on_skip(self._waiting.popleft())


def lead_for(hop_s: float) -> float:
    """Return how much sound may wait while the decoder keeps up: part of the hop and the 50 ms."""
    return min(_MOST_LEAD_S, max(LEAST_LEAD_S, hop_s + 0.050 - _SPARE_S))


class SoundClock:
    """How many samples of sound the next window gets.

    Normally exactly its hop, counted in whole samples without drift. If the sound that already
    waits differs from what it should be by more than 15 ms (the decoder was late and the last
    sound was held, or the loudspeaker's clock has run away from the brain's), the window gets so
    much more or less that the waiting sound is right again.

    Parameters
    ----------
    sample_rate_hz : int
        Of the sound.
    hop_samples : int
        Between two windows, in samples of the stream.
    sfreq_hz : float
        Of the stream, as fast as it comes (a replay may be faster than what was recorded).
    lead_s : float
        Sound that should wait in the player when the sound of a window is put behind it.
    slow_lead_s : float, optional
        The same while the decoder is slower than the hop; as long if not given.

    Attributes
    ----------
    lead_s : float
        What holds now.
    slow : bool
        Whether the decoder is too slow to reach every window.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int,
        hop_samples: int,
        sfreq_hz: float,
        lead_s: float,
        slow_lead_s: float | None = None,
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.lead_s = self._lead_s = lead_s
        self._slow_lead_s = lead_s if slow_lead_s is None else min(lead_s, slow_lead_s)
        self.slow = False
        self.hop_s = hop_samples / sfreq_hz
        self._per_hop = Fraction(sample_rate_hz) * hop_samples / Fraction(sfreq_hz)
        self._owed = Fraction(0)

    def adapt(self, cost_s: float, *, reserve_s: float = 0.0) -> None:
        """Note what decoding and making sound take: they decide how much sound waits.

        Parameters
        ----------
        cost_s : float
            What decoding a window takes.
        reserve_s : float
            Sound that must wait when the making of some begins, or the player would starve in the
            meantime; 0 where that takes no time worth counting. A window on its way then finds it
            waiting, so that none must be held for it.
        """
        self.slow = cost_s > (_QUICK_HOPS if self.slow else _SLOW_HOPS) * self.hop_s
        self.lead_s = self._slow_lead_s if self.slow else self._lead_s
        if reserve_s > 0.0:
            on_its_way_s = _SPARE_S + (0.0 if self.slow else cost_s)
            self.lead_s = max(self.lead_s, reserve_s + on_its_way_s)

    def due_s(self, window: FeatureWindow, batch: Batch) -> float:
        """Return how much sound should wait before that of `window`, if the player plays."""
        since = max(batch.before, batch.newest - BURST_S - self.hop_s)
        # Windows of this delivery before it are heard before it.
        return self.lead_s + max(0.0, window.t_stop - self.hop_s - since)

    def exact(self) -> int:
        """Return the samples of the next hop; the fractions of a sample add up to whole ones."""
        self._owed += self._per_hop
        n = int(self._owed)
        self._owed -= n
        return n

    def too_late(self, window: FeatureWindow, batch: Batch) -> bool:
        """Tell whether a much newer window was known when this one came: its sound is left out."""
        return batch.newest - window.t_stop > BURST_S + _ROUNDING_S

    def n_samples(
        self, window: FeatureWindow, batch: Batch, waiting_s: float, *, begun: bool = True
    ) -> int:
        """Return the samples that the sound of `window` gets.

        Parameters
        ----------
        window : FeatureWindow
        batch : Batch
            The delivery it came with.
        waiting_s : float
            Sound that waits in the player now.
        begun : bool
            Whether the player plays; if not, it will let the lead pass by itself.

        Returns
        -------
        n : int
            0 if so much sound waits that there is room for none.
        """
        n = self.exact()
        due_s = self.due_s(window, batch) - (0.0 if begun else self.lead_s)
        excess_s = waiting_s - due_s
        if abs(excess_s) <= _TOLERANCE_S or (excess_s < 0 and not begun):
            return n
        shortest = n // 2 if excess_s <= _AT_ONCE_S else 0
        return max(shortest, n - round(excess_s * self.sample_rate_hz))
