"""Where telemetry goes: `mqtt://[user:password@]host[:port]/[prefix]`, checked."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from models.errors import SettingError

__all__ = ["MqttAddress", "check_session_name", "parse_mqtt_url"]

_EXAMPLE = "mqtt://localhost:1883/hearback"
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}(/[A-Za-z0-9._-]{1,64}){0,7}")
_SESSION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}")
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class MqttAddress:
    """A broker and the prefix of all topics."""

    host: str
    port: int
    tls: bool = False
    prefix: str = "hearback"
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def described(self) -> str:
        """The address for people and logs: without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}/{self.prefix}"

    @property
    def on_this_machine(self) -> bool:
        """Whether the host is a loopback address by name; other names could resolve to anything."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_mqtt_url(url: str) -> MqttAddress:
    """Return the address in an MQTT URL.

    Raises
    ------
    SettingError
        If it is not one; the message does not repeat what may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingError(f"The MQTT URL cannot be read. Write it as {_EXAMPLE}.") from error
    if parts.scheme not in _PORTS:
        raise SettingError(
            f"An MQTT URL begins with mqtt:// or mqtts://, not {parts.scheme[:20]!r}. Write it as "
            f"{_EXAMPLE}."
        )
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise SettingError(f"The MQTT URL names no host. Write it as {_EXAMPLE}.")
    if "?" in url or "#" in url:
        raise SettingError(f"An MQTT URL has no '?' and no '#'. Write it as {_EXAMPLE}.")
    if port == 0:
        raise SettingError(f"MQTT port 0 cannot be. Write the URL as {_EXAMPLE}.")
    prefix = parts.path.strip("/") or "hearback"
    if not _PREFIX.fullmatch(prefix):
        raise SettingError(
            f"The MQTT prefix {prefix[:60]!r} may have letters, digits, '.', '_', '-' and up to 8 "
            f"levels. Write the URL as {_EXAMPLE}."
        )
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password and user else None
    tls = parts.scheme == "mqtts"
    return MqttAddress(parts.hostname, port or _PORTS[parts.scheme], tls, prefix, user, password)


def check_session_name(name: str) -> str:
    """Return a session name that can stand in a topic.

    Raises
    ------
    SettingError
        If it has other characters than letters, digits, '.', '_' and '-', or more than 64.
    """
    if not _SESSION.fullmatch(name):
        raise SettingError(
            f"A session name has 1 to 64 letters, digits, '.', '_' or '-', not {name[:80]!r}."
        )
    return name
