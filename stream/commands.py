"""Commands that come over MQTT: parsed strictly, and taken only from who may give them.

A command is one JSON object on the topic `<prefix>/<session>/command`, not retained::

    {"v": 1, "command": "pause"}                            also "resume", "abort"
    {"v": 1, "command": "prompt", "argument": "violin"}     a sound or label; "" takes it back

Who may give one:

- without a secret, commands are taken only if the broker is on this machine
  (mqtt://localhost, 127.x.x.x or ::1); from any other broker they are ignored::

      mosquitto_pub -t hearback/SESSION/command -m '{"v": 1, "command": "pause"}'

- with a secret (HEARBACK_MQTT_SECRET, at least 16 characters) every command must be signed, from
  whatever broker. `sign_command` makes the payload; without hearback, in plain Python::

      import hashlib, hmac, json, secrets, time
      v, command, argument = 1, "abort", ""
      nonce, time_ms = secrets.token_hex(16), int(time.time() * 1000)
      text = json.dumps([v, "SESSION", command, argument, nonce, time_ms], separators=(",", ":"))
      signature = hmac.new(b"SECRET", text.encode(), hashlib.sha256).hexdigest()
      print(json.dumps({"v": v, "command": command, "argument": argument, "nonce": nonce,
                        "time_ms": time_ms, "hmac": signature}))

  The clock of who signs must be right to 30 s, and a signed command is taken once, and not if it
  was signed before the session began.

`abort` is under the same rule: it is safe, but a stranger could end every session with it. Retained
messages are never commands: an `abort` left behind on a broker must not end the next session, nor a
`resume` start it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from export.strict_json import parse_object, record_from_json
from models.errors import SettingError

__all__ = [
    "COMMANDS",
    "COMMAND_SCHEMA",
    "PAYLOAD_MAX_BYTES",
    "CommandGate",
    "CommandPayload",
    "check_secret",
    "sign_command",
]

COMMAND_SCHEMA = 1
COMMANDS = ("pause", "resume", "abort", "prompt")
PAYLOAD_MAX_BYTES = 2048
_ARGUMENT_MAX = 256
_SECRET_MIN = 16
_SKEW_MS = 30_000
_NONCE_MIN, _NONCE_MAX = 16, 64
_NONCES_KEPT = 10_000  # only signed commands get here, so this is no way to fill the memory


@dataclass(frozen=True, slots=True)
class CommandPayload:
    """The JSON object of a command."""

    command: Literal["pause", "resume", "abort", "prompt"]
    v: int
    argument: str = ""
    nonce: str = ""
    time_ms: int = 0  # since 1970
    hmac: str = ""


def check_secret(secret: str) -> bytes:
    """Return a secret as a key.

    Raises
    ------
    SettingError
        If it is shorter than 16 characters.
    """
    if len(secret) < _SECRET_MIN:
        raise SettingError(
            f"The MQTT secret has {len(secret)} characters; at least {_SECRET_MIN} are needed. "
            "Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return secret.encode()


def sign_command(
    secret: str,
    session: str,
    *,
    command: str,
    argument: str = "",
    nonce: str | None = None,
    time_ms: int | None = None,
) -> bytes:
    """Return the payload of a signed command.

    Parameters
    ----------
    secret : str
        The same as the session's.
    session : str
        Name of the session, as in the topic.
    command, argument : str
    nonce : str, optional
        16 to 64 characters that were not used before; random if not given.
    time_ms : int, optional
        Milliseconds since 1970; now if not given.
    """
    nonce = secrets.token_hex(16) if nonce is None else nonce
    time_ms = time.time_ns() // 1_000_000 if time_ms is None else time_ms
    payload = {
        "v": COMMAND_SCHEMA,
        "command": command,
        "argument": argument,
        "nonce": nonce,
        "time_ms": time_ms,
    }
    text = _signed_text(session, command, argument, nonce, time_ms)
    payload["hmac"] = hmac.new(check_secret(secret), text, hashlib.sha256).hexdigest()
    return json.dumps(payload).encode()


def _signed_text(session: str, command: str, argument: str, nonce: str, time_ms: int) -> bytes:
    # JSON keeps the parts apart whatever stands in them; ASCII, so that all make the same bytes.
    values = [COMMAND_SCHEMA, session, command, argument, nonce, time_ms]
    return json.dumps(values, separators=(",", ":")).encode()


class CommandGate:
    """Decides which payloads are commands for this session.

    Parameters
    ----------
    session : str
        Name of the session.
    secret : str, optional
        If given, every command must be signed with it.
    trusted : bool
        Whether the broker is on this machine; only then are commands without a secret taken.
    now_ms : callable, optional
        Milliseconds since 1970.

    Raises
    ------
    SettingError
        If the secret is too short.
    """

    def __init__(
        self,
        session: str,
        *,
        secret: str | None,
        trusted: bool,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.session = session
        self._key = None if secret is None else check_secret(secret)
        self._trusted = trusted
        self._now_ms = now_ms
        self._started_ms = now_ms()
        self._nonces: dict[str, int] = {}  # nonce -> when it can be forgotten, ms

    @property
    def open(self) -> bool:
        """Whether any command can pass."""
        return self._trusted or self._key is not None

    def admit(self, data: bytes, *, retained: bool) -> CommandPayload:
        """Return the command in a payload.

        Raises
        ------
        SettingError
            If it is retained, malformed, unsigned, wrongly signed, stale or a repetition.
        """
        if retained:
            raise SettingError("Retained messages are never commands; publish without retain.")
        if not self.open:
            raise SettingError(
                "Commands over a broker on another machine need a secret (HEARBACK_MQTT_SECRET)."
            )
        values = parse_object(data, "the command", max_bytes=PAYLOAD_MAX_BYTES, max_items=20)
        payload: CommandPayload = record_from_json(CommandPayload, values, "the command")
        if payload.v != COMMAND_SCHEMA:
            raise SettingError(f"Commands have v {COMMAND_SCHEMA} here, not {payload.v}.")
        if len(payload.argument) > _ARGUMENT_MAX:
            raise SettingError(f"An argument has at most {_ARGUMENT_MAX} characters.")
        if payload.argument and payload.command != "prompt":
            raise SettingError(f"{payload.command!r} takes no argument.")
        if self._key is not None:
            self._check_signature(payload, self._key)
        return payload

    def _check_signature(self, payload: CommandPayload, key: bytes) -> None:
        text = _signed_text(
            self.session, payload.command, payload.argument, payload.nonce, payload.time_ms
        )
        expected = hmac.new(key, text, hashlib.sha256).hexdigest()
        # Bytes, since compare_digest refuses text beyond ASCII; constant time.
        if not hmac.compare_digest(expected.encode(), payload.hmac.encode()):
            raise SettingError("The command is not signed with the secret of this session.")
        now = self._now_ms()
        if abs(now - payload.time_ms) > _SKEW_MS or payload.time_ms < self._started_ms:
            raise SettingError(
                f"The command was signed {(now - payload.time_ms) / 1000:.1f} s ago; expected at "
                f"most {_SKEW_MS // 1000} s, and after the start. Check both clocks."
            )
        if not _NONCE_MIN <= len(payload.nonce) <= _NONCE_MAX:
            raise SettingError(f"A nonce has {_NONCE_MIN} to {_NONCE_MAX} characters.")
        self._nonces = {nonce: until for nonce, until in self._nonces.items() if until >= now}
        if payload.nonce in self._nonces or len(self._nonces) >= _NONCES_KEPT:
            raise SettingError("The command came before; each nonce counts once.")
        # As long as its time could pass again.
        self._nonces[payload.nonce] = payload.time_ms + _SKEW_MS
