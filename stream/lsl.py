"""Lab Streaming Layer as hearback uses it: this machine only unless asked, and finding streams."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import pylsl
from pylsl.util import LostError, TimeoutError  # noqa: A004 - liblsl's own, not Python's

from models.errors import SettingError, SourceError
from stream.source_info import COUNTER_LABEL, COUNTER_MODULO, BoldInfo, SourceInfo, read_info

__all__ = [
    "COUNTER_LABEL",
    "COUNTER_MODULO",
    "BoldInfo",
    "SourceInfo",
    "StreamQuery",
    "clock",
    "config_text",
    "configure",
    "find_streams",
    "resolve",
    "search",
]

# With this, liblsl sends to 127.0.0.1 and to nothing else; its default floods every network card
# with multicast, and streams of other labs show up here. Level -3 keeps its thread from writing
# over the operator's terminal: what matters there is raised by us as events. Of several programs on
# one machine only one hears the first question, all hear the second, which by default is asked
# 0.5 s later: here 0.1 s are plenty. Each question keeps a UDP port until its longest time is over;
# these come from the same 32 as those of the senders, and a sender that gets none of them cannot be
# found. So the longest times (by default 3 and 5 s) are short too, and there are more ports.
_LOOPBACK = """[ports]
IPv6 = disable
PortRange = 256
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {session}
[log]
level = -3
[tuning]
MulticastMinRTT = 0.1
MulticastMaxRTT = 0.25
UnicastMinRTT = 0.1
UnicastMaxRTT = 0.25
"""
_LAN = """[lab]
SessionID = {session}
[log]
level = -3
"""
_MIN_WAIT_S = 1.0  # shorter finds 1 or 2 of 4 streams of one machine

_SEARCH_S = 1.0  # one call: with a user's own configuration the second question comes after 0.5 s

_configured = False
_lock = threading.Lock()


def configure(*, lan: bool = False) -> None:
    """Set liblsl up, once, before any other call to it.

    Streams are sent and looked for on this machine only, unless `lan` is true or HEARBACK_LSL=lan.
    A user's own LSLAPICFG is left alone, and with `lan` their lsl_api.cfg too. HEARBACK_LSL_SESSION
    names a session of its own: only streams of the same session are seen.

    Raises
    ------
    SettingError
        If the name of the session could not stand in a configuration file.
    """
    global _configured
    with _lock:
        if _configured:
            return
        session = os.environ.get("HEARBACK_LSL_SESSION")
        lan = lan or os.environ.get("HEARBACK_LSL", "").lower() == "lan"
        # In the whole network a lab's own lsl_api.cfg holds, wherever liblsl finds it.
        if not os.environ.get("LSLAPICFG") and (session is not None or not lan):
            pylsl.set_config_content(
                config_text("default" if session is None else session, lan=lan)
            )
        _configured = True


def config_text(session: str, *, lan: bool = False) -> str:
    """Return the configuration that `configure` gives to liblsl, as its configuration file.

    Raises
    ------
    SettingError
        If the name of the session could not stand in such a file.
    """
    if not session or not all(char.isalnum() or char in "-_." for char in session):
        raise SettingError(
            f"HEARBACK_LSL_SESSION is {session!r}; expected letters, digits, '-', '_' and '.'."
        )
    return (_LAN if lan else _LOOPBACK).format(session=session)


def clock() -> float:
    """Return the local LSL time, s."""
    now: float = pylsl.local_clock()
    return now


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """What to look for; an empty entry matches any stream."""

    name: str = ""
    type: str = ""
    source_id: str = ""

    @property
    def described(self) -> str:
        """What is looked for, in words."""
        parts = [
            f"{what} '{value}'"
            for what, value in (
                ("named", self.name),
                ("of type", self.type),
                ("with source id", self.source_id),
            )
            if value
        ]
        return " ".join(["LSL stream", *parts])

    @property
    def predicate(self) -> str:
        """The XPath predicate that liblsl sends to every stream that it can reach."""
        pairs = (("name", self.name), ("type", self.type), ("source_id", self.source_id))
        return " and ".join(f"{tag}={_quoted(value)}" for tag, value in pairs if value)


def find_streams(wait_s: float = 1.0) -> list[SourceInfo]:
    """Return all streams that can be reached, with their descriptions, sorted by name.

    Waits at least 1 s: a shorter look misses streams. A stream that dies meanwhile, or whose
    description is damaged, is listed with what its announcement says, or not at all.
    """
    configure()
    found = []
    for info in pylsl.resolve_streams(max(wait_s, _MIN_WAIT_S)):
        try:
            found.append(read_info(full_info(info, timeout_s=2.0)))
        except SourceError:
            try:
                found.append(read_info(info))
            except SourceError:
                continue
    return sorted(found, key=lambda item: (item.name, item.source_id))


def resolve(
    name: str = "",
    type: str = "",  # noqa: A002 - the word that LSL uses
    *,
    source_id: str = "",
    timeout_s: float = 5.0,
) -> Any:
    """Return the `pylsl.StreamInfo` of one stream; the newest if several match.

    Raises
    ------
    SourceError
        If there is none after `timeout_s`; the message names what was found instead.
    SettingError
        If nothing at all was asked for.
    """
    query = StreamQuery(name, type, source_id)
    if not query.predicate:
        raise SettingError("Say which stream is wanted: its name, its type or its source id.")
    found = search(query, timeout_s=timeout_s)
    if found is not None:
        return found
    others = [
        f"'{other.name()}' ({other.type()}, {other.channel_count()} channel"
        f"{'s' if other.channel_count() != 1 else ''})"
        for other in pylsl.resolve_streams(_MIN_WAIT_S)
    ]
    listed = ", ".join(sorted(others)[:20]) or "no streams at all"
    raise SourceError(
        f"No {query.described} after {timeout_s:.1f} s. Found: {listed}. "
        "Start the sender, or correct the name."
    )


def search(query: StreamQuery, *, timeout_s: float) -> Any | None:
    """Return the newest stream that matches, or None after `timeout_s`."""
    configure()
    deadline = clock() + timeout_s
    while True:
        left = deadline - clock()
        found = pylsl.resolve_bypred(query.predicate, 1, min(_SEARCH_S, max(left, 0.02)))
        if found:
            return max(found, key=lambda info: float(info.created_at()))
        if left <= _SEARCH_S:
            return None


def full_info(info: Any, *, timeout_s: float) -> Any:
    """Ask a stream for its whole description.

    Raises
    ------
    SourceError
        If it does not answer within `timeout_s`.
    """
    inlet = pylsl.StreamInlet(info, max_buflen=1, recover=False)
    try:
        return inlet.info(timeout_s)
    except (LostError, TimeoutError) as error:
        raise SourceError(
            f"Stream '{info.name()}' is announced but does not answer. Restart its sender."
        ) from error


def _quoted(text: str) -> str:
    """Return an XPath 1.0 string; it has no escapes, so mixed quotes need concat()."""
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    parts = ', "\'", '.join(f"'{part}'" for part in text.split("'"))
    return f"concat({parts})"
