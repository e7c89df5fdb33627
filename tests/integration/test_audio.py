"""The device sink, on a real sound server whose loudspeaker is listened to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.integration.pulse import PulseServer, pulse, pulse_server

__all__ = ["pulse"]  # a fixture, used by name

pytestmark = pytest.mark.audio

ROOT = Path(__file__).resolve().parents[2]

# Plays tones (one per channel) through the device sink; prints what the program knows of it. In a
# process of its own, because PortAudio looks for devices once, when it is loaded.
PLAYER = """
import json, sys, time
from dataclasses import asdict
import numpy as np
from models.errors import DeviceError
from stream.playback import Player
from stream.sinks import open_sink
from tests.stream.sounds import sound, tone

want = json.loads(sys.argv[1])
rate = want["rate"]
p = Player(sample_rate_hz=rate, n_channels=len(want["hz"]), lead_s=0.0, max_queue_s=100.0)
try:
    sink = open_sink(want.get("sink", "device"), p)
except DeviceError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit(error.exit_code)
n = round(rate * want["seconds"])
tones = [tone(n, hz=hz, rate=rate, amplitude=want["amplitude"]) for hz in want["hz"]]
p.queue(sound(np.stack(tones, axis=1), rate=rate))
p.finish()
deadline = time.monotonic() + 60
with sink:
    while not p.idle and time.monotonic() < deadline:
        time.sleep(0.01)
        if p.statistics().seconds_played > want.get("abort_after", 1e9):
            p.abort()
    if p.aborted:
        silent = p.statistics().seconds_rendered + 0.3
        while p.statistics().seconds_rendered < silent and time.monotonic() < deadline:
            time.sleep(0.01)
heard = [one for one in p.drain_played() if one.seq >= 0]
print(json.dumps({
    "idle": p.idle, "player": asdict(p.statistics()), "sink": asdict(sink.statistics()),
    "span": heard[-1].t_heard + heard[-1].n_samples / rate - heard[0].t_heard,
}))
"""


def play(env: dict[str, str], **want: Any) -> dict[str, Any]:
    """Run the player in another process; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PLAYER, json.dumps(want)],
        env=env | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result | {"exit_code": done.returncode}


