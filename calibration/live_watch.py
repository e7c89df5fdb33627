"""Whether brain and loudspeaker are still there while a calibration is played and recorded."""

from __future__ import annotations

from typing import Any

from models.errors import DeviceError, SourceError
from stream.lsl_source import LslSource
from stream.messages import Gap, SourceState
from stream.sinks import Sink

__all__ = ["BrainWatch", "SinkWatch"]

_PATIENCE_S = 2.0  # a stream that is late by less is late and not away
_LOOK_S = 0.1
_DEAD_S = 5.0  # a device that has failed for so long is gone


class BrainWatch:
    """Counts what was lost, tells when the stream goes and comes back, gives up at last.

    Parameters
    ----------
    source : LslSource
        Running.
    give_up_s : float
        A stream that is away for longer ends the session.
    """

    def __init__(self, source: LslSource, *, give_up_s: float) -> None:
        self.source = source
        self._give_up_s = give_up_s
        self._reader = source.timeline.reader("calibration", since="now")
        self._gaps: list[tuple[float, float]] = []  # s, from and to, where samples are missing
        self._next_look = 0.0
        self.away = False
        self.losses = 0

    @property
    def is_bold(self) -> bool:
        """Whether volumes come, and not samples of an amplifier."""
        return self.source.info.bold is not None or self.source.info.type.upper() == "BOLD"

    @property
    def period_s(self) -> float:
        """From one sample or volume to the next, s; 0 where nobody says."""
        info = self.source.info
        if info.sfreq_hz > 0:
            return 1.0 / info.sfreq_hz
        return info.bold.tr_s if info.bold is not None else 0.0

    @property
    def delivered(self) -> int:
        """Samples or volumes that have come."""
        return self.source.timeline.accounting().delivered

    @property
    def newest(self) -> float:
        """When the newest of them was taken, s, LSL clock; the end of a volume."""
        return self.source.timeline.newest_stamp + (self.period_s if self.is_bold else 0.0)

    def look(self, now: float) -> list[str]:
        """Take in what has come; return sentences if the stream has gone or is back."""
        if now < self._next_look:
            return []
        self._next_look = now + _LOOK_S
        for event in self._reader.read():
            if isinstance(event, Gap) and event.n_lost:
                self._gaps.append((event.t_start, event.t_stop))
        state = self.source.timeline.state_now
        patience_s = max(_PATIENCE_S, 2.5 * self.period_s)
        away = (
            state is not None
            and state.state is not SourceState.CONNECTED
            and now - state.since > patience_s
        )
        if away == self.away:
            return []
        self.away = away
        name = self.source.info.name
        if not away:
            return [f"Stream '{name}' is back; the session goes on."]
        self.losses += 1
        return [f"Stream '{name}' has stopped; the sound waits until it is back."]

    def check(self, now: float) -> None:
        """Give up a stream that is gone.

        Raises
        ------
        SourceError
            If it has been away for too long, or its thread has died.
        """
        name = self.source.info.name
        if self.source.error is not None:
            raise SourceError(f"Stream '{name}' cannot be read any more: {self.source.error}.")
        state = self.source.timeline.state_now
        if self.away and state is not None and now - state.since > self._give_up_s:
            raise SourceError(
                f"Stream '{name}' has been gone for {self._give_up_s:g} s. Start its sender again."
            )

    def whole(self, start: float, stop: float) -> bool:
        """Tell whether no sample is missing between two times, s."""
        return not any(begin < stop and end > start for begin, end in self._gaps)

    @property
    def told(self) -> str:
        """How the stream did, in a sentence."""
        account = self.source.timeline.accounting()
        return (
            f"{account.delivered} samples came, {account.lost} were lost in {len(self._gaps)} "
            f"gaps; the stream stopped {self.losses} times."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts."""
        account = self.source.timeline.accounting()
        return {
            "stream": self.source.info.name,
            "type": self.source.info.type,
            "sent": account.sent,
            "delivered": account.delivered,
            "lost": account.lost,
            "gaps": len(self._gaps),
            "stopped": self.losses,
        }


class SinkWatch:
    """Tells when the sound has trouble, and ends the session when a loudspeaker is gone.

    Parameters
    ----------
    sink : Sink
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._failure = ""
        self._since = 0.0
        self._next_look = 0.0

    def look(self, now: float) -> list[str]:
        """Return a sentence if something is wrong that was not wrong before."""
        if now < self._next_look:
            return []
        self._next_look = now + _LOOK_S
        failure = self._sink.statistics().failure
        new = bool(failure) and not self._failure
        if new:
            self._since = now
        self._failure = failure
        return [f"The sound has trouble: {failure}."] if new else []

    def check(self, now: float) -> None:
        """Give up a loudspeaker that is gone; a file that cannot be written stops nobody hearing.

        Raises
        ------
        DeviceError
            If it has failed for 5 s.
        """
        statistics = self._sink.statistics() if self._failure else None
        if statistics is None or statistics.name == "wav" or now - self._since < _DEAD_S:
            return
        raise DeviceError(
            f"The sound device does not work any more: {statistics.failure}. Connect it again, or "
            "choose another with --sink."
        )
