"""Opens and closes what tells the world of a live session: LSL outlets, MQTT, feedback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from export.bundle import Bundle
from stream.chain import Chain
from stream.config import LiveSettings
from stream.feedback import FeedbackValue
from stream.live_report import live_counts
from stream.lsl import clock
from stream.lsl_source import LslSource
from stream.messages import Command
from stream.monitor import Monitor
from stream.outlets import Outlets
from stream.outputs import Outputs
from stream.playback import Player
from stream.recorder import Recorder

if TYPE_CHECKING:
    from stream.telemetry import Telemetry

__all__ = ["LiveOutputs"]

_LATENCY_EVERY_S = 1.0


class LiveOutputs:
    """The outputs of a session; they are there from before its first window to after its last.

    Made in the event loop in which the commands are to be given.

    Parameters
    ----------
    settings : LiveSettings
    name : str
        Of the session.
    bundle, chain
        What decodes.
    recorder : Recorder, optional
    on_command : callable
        Given each command that comes over MQTT.

    Raises
    ------
    SettingError
        If the name or the MQTT address cannot be used.
    """

    def __init__(
        self,
        settings: LiveSettings,
        name: str,
        bundle: Bundle,
        chain: Chain,
        *,
        recorder: Recorder | None,
        on_command: Callable[[Command], None],
    ) -> None:
        manifest = bundle.manifest
        self._publish_at = 0.0
        self._outlets: Outlets | None = None
        self._telemetry: Telemetry | None = None
        if settings.outlets:
            self._outlets = Outlets(
                name, manifest.chain, bundle=bundle.digest, lag_s=manifest.lag_s
            )
        if settings.mqtt is not None:
            from stream.telemetry import Telemetry

            self._telemetry = Telemetry(
                settings.mqtt,
                name,
                on_command=on_command,
                loop=asyncio.get_running_loop(),
                clock=clock,
            )
        if self._outlets is not None:
            self._outlets.start()
        if self._telemetry is not None:
            self._telemetry.start()
            self._telemetry.state("starting", bundle=bundle.digest)
        self.feedback = FeedbackValue(manifest.chain, chain.library)
        self.observer = Outputs(
            self.feedback,
            stream=settings.stream,
            clock=clock,
            outlets=self._outlets,
            telemetry=self._telemetry,
            recorder=recorder,
            library=chain.library,
        )

    def tick(self, monitor: Monitor, player: Player, source: LslSource) -> None:
        """Tell what is told once a second; called more often."""
        self.observer.tell_skipped()
        if self._telemetry is not None and clock() >= self._publish_at:
            self._publish_at = clock() + _LATENCY_EVERY_S
            self.observer.latency(monitor, live_counts(monitor, player, source))

    async def close(self, state: str) -> None:
        """Publish the last state, and close."""
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.close, state=state)
        if self._outlets is not None:
            await asyncio.to_thread(self._outlets.close)
