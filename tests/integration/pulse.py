"""A loudspeaker that can be listened to: a PulseAudio server of our own with a null sink."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

__all__ = ["PulseServer", "pulse", "pulse_server", "wait_until"]

_SINK = "hearback_test"


def wait_until(true: Callable[[], bool], *, what: str, timeout_s: float = 30.0) -> None:
    """Wait for a condition; fail the test with its name if it does not come."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s} s")
        time.sleep(0.02)


@dataclass(frozen=True)
class PulseServer:
    """A running server; programs with `env` play into its null sink."""

    env: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes]

    @contextmanager
    def recording(self, *, rate: int, n_channels: int) -> Iterator[list[NDArray[np.float32]]]:
        """Record what is played inside the block, and half a second after it.

        Yields a list that holds the recording, (n, n_channels), when the block has been left.
        """
        path = self.folder / f"recording-{time.monotonic_ns()}.raw"
        frame = 4 * n_channels
        result: list[NDArray[np.float32]] = []
        with path.open("wb") as file:
            process = subprocess.Popen(
                [
                    "parec",
                    f"--device={_SINK}.monitor",
                    "--format=float32le",
                    f"--rate={rate}",
                    f"--channels={n_channels}",
                    "--latency-msec=20",
                ],
                stdout=file,
                env=self.env,
            )
            try:
                wait_until(lambda: path.stat().st_size > 0, what="parec records")
                yield result
                enough = path.stat().st_size + frame * rate // 2
                wait_until(lambda: path.stat().st_size >= enough, what="parec goes on")
            finally:
                process.terminate()
                process.wait(10)
        data = path.read_bytes()
        whole = np.frombuffer(data[: len(data) // frame * frame], "<f4")
        result.append(whole.reshape(-1, n_channels))


@contextmanager
def pulse_server(folder: Path) -> Iterator[PulseServer]:
    """Start a server whose files lie in `folder`; skip the test where there is none."""
    for program in ("pulseaudio", "pactl", "parec"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt-get install pulseaudio pulseaudio-utils)")
    socket = f"{folder}/native"
    env = os.environ | {
        "XDG_RUNTIME_DIR": str(folder),
        "HOME": str(folder),
        "PULSE_SERVER": f"unix:{socket}",
    }
    process = subprocess.Popen(
        [
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "--log-level=error",
            "-L",
            f"module-native-protocol-unix socket={socket} auth-anonymous=1",
            # Without norewinds every stream after the first stalls for 1.5 to 2 s.
            "-L",
            f"module-null-sink sink_name={_SINK} rate=48000 channels=2 norewinds=1",
        ],
        env=env,
    )
    try:
        deadline = time.monotonic() + 20
        while subprocess.run(["pactl", "info"], env=env, capture_output=True).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.skip("the PulseAudio server does not start on this machine")
            time.sleep(0.1)
        yield PulseServer(env, folder, process)
    finally:
        process.kill()  # also ends one that a test has stopped
        process.wait(10)


@pytest.fixture(scope="module")
def pulse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulseServer]:
    """A PulseAudio server for this test module."""
    with pulse_server(tmp_path_factory.mktemp("pulse")) as server:
        yield server
