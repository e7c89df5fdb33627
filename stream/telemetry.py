"""What a session tells the world over MQTT, and the commands that it takes from it.

Topics and payloads are in `TOPICS`; every payload is one JSON object with ``"v": 1``, the name of
the ``session``, and ``t``, seconds on the LSL clock. Numbers that are not finite become null.

Quality of service: `state` and `event` are sent at least once (QoS 1), since each matters; `state`
is retained, so that who comes later sees it, and the broker itself says "offline" when the session
dies (last will). `feedback` and `latency` are sent at most once (QoS 0): only the present matters,
and a late one would be wrong. Commands are taken at least once (QoS 1); see `stream.commands` for
who may give them. Nothing is kept by the broker for a session that is away: a command given while
it was not connected is not carried out later. The broker must speak MQTT 5 (Mosquitto since 1.6).

The connection lives in a thread of its own with an event loop of its own. What the session calls
puts a message into a bounded queue and returns: a dead, slow or hanging broker costs the oldest
messages, counted, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from models.errors import SettingError
from stream.commands import PAYLOAD_MAX_BYTES, CommandGate
from stream.json_lines import finite
from stream.messages import Command
from stream.mqtt_address import MqttAddress, check_session_name, parse_mqtt_url
from stream.mqtt_link import MqttLink
from stream.outbox import Outbox, OutgoingMessage

__all__ = ["SCHEMA", "TOPICS", "Telemetry", "TelemetryStatistics", "Topic"]

logger = logging.getLogger(__name__)

SCHEMA = 1
_WARN_EVERY_S = 10.0
_PAYLOAD_OUT_MAX = 16_384  # characters; brokers may refuse more


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic below `<prefix>/<session>/`, as the README lists it."""

    name: str
    direction: str  # "out" or "in"
    qos: int
    retained: bool
    waiting: int  # messages that may wait for the broker; older ones are dropped
    payload: str


# In the order in which they are served.
TOPICS: tuple[Topic, ...] = (
    Topic(
        "state",
        "out",
        1,
        True,
        1,
        '{"v", "session", "t", "state": "starting" | "running" | "paused" | "source lost" | '
        '"aborted" | "ended" | "failed" | "offline", "unix_ms", "detail": {...}}',
    ),
    Topic(
        "event",
        "out",
        1,
        False,
        256,
        '{"v", "session", "t", "kind": "gap" | "source" | "command" | "failed" | ..., '
        '"detail": {...}}',
    ),
    Topic(
        "latency",
        "out",
        0,
        False,
        1,
        '{"v", "session", "t", "age_ms": {"p50", "p99"}, "stage_ms": {NAME: {"p50", "p99"}}, '
        '"counts": {...}}, each second',
    ),
    Topic(
        "feedback",
        "out",
        0,
        False,
        64,
        '{"v", "session", "t", "value": 0...1, "seq", "t_brain", "age_ms", "label"}, each window; '
        "t_brain is the end of the window, s",
    ),
    Topic(
        "command",
        "in",
        1,
        False,
        64,
        '{"v", "command": "pause" | "resume" | "abort" | "prompt", "argument"}, signed if a secret '
        "is set",
    ),
)
_BY_NAME = {topic.name: topic for topic in TOPICS}


@dataclass(frozen=True, slots=True)
class TelemetryStatistics:
    """What has happened so far."""

    sent: int
    dropped: int  # the broker did not take them in time
    connections: int
    commands: int
    refused: int  # messages on the command topic that were no command for us


