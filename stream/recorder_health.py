"""What is wrong with a recording now, told once for each outage."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Health"]

logger = logging.getLogger(__name__)


class Health:
    """Troubles by kind, one sentence each; any thread may report and clear them.

    Parameters
    ----------
    on_failure : callable
        Told the sentence of each new trouble. What it raises is logged and forgotten: the
        recorder must outlive whoever listens to it.
    """

    def __init__(self, on_failure: Callable[[str], None]) -> None:
        self._on_failure = on_failure
        self._troubles: dict[str, str] = {}
        self._lock = threading.Lock()
        self.count = 0  # troubles so far

    def report(self, kind: str, sentence: str) -> bool:
        """Note a trouble and tell it, unless one of its kind is known; return whether it is new."""
        with self._lock:
            if kind in self._troubles:
                return False
            self._troubles[kind] = sentence
            self.count += 1
        logger.error("Recording: %s", sentence)
        try:
            self._on_failure(sentence)
        except Exception:
            logger.exception("The listener to recording failures failed itself.")
        return True

    def clear(self, kind: str) -> bool:
        """Forget a trouble that is over; return whether there was one."""
        with self._lock:
            return self._troubles.pop(kind, None) is not None

    @property
    def first(self) -> str | None:
        """The oldest trouble that is not over, or None."""
        with self._lock:
            return next(iter(self._troubles.values()), None)
