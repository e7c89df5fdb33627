"""A live session to the device sink, on a real sound server whose loudspeaker is listened to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.integration.pulse import PulseServer, pulse
from tests.integration.sessions import HOP_S, replayed, write_bundle, write_recording

__all__ = ["pulse"]  # a fixture, used by name

pytestmark = [pytest.mark.audio, pytest.mark.lsl]

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own, because PortAudio looks for devices once, when it is loaded.
SESSION = """
import json, sys
from pathlib import Path
from stream.config import LiveSettings
from stream.live import run_live

bundle, stream, out, seconds = sys.argv[1:]
summary = run_live(LiveSettings(
    Path(bundle), stream, sink="device", out=Path(out), seconds=float(seconds), find_s=30.0,
    outlets=False, keyboard=False, display=False,
))
print(json.dumps(summary.to_json()))
"""


def test_what_is_decoded_comes_out_of_the_loudspeaker(tmp_path: Path, pulse: PulseServer) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=40.0)
    out = tmp_path / "session"
    with replayed(recording) as replay, pulse.recording(rate=16_000, n_channels=1) as recorded:
        arguments = [str(bundle), replay.stream, str(out), "4"]
        done = subprocess.run(
            [sys.executable, "-c", SESSION, *arguments],
            env=pulse.env | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["sink_failure"] == ""
    assert told["ended_because"] == "the time was up"
    assert told["trace_mismatched"] == 0
    rows = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
    heard = [row for row in rows if row["outcome"] == "heard"]
    assert len(heard) >= 10
    # The device's own buffer is part of the age: nothing is heard before it was made.
    assert all(row["at"]["heard"] > row["at"]["sound_out"] for row in heard)
    assert told["seconds_played"] >= len(heard) * HOP_S / 2
    loud = np.flatnonzero(np.abs(recorded[0][:, 0]) > 1e-3)
    assert (loud[-1] - loud[0]) / 16_000 >= 0.8 * told["seconds_played"]
    assert np.abs(recorded[0]).max() <= 10 ** (-12 / 20) * 1.01
