"""A wish to stop a training: everything is saved after the step that is being done."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from threading import Event

from stream.stopping import stop_on_signals

__all__ = ["save_on_signals"]

_log = logging.getLogger(__name__)


def save_on_signals() -> AbstractContextManager[Event]:
    """Return a context whose event Ctrl-C and SIGTERM set, and say so."""
    return stop_on_signals(lambda number: _log.info("Signal %d: saving after this step.", number))
