"""A sink that plays as fast as it can, in the time of the samples."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.paced_sink import SinkStatistics
from stream.playback import Player
from stream.safe_file import say_why
from stream.sound_file import WavFile

__all__ = ["OfflineSink"]


class OfflineSink:
    """Plays as fast as it can, in the time of the samples; for `hearback run` and for tests.

    Call `pump` after each sound that was queued, and `finish` at the end.

    Parameters
    ----------
    player : Player
        Made with `lead_s=0`: nobody waits here.
    path : Path, optional
        WAV file, replaced if it exists. None: nothing is written.
    block_s : float
    t_start : float
        When the first sample is heard, s, on the recording's clock.

    Raises
    ------
    FileError
        If the file cannot be made.
    """

    def __init__(
        self,
        player: Player,
        path: Path | None = None,
        *,
        block_s: float = 0.01,
        t_start: float = 0.0,
    ) -> None:
        self._player = player
        self._block = max(1, round(block_s * player.sample_rate_hz))
        self._t_start = t_start
        self._n = self._blocks = 0
        self._file: WavFile | None = None
        if path is not None:
            # Written directly: nobody is disturbed by waiting for the disk, and a full disk is an
            # error here, not something to live with.
            self._file = WavFile(
                path, sample_rate_hz=player.sample_rate_hz, n_channels=player.n_channels
            )

    def pump(self) -> int:
        """Render all that can be rendered without an underrun; return the samples rendered.

        Raises
        ------
        FileError
            If the disk is full or gone.
        """
        before = self._n
        while self._player.can_render(self._block):
            self._render(self._block)
        return self._n - before

    @property
    def position(self) -> int:
        """Where the next sound will begin if nothing is done: samples from the start."""
        return self._n + round(self._player.waiting_s * self._player.sample_rate_hz)

    def silence_until(self, position: int) -> None:
        """Play what waits, with a fade at its end, and then silence up to `position`.

        Raises
        ------
        FileError
            If the disk is full or gone.
        """
        self._player.finish()
        while self._n < position:
            self._render(min(self._block, position - self._n))

    def _render(self, n: int) -> None:
        block = self._player.render_block(n, self._t_start + self._n / self._player.sample_rate_hz)
        self._n += n
        self._blocks += 1
        if self._file is not None:
            self._write(self._file, block)

    def _write(self, file: WavFile, block: NDArray[np.float32]) -> None:
        try:
            file.write(block)
        except OSError as error:
            file.close()
            self._file = None
            raise FileError(
                f"Writing {file.path} stopped after {self._n / file.sample_rate_hz:.1f} s: "
                f"{say_why(error)}. Free space on that disk, or choose another, and run it again."
            ) from error

    def finish(self) -> int:
        """Render the rest, close the file; return the samples rendered in all.

        Raises
        ------
        FileError
            If the disk is full or gone.
        """
        self._player.finish()
        self.pump()
        if self._file is not None:
            self._file.close()
        return self._n

    def start(self) -> None:
        """Begin: nothing to do."""

    def stop(self) -> None:
        """Stop: the same as `finish`."""
        self.finish()

    def statistics(self) -> SinkStatistics:
        """Return the counts so far."""
        return SinkStatistics("offline", self._player.sample_rate_hz, self._blocks, 0, 0.0, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
