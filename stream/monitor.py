"""What the stages report to: counts, digests, the trace, the limit of errors, and observers.

Everything here runs in the event loop and is quick. Whoever wants to see what flows (recorder,
outlets, telemetry, a demo that scores) is an `Observer`; the stages do not know who looks on.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from models.errors import StageError
from stream.messages import (
    Condition,
    FeatureWindow,
    Gap,
    Played,
    Sound,
    SourceState,
    StateChange,
)
from stream.trace import Tracer

__all__ = ["Monitor", "Observer"]

_log = logging.getLogger(__name__)


class Observer:
    """Sees what flows; a subclass overrides what it wants. Called in the event loop: be quick.

    An exception in an observer is a bug in the wiring and ends the session.
    """

    def on_gap(self, gap: Gap) -> None:
        """Hear of a place where the stream is not whole."""

    def on_state(self, change: StateChange) -> None:
        """Hear that the source was lost, stalled, is back, or has ended."""

    def on_window(self, window: FeatureWindow) -> None:
        """See each window, in order, whether it will be decoded or not."""

    def on_condition(self, condition: Condition) -> None:
        """See what a window was decoded to."""

    def on_sound(self, sound: Sound) -> None:
        """See a sound on its way to the player."""

    def on_played(self, played: Played) -> None:
        """See what was heard, silence (seq -1) included."""

    def on_event(self, kind: str, details: dict[str, Any]) -> None:
        """Hear of anything else: a failed stage, a skipped window, a command."""


class Monitor:
    """Counts and digests of a session, and the limit of errors.

    Parameters
    ----------
    tracer : Tracer
    max_stage_errors : int
        So many failures of one stage in a row end the session.
    observers : iterable of Observer
    """

    def __init__(
        self,
        tracer: Tracer | None = None,
        *,
        max_stage_errors: int = 5,
        observers: Iterable[Observer] = (),
    ) -> None:
        self.tracer = tracer or Tracer()
        self.max_stage_errors = max_stage_errors
        self.observers = list(observers)
        self.windows = 0
        self.decoded = 0
        self.skipped: Counter[str] = Counter()  # reason -> windows that were not decoded
        self.silent: Counter[str] = Counter()  # reason -> decoded, but never sounded
        self.errors: Counter[str] = Counter()  # stage -> failures
        self.gaps = 0
        self.source_state = SourceState.CONNECTED
        self._in_a_row: Counter[str] = Counter()
        self._features = hashlib.sha256()
        self._decisions = hashlib.sha256()

    # -- what comes in ---------------------------------------------------------------------------

    def gap(self, gap: Gap) -> None:
        """Count a gap."""
        self.gaps += 1
        for observer in self.observers:
            observer.on_gap(gap)

    def state(self, change: StateChange) -> None:
        """Note how the source is."""
        self.source_state = change.state
        for observer in self.observers:
            observer.on_state(change)

    # -- windows ---------------------------------------------------------------------------------

    def window(self, window: FeatureWindow, arrived: float | None) -> None:
        """Count a window and begin its trace; `arrived` is None where there is no live source."""
        self.windows += 1
        self._features.update(window.values.tobytes())
        self.tracer.open(window, arrived)
        for observer in self.observers:
            observer.on_window(window)

    def stale(self, window: FeatureWindow) -> None:
        """Count a window that the decoder could not reach in time."""
        self._skip(window.seq, "stale")

    def _skip(self, seq: int, reason: str) -> None:
        self.skipped[reason] += 1
        self.tracer.close(seq, reason)
        self.event("skipped", seq=seq, reason=reason)

    def condition(self, condition: Condition) -> None:
        """Count a decoded window."""
        window = condition.window
        self.decoded += 1
        where = np.array([window.seq, window.start, window.stop, condition.item], "<i8")
        self._decisions.update(where.tobytes())
        self._decisions.update(np.ascontiguousarray(condition.values, "<f4").tobytes())
        if condition.tokens is not None:
            self._decisions.update(np.ascontiguousarray(condition.tokens, "<f4").tobytes())
        for observer in self.observers:
            observer.on_condition(condition)

    def unheard(self, window: FeatureWindow, reason: str) -> None:
        """Count a decoded window that is left out of the sound."""
        self.silent[reason] += 1
        self.tracer.close(window.seq, reason)

    def sound(self, sound: Sound) -> None:
        """Show a sound to the observers."""
        for observer in self.observers:
            observer.on_sound(sound)

    def played(self, played: Played) -> None:
        """Note what was heard."""
        if played.seq >= 0:
            self.tracer.played(played)
        for observer in self.observers:
            observer.on_played(played)

    # -- trouble ---------------------------------------------------------------------------------

    def worked(self, stage: str) -> None:
        """Note that a stage did its work: its failures in a row are over."""
        self._in_a_row[stage] = 0

    def failed(self, stage: str, seq: int, error: Exception) -> None:
        """Count the failure of a stage for one window, say so, and end the session if it repeats.

        Raises
        ------
        StageError
            If the stage has now failed `max_stage_errors` times in a row.
        """
        self.errors[stage] += 1
        self._in_a_row[stage] += 1
        _log.error("Stage '%s' failed for window %d: %s", stage, seq, error, exc_info=error)
        if stage == "sound":
            self.silent["error"] += 1
            self.tracer.close(seq, "error")
            self.event("failed", stage=stage, seq=seq, error=_described(error))
        else:
            self.event("failed", stage=stage, seq=seq, error=_described(error))
            self._skip(seq, "error")
        if self._in_a_row[stage] >= self.max_stage_errors:
            raise StageError(
                f"Stage '{stage}' failed {self._in_a_row[stage]} times in a row, last with "
                f"{_described(error)}. The session was ended; what came in is recorded. Check the "
                "bundle with `hearback run` on the recording."
            ) from error

    def event(self, kind: str, **details: Any) -> None:
        """Tell the observers that something happened."""
        for observer in self.observers:
            observer.on_event(kind, details)

    # -- results ---------------------------------------------------------------------------------

    @property
    def skipped_windows(self) -> int:
        """Windows that were made but not decoded."""
        return sum(self.skipped.values())

    @property
    def features_sha256(self) -> str:
        """Digest of the features of all windows, in order: float32, little-endian."""
        return self._features.hexdigest()

    @property
    def decisions_sha256(self) -> str:
        """Digest of each decoded window: seq, start, stop, item (int64), then float32 values."""
        return self._decisions.hexdigest()


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
