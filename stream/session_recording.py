"""What a live session records beside the brain: what was decoded, what was heard, what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stream.messages import Condition, Played
from stream.monitor import Observer

if TYPE_CHECKING:
    from stream.recorder import Recorder

__all__ = ["RecordingObserver"]

_LONGEST = 8_192  # samples; a longer stretch of one window's sound is noted in pieces


class RecordingObserver(Observer):
    """Writes into the XDF recording, stamped on the LSL clock of this machine.

    - ``hearback decoded``: what the decoder gave for each decoded window, at the window's end.
    - ``hearback decision``: seq, first and one-past-last sample, item, confidence; the same times.
    - ``hearback played``: seq (-1: silence), offset, samples, brain time behind them, at the moment
      when the first of these samples was heard.

    Parameters
    ----------
    recorder : Recorder
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._decoded: int | None = None
        self._decision = recorder.add_stream(
            "hearback decision",
            "Decision",
            5,
            labels=("seq", "start", "stop", "item", "confidence"),
            channel_format="double64",
        )
        self._played = recorder.add_stream(
            "hearback played",
            "Playback",
            4,
            labels=("seq", "offset", "n_samples", "brain_stop"),
            channel_format="double64",
        )
        self._run: Played | None = None  # consecutive samples of one window, not written yet

    def on_condition(self, condition: Condition) -> None:
        """Record what was decoded."""
        window = condition.window
        values = condition.values.reshape(1, -1)
        if self._decoded is None:
            shape = " x ".join(str(n) for n in condition.values.shape)
            self._decoded = self._recorder.add_stream(
                "hearback decoded", f"Decoded {shape}", values.shape[1]
            )
        stamp = [window.t_stop]
        self._recorder.write(self._decoded, stamp, values)
        row = [window.seq, window.start, window.stop, condition.item, condition.confidence]
        self._recorder.write(self._decision, stamp, np.array([row], np.float64))

    def on_played(self, played: Played) -> None:
        """Record what was heard, in stretches as long as they are one."""
        run = self._run
        if run is not None and run.seq == played.seq and run.n_samples < _LONGEST:
            if played.seq < 0 or run.offset + run.n_samples == played.offset:
                self._run = Played(
                    run.seq,
                    run.t_heard,
                    run.n_samples + played.n_samples,
                    run.offset,
                    run.brain_stop,
                )
                return
        self.finish()
        self._run = played

    def on_event(self, kind: str, details: dict[str, Any]) -> None:
        """Record what happened; gaps and states come with the source."""
        self._recorder.event({"kind": kind, **details})

    def finish(self) -> None:
        """Write the stretch that is not complete yet."""
        run = self._run
        self._run = None
        if run is not None:
            row = [run.seq, run.offset, run.n_samples, run.brain_stop]
            self._recorder.write(self._played, [run.t_heard], np.array([row], np.float64))
