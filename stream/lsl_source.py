"""An EEG or BOLD stream from LSL, pulled by a thread of its own onto a timeline."""

from __future__ import annotations

import asyncio
import logging
import threading
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pylsl.util import LostError

from models.errors import SourceError
from stream.clock import CorrectionFilter
from stream.intake import Intake
from stream.lsl import StreamQuery, clock
from stream.messages import SourceState, StateChange
from stream.source import Source
from stream.stall_watch import StallWatch
from stream.timeline import Timeline

__all__ = ["LslSource"]

_LOG = logging.getLogger(__name__)

_PULL_S = 0.1  # longest wait inside liblsl: how soon `stop` and a stall are seen
_LOOK_EVERY_S = 1.0  # while stalled: has the stream been started anew?
_FIRST_CORRECTION_S = 5.0
_PLAUSIBLE_S = 10.0
_BLOCK_VALUES = 2**20  # values taken at once at most (a backlog comes in pieces)
_DTYPES: dict[str, type[np.generic]] = {
    "float32": np.float32,
    "double64": np.float64,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
}


class LslSource(Source):
    """A stream of samples or volumes, counted, stamped and kept connected.

    Parameters
    ----------
    query : StreamQuery or str
        Which stream; a string is its name.
    history_s : float
        How far a reader of `timeline` may fall behind.
    max_buflen_s : int
        Length of liblsl's own queue. While our process is stopped for longer, samples are lost
        (and listed in a gap as `GapReason.OVERFLOW`).
    timeout_s : float
        How long `start` looks for the stream.
    """

    def __init__(
        self,
        query: StreamQuery | str,
        *,
        history_s: float = 60.0,
        max_buflen_s: int = 360,
        timeout_s: float = 5.0,
    ) -> None:
        super().__init__(
            StreamQuery(name=query) if isinstance(query, str) else query,
            max_buflen_s=max_buflen_s,
            timeout_s=timeout_s,
        )
        self.history_s = history_s
        self._timeline: Timeline | None = None
        self._looked = -np.inf

    # ---------------------------------------------------------------- for those who use it

    def start(self) -> Self:
        """Find the stream, make the timeline, start to pull.

        Raises
        ------
        SourceError
            If the stream is not there, damaged, or one of strings.
        """
        if self._thread is not None:
            return self
        info = self._link.open(self.timeout_s)
        if info.format not in _DTYPES:
            self._link.close()
            raise SourceError(
                f"Stream {info.described} sends {info.format} values; expected numbers. "
                "Strings are recorded (--markers), not decoded; give --stream a stream of samples."
            )
        if not info.unit_known:
            _LOG.warning(
                "Stream '%s' gives %s; expected volts, e.g. microvolts. Its values are taken as "
                "they come.",
                info.name,
                f"the unit {info.unit!r}" if info.unit else "no unit",
            )
        self._info = info
        self._timeline = Timeline(info.n_channels, sfreq_hz=info.sfreq_hz, history_s=self.history_s)
        self._timeline.state(StateChange(SourceState.CONNECTED, clock(), clock(), info.described))
        self._thread = threading.Thread(target=self._run, name=f"lsl-{info.name}", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop pulling and let go of the stream; what was pulled stays on the timeline."""
        super().stop()
        if self._timeline is not None and not self._timeline.ended:
            self._timeline.state(StateChange(SourceState.ENDED, clock(), clock()))

    @property
    def timeline(self) -> Timeline:
        """Where the samples, gaps and changes of state appear."""
        if self._timeline is None:
            raise SourceError("The source was not started; call start() first.")
        return self._timeline

    @property
    def state(self) -> SourceState:
        """How the source is now."""
        change = self.timeline.state_now
        assert change is not None
        return change.state

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.stop))

    # ---------------------------------------------------------------- the pulling thread

    def _run(self) -> None:
        try:
            self._pull_all()
        except BaseException as error:
            _LOG.exception("The thread that pulls stream '%s' failed.", self.info.name)
            self.error = error
            now = clock()
            self.timeline.state(StateChange(SourceState.ENDED, now, now, f"failed: {error}"))
        finally:
            self._link.drop()

    def _pull_all(self) -> None:
        info = self.info
        most = max(1, min(4096, _BLOCK_VALUES // info.n_sent))
        block = np.empty((most, info.n_sent), _DTYPES[info.format])
        intake = Intake(info, self.timeline, max_buflen_s=self._link.max_buflen_s)
        watch = StallWatch(info.sfreq_hz, clock())
        while not self._stop.is_set():
            correction = self._link.correction
            alive = self._pull(block, intake, watch)
            if not alive:
                intake.flush(now=clock(), correction=correction)
                self._reconnect(intake, watch)
        intake.flush(now=clock(), correction=correction)

    def _pull(self, block: NDArray[Any], intake: Intake, watch: StallWatch) -> bool:
        """Pull once; return False if the connection is gone.

        The error must not travel on: its traceback would keep the inlet alive in this thread.
        """
        try:
            rows, raw = self._link.inlet.pull_chunk(
                _PULL_S, len(block), dest_obj=block, min_samples=1, as_numpy=True
            )
        except LostError:
            return False
        now = clock()
        correction = self._link.correction
        paused_s = watch.pulled(len(raw), now, asked_s=_PULL_S)
        if paused_s:
            intake.paused(paused_s, now=now)
        if len(raw):
            if not correction.ready:
                self._await_correction(correction, float(raw[-1]))
                now = clock()
            if self.state is not SourceState.CONNECTED:
                self._change(SourceState.CONNECTED, now, now)
            intake.feed(rows, raw, now=now, correction=correction)
            return True
        intake.tick(now=now, correction=correction)
        if not watch.stalled(now):
            return True
        if self.state is SourceState.CONNECTED:
            self._change(SourceState.STALLED, watch.last_arrival, now)
            self._looked = now
        if now - self._looked > _LOOK_EVERY_S:
            # A host that lost its power says no goodbye: the connection seems alive for hours.
            self._looked = now
            return not self._link.replaced()
        return True

    def _await_correction(self, correction: CorrectionFilter, newest: float) -> None:
        """Wait for the clock of another machine to be measured, unless it is known from before."""
        before = correction.provisional
        if before is not None and abs(newest + before - clock()) < _PLAUSIBLE_S:
            return
        deadline = clock() + _FIRST_CORRECTION_S
        while not correction.ready and clock() < deadline and not self._stop.wait(0.005):
            pass
        if not correction.ready:
            _LOG.warning("The clock of stream '%s' could not be measured.", self.info.name)

    def _reconnect(self, intake: Intake, watch: StallWatch) -> None:
        since = watch.last_arrival
        self._change(SourceState.LOST, since, clock())
        self._link.drop()
        info = self._link.reopen(
            self._stop, refused=lambda why: self._change(SourceState.LOST, since, clock(), why)
        )
        if info is not None:
            self._info = info
            intake.connected(info)
            watch.restart(clock())

    def _change(self, state: SourceState, since: float, now: float, detail: str = "") -> None:
        _LOG.info("Stream '%s' is %s.", self.info.name, state.value)
        self.timeline.state(StateChange(state, since, now, detail))