def sounding(recording: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the part of a recording from its first to its last sample that is not silent."""
    loud = np.flatnonzero(np.abs(recording).max(axis=1) > 1e-4)
    assert len(loud), "nothing was heard"
    return recording[loud[0] : loud[-1] + 1]


def frequency(signal: NDArray[np.float32], rate: int) -> float:
    """Return the strongest frequency, Hz."""
    n = 8 * len(signal)
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), n))
    return float(np.argmax(spectrum) * rate / n)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_tone_comes_back_at_its_frequency_and_level(pulse: PulseServer, rate: int) -> None:
    with pulse.recording(rate=48_000, n_channels=2) as recorded:
        told = play(pulse.env, rate=rate, hz=[440.0], seconds=1.0, amplitude=0.1)
    heard = sounding(recorded[0])
    assert told["idle"]
    assert told["sink"]["failure"] == ""
    assert told["player"]["seconds_played"] == 1.0
    for side in heard.T:  # mono sounds on both sides
        assert frequency(side, 48_000) == pytest.approx(440.0, abs=2.0)
        middle = side[len(side) // 4 : len(side) // 2]
        assert np.sqrt(2 * np.mean(middle.astype(float) ** 2)) == pytest.approx(0.1, rel=0.1)


def test_left_and_right_stay_apart(pulse: PulseServer) -> None:
    with pulse.recording(rate=48_000, n_channels=2) as recorded:
        play(pulse.env, rate=48_000, hz=[300.0, 500.0], seconds=1.0, amplitude=0.1)
    heard = sounding(recorded[0])
    assert frequency(heard[:, 0], 48_000) == pytest.approx(300.0, abs=2.0)
    assert frequency(heard[:, 1], 48_000) == pytest.approx(500.0, abs=2.0)


def test_a_device_that_cannot_run_at_our_rate_gets_its_own(pulse: PulseServer) -> None:
    """No device runs at 400 kHz."""
    with pulse.recording(rate=48_000, n_channels=1) as recorded:
        told = play(pulse.env, rate=400_000, hz=[440.0], seconds=1.0, amplitude=0.1)
    assert told["sink"]["sample_rate_hz"] in (44_100, 48_000)
    assert told["player"]["seconds_played"] == 1.0
    assert frequency(sounding(recorded[0])[:, 0], 48_000) == pytest.approx(440.0, abs=2.0)


def test_nothing_above_the_ceiling_reaches_the_device(pulse: PulseServer) -> None:
    with pulse.recording(rate=48_000, n_channels=1) as recorded:
        told = play(pulse.env, rate=48_000, hz=[440.0], seconds=1.0, amplitude=3.0)
    assert told["player"]["peak_dbfs"] <= -12.0 + 1e-5
    assert np.abs(recorded[0]).max() <= 10 ** (-12 / 20) * 1.001


def test_after_an_abort_the_device_plays_silence(pulse: PulseServer) -> None:
    with pulse.recording(rate=48_000, n_channels=1) as recorded:
        told = play(
            pulse.env, rate=48_000, hz=[110.0], seconds=30.0, amplitude=0.1, abort_after=0.5
        )
    heard = sounding(recorded[0])
    assert told["player"]["seconds_played"] < 5.0
    assert told["player"]["underruns"] == 0
    assert len(heard) / 48_000 == pytest.approx(told["player"]["seconds_played"], abs=0.2)
    assert np.abs(heard[-5:]).max() < 0.01  # it ended in a fade, not in a cut


WATCHER = """
import sys, time
from stream.playback import Player
from stream.sinks import open_sink
from tests.stream.sounds import sound, tone

p = Player(sample_rate_hz=48000, lead_s=0.0, max_queue_s=100.0)
with open_sink("device", p) as sink:
    p.queue(sound(tone(48000 * 60), rate=48000))
    while not p.statistics().seconds_played:
        time.sleep(0.01)
    print("playing", flush=True)
    while not sink.statistics().failure:
        time.sleep(0.01)
    print(sink.statistics().failure, flush=True)
print("closed", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "told"), [(signal.SIGKILL, "stopped by itself"), (signal.SIGSTOP, "not asked for")]
)
def test_a_sound_server_that_dies_or_hangs_is_flagged_and_does_not_hold_us(
    tmp_path: Path, how: signal.Signals, told: str
) -> None:
    with (
        pulse_server(tmp_path) as server,
        subprocess.Popen(
            [sys.executable, "-c", WATCHER],
            env=server.env | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "playing\n"
        server.process.send_signal(how)
        assert told in process.stdout.readline()
        assert process.stdout.readline() == "closed\n"
        assert process.wait(30) == 0


def test_a_named_device_that_is_not_there_is_told_with_those_that_are(pulse: PulseServer) -> None:
    told = play(pulse.env, rate=16_000, hz=[440.0], seconds=0.1, amplitude=0.1, sink="device:Xyzzy")
    assert told["exit_code"] == 3
    assert "Xyzzy" in told["error"]
    assert "pulse" in told["error"]
    assert "--sink FILE.wav" in told["error"]


def test_without_any_device_the_error_says_what_to_do() -> None:
    env = os.environ | {"PULSE_SERVER": "unix:/nonexistent"}
    told = play(env, rate=16_000, hz=[440.0], seconds=0.1, amplitude=0.1, sink="device")
    if "error" not in told:
        pytest.skip("this machine has an audio device that cannot be hidden")
    assert told["exit_code"] == 3
    assert "No audio output" in told["error"]
    assert "--sink null" in told["error"]


def test_without_portaudio_the_error_names_the_package(tmp_path: Path) -> None:
    """What `import sounddevice` does on a machine without the library."""
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from stream.playback import Player\n"
            "from stream.sinks import open_sink\n"
            "open_sink('device', Player(sample_rate_hz=16000))",
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "DeviceError" in done.stderr
    assert "apt-get install libportaudio2" in done.stderr
