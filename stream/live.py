"""A live session: a brain stream in, sound out, everything recorded, and a summary at the end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable

from stream.config import LiveSettings
from stream.live_session import LiveSession
from stream.monitor import Observer
from stream.stages import Companion, Decoder
from stream.summary import Summary

__all__ = ["LiveSession", "run_live"]

# Python lets another thread run after this; its default of 5 ms is most of the sound's margin.
_SWITCH_INTERVAL_S = 0.001


def run_live(
    settings: LiveSettings,
    *,
    companion: Companion | None = None,
    observers: Iterable[Observer] = (),
    on_message: Callable[[str], None] | None = None,
    wrap_decoder: Callable[[Decoder], Decoder] | None = None,
) -> Summary:
    """Run a live session to its end.

    It ends when `settings.seconds` are over, when the source has ended, or on an abort (key `a`,
    MQTT, SIGINT), after which `Summary.aborted` is true and the command line leaves with 4. A
    stream that is lost is waited for: `give_up_s`, or `ended_after_s` if it is one of ours (it
    says so in its description), because a replay or demo closes its stream when it has ended.

    Parameters
    ----------
    settings : LiveSettings
    companion : callable, optional
        Given each decoded `Sound` (one channel), returns what is played on the left beside it.
    observers : iterable of Observer
        See what flows.
    on_message : callable, optional
        Told sentences for the operator, in the event loop's thread; the log if not given.
    wrap_decoder : callable, optional
        For benchmarks: given the decoder, returns the one that is used.

    Returns
    -------
    summary : Summary
        Also written to `settings.out`/summary.json.

    Raises
    ------
    BundleError, SourceError, SettingError, FileError, DeviceError
        Before any sound, if something does not fit.
    SourceError
        If the source was lost for good.
    StageError
        If a stage failed too often in a row; the sound was faded out and the recording closed.
    """
    session = LiveSession(
        settings,
        companion=companion,
        observers=observers,
        on_message=on_message,
        wrap_decoder=wrap_decoder,
    )
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        return asyncio.run(session.run())
    finally:
        sys.setswitchinterval(before)
