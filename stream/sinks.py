"""Where sound goes: a loudspeaker, a file or nowhere, all at the same pace.

`open_sink` makes one from what the command line says. Each asks the player for its next block when
that block is due; the offline one asks as fast as it can.
"""

from __future__ import annotations

from pathlib import Path

from models.errors import SettingError
from stream.offline_sink import OfflineSink
from stream.paced_sink import NullSink, PacedSink, Sink, SinkStatistics, WavSink, lsl_clock
from stream.playback import Player

__all__ = [
    "NullSink",
    "OfflineSink",
    "PacedSink",
    "Sink",
    "SinkStatistics",
    "WavSink",
    "lsl_clock",
    "open_sink",
]


def open_sink(spec: str, player: Player, *, block_s: float = 0.01) -> Sink:
    """Make the sink that `--sink` names; it starts with `start()` or as a context manager.

    Parameters
    ----------
    spec : str
        "device" (the default output), "device:NAME" (one whose name contains NAME), "null", or the
        path of a WAV file, which is replaced if it exists.
    player : Player
    block_s : float
        Length of a block, 1 ms to 1 s. A device may choose longer ones.

    Raises
    ------
    SettingError
        If `spec` is none of these.
    DeviceError
        If there is no PortAudio library, no output device, or not the named one.
    FileError
        If the file cannot be made.
    """
    kind, _, name = spec.partition(":")
    if spec == "null":
        return NullSink(player, block_s=block_s)
    if kind == "device":
        from stream.audio_device import DeviceSink

        return DeviceSink(player, device=name, block_s=max(block_s, 0.02))
    if spec.lower().endswith(".wav"):
        return WavSink(player, Path(spec), block_s=block_s)
    raise SettingError(
        "The sink must be 'device', 'device:NAME', 'null' or a file that ends in .wav, "
        f"got {spec!r}."
    )
