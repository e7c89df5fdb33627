"""An event that sets itself."""

from __future__ import annotations

from threading import Event

__all__ = ["StopAt"]


class StopAt(Event):
    """Set once it was asked often enough.

    Parameters
    ----------
    after : int
        How often it says no.
    """

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.asked = 0

    def is_set(self) -> bool:
        """Return whether it was asked more than `after` times."""
        self.asked += 1
        return self.asked > self.after
