"""When a source that is still connected has been silent for too long, or we have not looked."""

from __future__ import annotations

import math

__all__ = ["StallWatch"]

_SILENCE_S = 0.2
_SLACK_S = 0.1
_FADE = 0.98  # a pull: long intervals are forgotten after some fifty shorter ones
_PAUSED_S = 0.25


class StallWatch:
    """Learns how often samples come and tells when they should have come.

    Silence is a stall after 1.5 times the longest usual interval and 0.1 s, at least 0.2 s: within
    250 ms or five chunks, whichever is more. An irregular stream is never stalled.
    """

    def __init__(self, sfreq_hz: float, now: float) -> None:
        self._period = 1 / sfreq_hz if sfreq_hz > 0 else math.inf
        self._interval = max(self._period, 0.1)
        self._pulled_at = now
        self._was_paused = False
        self.last_arrival = now

    def restart(self, now: float) -> None:
        """Begin anew on a new connection."""
        self._pulled_at = self.last_arrival = now

    def pulled(self, n: int, now: float, *, asked_s: float) -> float:
        """Note a pull of `n` samples that was to wait `asked_s` at most.

        Returns
        -------
        paused : float
            For how long our own process did not run, s; 0.0 if it ran as it should.
        """
        paused = now - self._pulled_at - asked_s
        self._pulled_at = now
        self._was_paused = paused > _PAUSED_S
        if n:
            usual = max(self._period, min(n * self._period, now - self.last_arrival))
            if not self._was_paused:
                self._interval = max(usual, self._interval * _FADE)
            self.last_arrival = now
        return paused if self._was_paused else 0.0

    @property
    def limit_s(self) -> float:
        """Silence that counts as a stall, s."""
        return max(_SILENCE_S, 1.5 * self._interval + _SLACK_S)

    def stalled(self, now: float) -> bool:
        """Whether nothing has come for too long although we have been looking."""
        return not self._was_paused and now - self.last_arrival > self.limit_s
