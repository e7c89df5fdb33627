"""What a live session keeps: its folder, the recording of all that came in, the sound played."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from stream.chain import Chain
from stream.config import LiveSettings
from stream.live_source import LiveSource
from stream.lsl_source import LslSource
from stream.monitor import Observer
from stream.playback import Player
from stream.recorder import Recorder
from stream.session_folder import SessionFolder
from stream.session_recording import RecordingObserver
from stream.sound_file import SoundFileWriter
from stream.summary import software_versions
from stream.text_source import TextSource
from stream.trace import Tracer

__all__ = ["LiveFiles", "session_settings"]


class LiveFiles:
    """The files of a session in one folder; they are open from the first sample on.

    Parameters
    ----------
    out : Path
        The folder.
    source : LiveSource
        Recorded as it comes.
    player : Player
        What it plays is kept too.
    on_failure : callable
        Told, in any thread, when something cannot be written. The session goes on.

    Raises
    ------
    FileError
        If the folder cannot be made, or holds a session.
    """

    def __init__(
        self, out: Path, source: LiveSource, player: Player, *, on_failure: Callable[[str], None]
    ) -> None:
        self.folder = SessionFolder(out)
        self.recorder = Recorder(out, on_failure=on_failure)
        self.recorder.start()
        self.recorder.add_source(
            source.info,
            source.source.timeline.reader("recorder"),
            clock_offsets=source.source.clock_offsets,
        )
        self._recording = RecordingObserver(self.recorder)
        self._played = SoundFileWriter(
            out / "played.wav",
            sample_rate_hz=player.sample_rate_hz,
            n_channels=player.n_channels,
        )
        player.add_tap(self._played.put, self._played.skip)
        self._on_failure = on_failure
        self._told = ""

    @property
    def observers(self) -> list[Observer]:
        """Those that write down what flows."""
        return [self.folder, self._recording]

    def add_markers(self, markers: LslSource | TextSource) -> None:
        """Record a stream of markers too."""
        self.recorder.add_source(
            markers.info, markers.timeline.reader("recorder"), clock_offsets=markers.clock_offsets
        )

    async def flush(self) -> None:
        """Write what waits; tell when that begins to fail."""
        await asyncio.to_thread(self.folder.flush)
        failure = self.folder.failure
        if failure and failure != self._told:
            self._on_failure(f"{failure}. The session goes on; what comes waits in memory.")
        self._told = failure

    async def close(self, tracer: Tracer | None) -> None:
        """Close all, after everything that brings something was stopped."""
        self._recording.finish()
        await asyncio.to_thread(self.recorder.close)
        await asyncio.to_thread(self._played.close)
        if tracer is not None:
            tracer.close_all("session ended")
            await asyncio.to_thread(self.folder.flush)

    def recorded(self) -> dict[str, Any]:
        """Return what was recorded, for the summary."""
        written = self.recorder.statistics()
        return {
            "path": str(written.path),
            "n_bytes": written.n_bytes,
            "failures": written.failures,
            "lost": written.lost,
            "streams": {stream.name: stream.written for stream in written.streams},
        }


def session_settings(
    settings: LiveSettings, name: str, bundle: Bundle, chain: Chain, source: LiveSource
) -> dict[str, Any]:
    """Return what the session was told and what it runs on, as settings.json has it."""
    info = source.info
    return {
        "command": "live",
        "session": name,
        **asdict(settings),
        "bundle_sha256": bundle.digest,
        "bundle_name": bundle.manifest.name,
        "participant": bundle.manifest.participant,
        "stream_described": info.described,
        "source_id": info.source_id,
        "speed": info.speed,
        "channels_left_out": source.match.left_out,
        "device_used": chain.device,
        "providers": chain.providers,
        "providers_of": chain.providers_of,
        "versions": software_versions(),
    }
