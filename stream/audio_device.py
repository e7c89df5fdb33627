"""The loudspeaker: a PortAudio output stream that asks a player for its blocks."""

from __future__ import annotations

import atexit
import ctypes
import logging
import threading
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import DeviceError
from stream.paced_sink import SinkStatistics, lsl_clock
from stream.playback import Player
from stream.rate_converter import RateConverter

__all__ = ["DacClock", "DeviceSink"]

_log = logging.getLogger(__name__)

_INSTEAD = (
    "Meanwhile, '--sink FILE.wav' writes the sound to a file and '--sink null' plays nowhere."
)

# Longer than any output buffer: a device that says so does not know.
_LONGEST_LATENCY_S = 2.0

# A device that has not asked for a block for this long hangs.
_LONGEST_SILENCE_S = 1.0
_LONGEST_CLOSE_S = 3.0


class DacClock:
    """When the first sample of each block is heard, from what the device says, without its jitter.

    PortAudio's times jump by a millisecond or so between callbacks, while samples leave a device
    evenly. So each block is expected where the last one ended, and corrected by a small part of
    what the device says; after a jump beyond `tolerance_s` (an underflow), it is believed at once.

    Parameters
    ----------
    sample_rate_hz : float
    tolerance_s : float
    gain : float
        Part of the difference that is corrected with each block.
    """

    def __init__(
        self, sample_rate_hz: float, *, tolerance_s: float = 0.02, gain: float = 0.05
    ) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._tolerance_s = tolerance_s
        self._gain = gain
        self._expected = float("nan")

    def jumped(self) -> None:
        """Believe what the device says next: samples were lost."""
        self._expected = float("nan")

    def heard(self, said: float, n: int) -> float:
        """Return when the first of the next `n` samples is heard, given what the device said."""
        difference = said - self._expected
        if abs(difference) <= self._tolerance_s:  # False the first time: NaN
            t = self._expected + self._gain * difference
        else:
            t = said
        self._expected = t + n / self._sample_rate_hz
        return t