class Telemetry:
    """A session on an MQTT broker.

    Parameters
    ----------
    url : str
        ``mqtt://[user:password@]host[:port]/[prefix]``, or mqtts:// for TLS with the system's
        certificates. The prefix is "hearback" if not given.
    session_name : str
        Letters, digits, '.', '_' and '-'.
    on_command : callable, optional
        Called with each command, in the telemetry's thread, or in `loop` if that is given.
    loop : event loop, optional
        Where `on_command` is called.
    secret : str, optional
        What commands must be signed with; HEARBACK_MQTT_SECRET if not given.
    clock : callable, optional
        The LSL clock, s.

    Raises
    ------
    SettingError
        If the URL, the name or the secret is not usable.
    """

    def __init__(
        self,
        url: str,
        session_name: str,
        *,
        on_command: Callable[[Command], None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        secret: str | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if clock is None:
            from stream.lsl import clock as lsl_clock

            clock = lsl_clock
        self.address: MqttAddress = parse_mqtt_url(url)
        self.session_name = check_session_name(session_name)
        secret = secret or os.environ.get("HEARBACK_MQTT_SECRET") or None
        self._gate = CommandGate(
            self.session_name, secret=secret, trusted=self.address.on_this_machine
        )
        self._clock = clock
        self._on_command = on_command
        self._command_loop = loop
        self._base = f"{self.address.prefix}/{self.session_name}"
        self._outbox = Outbox({t.name: t.waiting for t in TOPICS if t.direction == "out"})
        self._state: OutgoingMessage | None = None
        self._warned_at = -float("inf")
        self._unwarned = 0
        self._commands = self._refused = 0
        listens = on_command is not None and self._gate.open
        self._link = MqttLink(
            self.address,
            self._base,
            self._outbox,
            last_will=self._last_will,
            on_connect=self._say_state_again,
            listen_to="command" if listens else None,
            on_message=self._on_message,
            max_incoming_bytes=PAYLOAD_MAX_BYTES + 1024,
        )

    # -- for the session ------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background; returns at once."""
        if self.address.password and not (self.address.tls or self.address.on_this_machine):
            logger.warning(
                "The password for %s goes over the network unencrypted; use mqtts://.",
                self.address.described,
            )
        if self._on_command is not None and not self._gate.open:
            logger.warning(
                "No commands are taken over %s: the broker is on another machine and no secret is "
                "set (HEARBACK_MQTT_SECRET).",
                self.address.described,
            )
        self._link.start()

    def state(self, state: str, **detail: Any) -> None:
        """Say how the session is; the newest is what others see, also later."""
        self._put("state", state=state, unix_ms=time.time_ns() // 1_000_000, detail=detail)

    def event(self, kind: str, detail: Mapping[str, Any]) -> None:
        """Tell of something that happened: a gap, a lost source, a failed stage."""
        self._put("event", kind=kind, detail=dict(detail))

    def feedback(
        self, value: float, *, seq: int, t_brain: float, age_ms: float, label: str = ""
    ) -> None:
        """Publish the feedback value of a window."""
        self._put("feedback", value=value, seq=seq, t_brain=t_brain, age_ms=age_ms, label=label)

    def latency(
        self,
        *,
        age_ms: Mapping[str, float | None],
        stage_ms: Mapping[str, Mapping[str, float | None]],
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Publish percentiles; meant for once a second."""
        self._put("latency", age_ms=age_ms, stage_ms=stage_ms, counts=counts or {})

    def close(self, *, state: str = "ended", timeout_s: float = 2.0) -> bool:
        """Publish what waits and a last state, and disconnect; return whether that worked in time.

        What cannot be sent within `timeout_s` is given up; the broker then says "offline".
        """
        self.state(state)
        return self._link.close(timeout_s)

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now."""
        return self._link.connected.is_set()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until the broker is reached; return whether it was."""
        return self._link.connected.wait(timeout_s)

    def statistics(self) -> TelemetryStatistics:
        """Return the counts so far."""
        return TelemetryStatistics(
            self._link.sent,
            self._outbox.dropped,
            self._link.connections,
            self._commands,
            self._refused,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(state="ended" if kind is None else "failed")

    # -- from any thread ------------------------------------------------------------------------

    def _put(self, name: str, **values: Any) -> None:
        message = self._message(name, values)
        if name == "state":
            self._state = message
        self._outbox.put(message)
        self._link.notify()

    def _message(self, name: str, values: dict[str, Any]) -> OutgoingMessage:
        topic = _BY_NAME[name]
        head = {"v": SCHEMA, "session": self.session_name, "t": self._clock()}
        text = json.dumps(finite(head | values), allow_nan=False, separators=(",", ":"))
        if len(text) > _PAYLOAD_OUT_MAX:
            text = json.dumps(head | {"too_long": len(text)}, separators=(",", ":"))
        return OutgoingMessage(name, text.encode(), topic.qos, topic.retained)

    # -- in the link's thread -------------------------------------------------------------------

    def _last_will(self) -> OutgoingMessage:
        return self._message("state", {"state": "offline", "unix_ms": None, "detail": {}})

    def _say_state_again(self) -> None:
        """After a loss the broker shows "offline", whatever the session does."""
        if self._state is not None:
            self._outbox.put_unless_waiting(self._state)

    def _on_message(self, data: bytes, retained: bool) -> None:
        """Pass a command on, if it is one that we take."""
        try:
            wanted = self._gate.admit(data, retained=retained)
        except SettingError as error:
            self._refused += 1
            self._warn(f"A message on {self._base}/command was ignored: {error}")
            return
        self._commands += 1
        command = Command(wanted.command, wanted.argument, "mqtt", self._clock())
        assert self._on_command is not None  # nothing is subscribed to otherwise
        if self._command_loop is None:
            self._on_command(command)
            return
        with contextlib.suppress(RuntimeError):  # the session has ended
            self._command_loop.call_soon_threadsafe(self._on_command, command)

    def _warn(self, text: str) -> None:
        """Warn, but at most every ten seconds: anyone can send rubbish."""
        now = time.monotonic()
        if now - self._warned_at < _WARN_EVERY_S:
            self._unwarned += 1
            return
        more = f" ({self._unwarned} more before)" if self._unwarned else ""
        self._warned_at, self._unwarned = now, 0
        logger.warning("%s%s", text, more)
