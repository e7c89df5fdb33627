"""Where the time of each window went: in and out of every stage, on the LSL clock."""

from __future__ import annotations

from collections import Counter
from typing import Any

from models.errors import SettingError
from stream.json_lines import JsonLines
from stream.messages import FeatureWindow, Played
from stream.quantiles import Quantiles

__all__ = ["BOUNDARIES", "STAGES", "Tracer"]

# The life of a window is cut at these moments ...
BOUNDARIES = (
    "taken",  # the newest sample of the window was taken, or its volume was complete
    "arrived",  # ... was visible to readers of the timeline
    "features_in",
    "features_out",
    "decode_in",
    "decode_out",
    "sound_in",
    "sound_out",  # ... handed to the player, or its first piece where it comes in several
    "heard",  # the first sample of its sound left the loudspeaker
)
# ... into these stages, each from one boundary to the next, so that nothing lies between them.
STAGES = (
    "ingest",
    "features_wait",
    "features",
    "decode_wait",
    "decode",
    "sound_wait",
    "sound",
    "playback",
)
_OPEN = 8192  # windows under way; more would mean that windows end without being closed
_WITHIN_MS = 1.0  # the sum of the stages and the end-to-end time may differ by this


class Tracer:
    """Collect the times of all windows, and their percentiles (used from the event loop only).

    The end-to-end time is not the sum of the stages: it is what the player reports, `t_heard` of
    the first sample less the brain time that travelled with the sound. `mismatched` counts the
    windows where the two differ by more than 1 ms.

    Parameters
    ----------
    lines : JsonLines
        Takes one line for each window when its end is known.
    newest_before_stop_s : float
        From when the newest sample was taken to the window's `t_stop`: one sample period for EEG,
        whose samples are taken at their stamps; 0 for BOLD, whose volumes are complete at `t_stop`.
    """

    def __init__(
        self, lines: JsonLines | None = None, *, newest_before_stop_s: float = 0.0
    ) -> None:
        self._before_s = newest_before_stop_s
        self._lines = lines or JsonLines(None)
        self._open: dict[int, dict[str, float]] = {}
        self._stages = {name: Quantiles() for name in STAGES}
        self.age = Quantiles()  # ms, age of the newest sample when its sound is first heard
        self.handed_over = Quantiles()  # ms, the same when the sound is handed to the player
        self.outcomes: Counter[str] = Counter()
        self.mismatched = 0

    def open(self, window: FeatureWindow, arrived: float | None) -> None:
        """Begin the record of a window.

        Parameters
        ----------
        window : FeatureWindow
        arrived : float or None
            s, when the chunk that completed the window became visible. None: this is no live
            session, brain time and the time of computing have nothing to do with each other.
        """
        self._open[window.seq] = (
            {} if arrived is None else {"taken": window.t_stop - self._before_s, "arrived": arrived}
        )
        if len(self._open) > _OPEN:
            self.close(next(iter(self._open)), "forgotten")

    def mark(self, seq: int, boundary: str, at: float) -> None:
        """Note when a window crossed a boundary; a window that is closed already is left alone."""
        if boundary not in BOUNDARIES:
            raise SettingError(f"Unknown boundary {boundary!r}; expected one of {BOUNDARIES}.")
        marks = self._open.get(seq)
        if marks is not None:
            marks.setdefault(boundary, at)

    def close(self, seq: int, outcome: str) -> None:
        """End the record of a window that will not be heard ("stale", "error", "superseded")."""
        marks = self._open.pop(seq, None)
        if marks is not None:
            self._write(seq, marks, outcome, None)

    def played(self, played: Played) -> float | None:
        """End the record of the window that is now heard; return its age in ms, once."""
        marks = self._open.pop(played.seq, None)
        if marks is None:
            return None
        marks["heard"] = played.t_heard
        end_to_end = 1e3 * (played.t_heard - played.brain_stop + self._before_s)
        self.age.add(end_to_end)
        if "sound_out" in marks:
            self.handed_over.add(1e3 * (marks["sound_out"] - marks["taken"]))
        self._write(played.seq, marks, "heard", end_to_end)
        return end_to_end

    def close_all(self, outcome: str) -> None:
        """End all records: the session is over."""
        for seq in list(self._open):
            self.close(seq, outcome)

    @property
    def n_open(self) -> int:
        """Windows under way."""
        return len(self._open)

    def stage_ms(self) -> dict[str, dict[str, float | None]]:
        """Return p50 and p99 of each stage that has been passed, in ms."""
        return {name: q.summary() for name, q in self._stages.items() if q.n}

    def _write(
        self, seq: int, marks: dict[str, float], outcome: str, end_to_end: float | None
    ) -> None:
        stages: dict[str, float] = {}
        for name, entered, left in zip(STAGES, BOUNDARIES[:-1], BOUNDARIES[1:], strict=True):
            if entered in marks and left in marks:
                stages[name] = 1e3 * (marks[left] - marks[entered])
                self._stages[name].add(stages[name])
        self.outcomes[outcome] += 1
        total = sum(stages.values())
        if end_to_end is not None and not abs(total - end_to_end) <= _WITHIN_MS:
            self.mismatched += 1
        line: dict[str, Any] = {"seq": seq, "outcome": outcome, "at": marks, "stage_ms": stages}
        if end_to_end is not None:
            line |= {"end_to_end_ms": end_to_end, "sum_ms": total}
        self._lines.add(line)