class DeviceSink:
    """Play through an audio device.

    The device is opened by the constructor, at the player's rate if it can run at that, otherwise
    at its own with conversion behind the player. A mono player sounds on both sides.

    Parameters
    ----------
    player : Player
    device : str
        Part of a device's name, or its number; empty: the default output.
    block_s : float
        Length of a block.

    Raises
    ------
    DeviceError
        If there is no PortAudio library, no output device, or it cannot be opened.
    """

    def __init__(self, player: Player, *, device: str = "", block_s: float = 0.02) -> None:
        self._player = player
        self._clock = lsl_clock()
        self._sounddevice = _load_sounddevice()
        self._blocks = self._stalls = 0
        self._failure = ""
        self._stopped = False
        self._last_asked = float("inf")  # s, when the device last asked for a block
        self._render: Callable[[int, float], NDArray[np.float32]] = player.render_block
        self._stream, self.sample_rate_hz, self._channels, self.device_name = self._open(
            int(device) if device.isdigit() else device, block_s
        )
        if self.sample_rate_hz != player.sample_rate_hz:
            self._render = RateConverter(player, self.sample_rate_hz).render_block
        self._dac = DacClock(self.sample_rate_hz)

    def start(self) -> None:
        """Begin to play.

        Raises
        ------
        DeviceError
            If the device refuses.
        """
        self._last_asked = self._clock()
        try:
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise DeviceError(
                f"The audio device '{self.device_name}' did not start: {error}. "
                f"Close other programs that use it. {_INSTEAD}"
            ) from error

    def stop(self) -> None:
        """Play what the device has in its buffer, then release it. Harmless when called twice."""
        if self._stopped:
            return
        self._stopped = True
        # PortAudio waits for ever for a sound server that hangs; we do not.
        closing = threading.Thread(target=self._close, name="close audio device", daemon=True)
        closing.start()
        closing.join(_LONGEST_CLOSE_S)
        if closing.is_alive():
            _log.warning("The audio device '%s' does not answer; left open.", self.device_name)
            _leave_open(self._sounddevice, self._stream)

    def _close(self) -> None:
        try:
            self._stream.stop()
            self._stream.close()
        except self._sounddevice.PortAudioError as error:
            _log.warning("Closing the audio device '%s' failed: %s.", self.device_name, error)

    def statistics(self) -> SinkStatistics:
        """Return the counts so far; what a device missed is known to it alone."""
        silent_s = self._clock() - self._last_asked
        if not self._failure and not self._stopped and silent_s > _LONGEST_SILENCE_S:
            # The device may come back, so this is told and not kept.
            return self._told(f"the device has not asked for sound for {silent_s:.1f} s")
        return self._told(self._failure)

    def _told(self, failure: str) -> SinkStatistics:
        return SinkStatistics(
            name=f"device '{self.device_name}'",
            sample_rate_hz=self.sample_rate_hz,
            blocks=self._blocks,
            stalls=self._stalls,
            missed_s=0.0,
            failure=failure,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _open(self, device: int | str, block_s: float) -> tuple[Any, int, int, str]:
        """Return the stream, its rate, its channels and the device's name."""
        sd = self._sounddevice
        try:
            found = sd.query_devices(device if device != "" else None, "output")
        except (sd.PortAudioError, ValueError) as error:
            names = [one["name"] for one in sd.query_devices() if one["max_output_channels"] > 0]
            wanted = f"No audio output device {device!r}" if device != "" else "No audio output"
            raise DeviceError(
                f"{wanted}; found: {', '.join(names) or 'none'}. "
                f"Connect one or start the sound server. {_INSTEAD}"
            ) from error
        own_rate = round(found["default_samplerate"])
        channels = self._player.n_channels
        attempts = [
            (rate, count)
            for rate in (self._player.sample_rate_hz, own_rate)
            # Raw hardware often has no mono mode, and some loudspeakers have nothing else.
            for count in dict.fromkeys([channels, max(2, channels), 1])
            if count <= found["max_output_channels"]
        ]
        problem: Exception | None = None
        for rate, count in attempts:
            try:
                stream = sd.OutputStream(
                    samplerate=rate,
                    blocksize=round(block_s * rate),
                    device=found["index"],
                    channels=count,
                    dtype="float32",
                    latency=2 * block_s,
                    callback=self._callback,
                    finished_callback=self._on_finished,
                )
            except sd.PortAudioError as error:
                problem = error
            else:
                return stream, rate, count, str(found["name"])
        raise DeviceError(
            f"The audio device '{found['name']}' cannot be opened with float32 sound at "
            f"{self._player.sample_rate_hz} or {own_rate} Hz: {problem}. "
            f"Choose another with '--sink device:NAME'. {_INSTEAD}"
        ) from problem

    def _callback(self, out: NDArray[np.float32], n: int, time: Any, status: Any) -> None:
        """Fill the device's next block. Runs in PortAudio's thread; an exception would end it."""
        try:
            if status.output_underflow:
                self._stalls += 1
                self._dac.jumped()
                if self._blocks:
                    self._player.interrupted()
            ahead = time.outputBufferDacTime - time.currentTime
            if not 0.0 <= ahead <= _LONGEST_LATENCY_S:
                ahead = float(self._stream.latency)
            self._last_asked = now = self._clock()
            block = self._render(n, self._dac.heard(now + ahead, n))
            out[:] = self._fit(block)
            self._blocks += 1
        except Exception as error:
            out[:] = 0.0
            if not self._failure:
                self._failure = f"{type(error).__name__}: {error}"
                _log.exception("Rendering for the audio device failed; it plays silence.")

    def _fit(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the block with as many channels as the device was opened with."""
        if block.shape[1] == self._channels:
            return block
        if self._channels == 1:
            mono: NDArray[np.float32] = block.mean(axis=1, keepdims=True)
            return mono
        fitted = np.zeros((len(block), self._channels), np.float32)
        fitted[:, : block.shape[1]] = block
        if block.shape[1] == 1:
            fitted[:, 1] = block[:, 0]
        return fitted

    def _on_finished(self) -> None:
        if not self._stopped:
            self._failure = self._failure or "the device stopped by itself (unplugged?)"
            _log.error("The audio device '%s' stopped: %s.", self.device_name, self._failure)


def _leave_open(sounddevice: ModuleType, stream: Any) -> None:
    """Let the process end while PortAudio's threads still wait for a sound server that hangs.

    At exit, sounddevice would end PortAudio, which waits for that server for ever; and Python would
    unload the library under its running threads, a segmentation fault. Neither name is public in
    sounddevice 0.5; without them the exit is what it would have been.
    """
    at_exit = getattr(sounddevice, "_exit_handler", None)
    if at_exit is not None:
        atexit.unregister(at_exit)
    library = getattr(sounddevice, "_libname", None)
    if library is not None:
        ctypes.CDLL(library)  # never closed again, so the library stays
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))  # and the callback with it


def _load_sounddevice() -> ModuleType:
    try:
        import sounddevice
    except OSError as error:  # what the import raises when there is no shared library
        raise DeviceError(
            "The PortAudio library is missing. Install it: 'apt-get install libportaudio2' on "
            f"Debian and Ubuntu, 'brew install portaudio' on macOS. {_INSTEAD}"
        ) from error
    module: ModuleType = sounddevice
    return module
