"""A real Mosquitto on a free loopback port, that can be killed, stopped and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

__all__ = ["Broker", "wait_until"]

_STARTS_WITHIN_S = 30.0


def wait_until(condition: object, timeout_s: float = 30.0) -> bool:
    """Wait until `condition()` holds; return whether it did in time."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


class Broker:
    """A Mosquitto of one's own; `start`, `kill`, `suspend`, `resume` may be called again and again.

    Parameters
    ----------
    folder : Path
        For its configuration and log.
    password : tuple of str, optional
        User and password that are asked for.
    tls : bool
        Speak TLS only, with the certificate `certificate`, which nobody trusts yet.
    """

    def __init__(
        self, folder: Path, *, password: tuple[str, str] | None = None, tls: bool = False
    ) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            pytest.skip("the program mosquitto is not installed (apt-get install mosquitto)")
        self._program = program
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        lines = [f"listener {self.port} 127.0.0.1", "persistence false", "log_dest stderr"]
        lines.append("user root")  # run by root it would change to a user that may not exist
        if password is None:
            lines.append("allow_anonymous true")
        else:
            names = folder / "passwords"
            names.write_text(":".join(password) + "\n")
            names.chmod(0o600)
            tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
            subprocess.run([tool, "-U", str(names)], check=True, capture_output=True)
            lines += ["allow_anonymous false", f"password_file {names}"]
        self.certificate = folder / "certificate.pem"
        if tls:
            self._make_certificate(folder / "key.pem")
            lines += [f"certfile {self.certificate}", f"keyfile {folder / 'key.pem'}"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def _make_certificate(self, key: Path) -> None:
        """Make a certificate for 127.0.0.1 that signs itself."""
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("the program openssl is not installed")
        request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test".split()
        names = ["-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run([openssl, *request, *names, *files], check=True, capture_output=True)

    @property
    def url(self) -> str:
        """The URL without user, password and prefix."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self._folder / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        process = self._process
        ready = wait_until(lambda: process.poll() is not None or self._listens(), _STARTS_WITHIN_S)
        if not ready or process.poll() is not None:
            log_text = (self._folder / "mosquitto.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"Mosquitto did not start:\n{log_text}")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End it without a word to its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def suspend(self) -> None:
        """Stop it: connections stay open, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
