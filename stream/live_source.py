"""The brain stream of a live session: does it fit the bundle, and when is it over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from export.input_check import InputMatch, check_input
from export.manifest import Manifest
from models.errors import SourceError
from stream.config import LiveSettings
from stream.lsl import clock
from stream.lsl_source import LslSource
from stream.messages import SourceState, StateChange, TimelineEvent
from stream.timeline_reader import Reader

__all__ = ["Ending", "LiveSource"]

_LOOK_S = 0.05  # how soon the end of the time, or a stop, is noticed


@dataclass(slots=True)
class Ending:
    """Whether the session is to end, and why: the first reason counts."""

    wanted: bool = False
    reason: str = ""

    def ask(self, reason: str) -> None:
        """End the session: what has come in is still played."""
        self.reason = self.reason or reason
        self.wanted = True


class LiveSource:
    """The stream that a session listens to.

    Parameters
    ----------
    source : LslSource
        Started.
    manifest : Manifest
        Of the bundle that it is to fit.
    settings : LiveSettings
    ending : Ending
        Asked for when the source has ended or the time is up.

    Raises
    ------
    SourceError
        If the stream is not what the bundle was made for.
    """

    def __init__(
        self, source: LslSource, manifest: Manifest, settings: LiveSettings, ending: Ending
    ) -> None:
        self.source = source
        self.info = source.info
        self._settings = settings
        self._ending = ending
        self._lost_since: float | None = None
        self.match: InputMatch = check_input(
            manifest.input,
            name=self.info.name,
            n_channels=self.info.n_channels,
            sfreq_hz=self.info.recorded_sfreq_hz or self.info.sfreq_hz,
            labels=self.info.labels,
            bold=self.info.bold,
        )
        # From one sample to the next as it passes in this room.
        self.period_s = 1.0 / (self.info.sfreq_hz or manifest.input.sfreq_hz * self.info.speed)

    async def events(self, reader: Reader, *, t_start: float) -> AsyncIterator[TimelineEvent]:
        """Yield what the source brings, until there is a reason to stop.

        Parameters
        ----------
        reader : Reader
            Closed at the end.
        t_start : float
            When the session began, s, LSL clock.

        Raises
        ------
        SourceError
            If the source failed, or was lost for good.
        """
        seconds = self._settings.seconds
        until = t_start + seconds if seconds is not None else float("inf")
        ending = self._ending
        try:
            while not ending.wanted:
                for event in reader.read():
                    if isinstance(event, StateChange):
                        self._note_state(event)
                    yield event
                if reader.ended:
                    ending.ask("the source ended")
                elif clock() >= until:
                    ending.ask("the time was up")
                elif self._lost_since is not None:
                    self._check_lost(clock() - self._lost_since)
                else:
                    await _wait_for(reader)
                    continue
                await asyncio.sleep(0 if ending.wanted else _LOOK_S)
        finally:
            reader.close()

    def _note_state(self, change: StateChange) -> None:
        if change.state is SourceState.ENDED and change.detail.startswith("failed"):
            raise SourceError(f"Reading stream '{self._settings.stream}' {change.detail}.")
        lost = change.state in (SourceState.LOST, SourceState.STALLED)
        self._lost_since = (self._lost_since or change.raised) if lost else None

    def _check_lost(self, gone_s: float) -> None:
        settings = self._settings
        ours = self.info.first_index is not None
        if ours and self.source.state is SourceState.LOST and gone_s > settings.ended_after_s:
            self._ending.ask("the source closed its stream")
        elif gone_s > settings.give_up_s:
            raise SourceError(
                f"Stream '{settings.stream}' has been gone for {gone_s:.0f} s. Check its "
                "sender, and start again; what came before is recorded."
            )


async def _wait_for(reader: Reader) -> None:
    try:
        async with asyncio.timeout(_LOOK_S):
            await reader.wait_async()
    except TimeoutError:
        pass
