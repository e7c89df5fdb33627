"""Real-time priority, so that other programs of the machine cannot make the sound run out."""

from __future__ import annotations

import os
import sys

from models.errors import SettingError

__all__ = ["ask_for_real_time", "be_ordinary", "is_real_time"]

_PRIORITY = 20  # of 1 to 99: above all ordinary programs, below the kernel's own threads


def ask_for_real_time() -> None:
    """Let this process come before all ordinary ones, with what it starts from now on.

    To be called before threads are made: those that there are stay as they are. Linux only;
    round-robin, of which the kernel leaves 5 % of each second to the rest of the machine.

    Raises
    ------
    SettingError
        If the system has no such priority, or does not allow it.
    """
    if sys.platform != "linux":
        raise SettingError("--realtime needs Linux. Leave it out, and close what else is running.")
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    except PermissionError as error:
        raise SettingError(
            "Real-time priority is not allowed to this user. Let a group have it (the line "
            "'@audio - rtprio 50' in /etc/security/limits.d/audio.conf, then log in again), or "
            "leave --realtime out."
        ) from error


def be_ordinary() -> None:
    """Give up a real-time priority that this process was started with; always allowed."""
    if is_real_time():
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def is_real_time() -> bool:
    """Return whether the calling thread comes before ordinary programs."""
    if sys.platform != "linux":
        return False
    return os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO)
