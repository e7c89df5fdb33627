"""Live calibration through a real sound server whose loudspeaker is listened to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.following_listener import make_sounds
from tests.integration.lsl_rig import Sender
from tests.integration.pulse import PulseServer, pulse

__all__ = ["pulse"]  # a fixture, used by name

_ROOT = Path(__file__).resolve().parents[2]
_RATE = 48_000

_RECORD = """
import sys
from pathlib import Path
from calibration.config import CalibrationSettings
from calibration.live_session import LiveCalibration, record_live
folder, stream = Path(sys.argv[1]), sys.argv[2]
asked = LiveCalibration(
    stream=stream, stimuli=folder / "sounds", out=folder / "me", sink="device", repeats=2,
    gap_s=0.4, keyboard=False, find_s=10.0, meet_s=0.0, markers=f"markers-{stream}",
)
record_live(asked, CalibrationSettings(), on_message=lambda text: print(text, file=sys.stderr))
"""


@pytest.mark.audio
@pytest.mark.lsl
@pytest.mark.slow
def test_markers_are_when_the_loudspeaker_sounds(pulse: PulseServer, tmp_path: Path) -> None:
    make_sounds(tmp_path / "sounds", n=4, duration_s=0.5, labels=("noise", "rain", "drums"))
    with (
        Sender(sfreq=250.0, channels=2, counter=True) as sender,
        pulse.recording(rate=_RATE, n_channels=1) as recorded,
    ):
        done = subprocess.run(
            [sys.executable, "-c", _RECORD, str(tmp_path), sender.name],
            env=pulse.env | {"PYTHONPATH": str(_ROOT)},
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "me.session" / "session.json").read_text())
    heard = recorded[0][:, 0].astype(np.float64)
    n = 1 << int(np.ceil(np.log2(2 * len(heard))))
    spectrum = np.fft.rfft(heard, n)
    matches, onsets = [], []
    for item in report["presented"]:
        pcm, rate = soundfile.read(tmp_path / "sounds" / item["stimulus"])
        at = np.arange(len(pcm) * _RATE // rate) * rate / _RATE
        wanted = np.interp(at, np.arange(len(pcm)), pcm)
        match = np.fft.irfft(spectrum * np.conj(np.fft.rfft(wanted, n)), n)[: len(heard)]
        matches.append(match / np.abs(match).max())
        onsets.append(round((item["onset"] - report["presented"][0]["onset"]) * _RATE))
    # The recording begins when it begins: the one shift at which all markers fit best.
    last = len(heard) - max(onsets)
    common = int(np.argmax(np.sum([m[k : k + last] for m, k in zip(matches, onsets, strict=True)],
                                  axis=0)))  # fmt: skip
    off_s = []
    for match, onset in zip(matches, onsets, strict=True):
        low = max(0, common + onset - _RATE // 20)
        best = low + int(np.argmax(match[low : common + onset + _RATE // 20]))
        off_s.append((best - common - onset) / _RATE)
    assert report["kept"] == 8
    assert np.ptp(off_s) < 5e-3, off_s
