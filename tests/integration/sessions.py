"""A small bundle, a recording that fits it, and a replay of it from another process."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.bundle import save_bundle, standardise_file
from export.library import LibrarySound, library_files
from export.manifest import EmbeddingSpec, Manifest, RetrievalChain, SoundSpec
from export.onnx_linear import linear_onnx
from models.features import make_extractor
from models.spec import InputSpec, PsdSpec, StandardiseSpec

CHANNELS = ("Fz", "Cz", "Pz", "Oz")
SFREQ_HZ = 200.0
RATE_HZ = 16_000
HOP_S = 0.1
SPEC = PsdSpec(window_s=0.5, hop_s=HOP_S, segment_s=0.25, fmax_hz=40.0)


def write_bundle(folder: Path, *, sfreq_hz: float = SFREQ_HZ, fill_max_s: float = 0.05) -> Path:
    """Write a retrieval bundle with random weights over three tones."""
    rng = np.random.default_rng(11)
    n = make_extractor(SPEC, sfreq_hz=sfreq_hz, n_channels=len(CHANNELS)).n_features
    time_s = np.arange(RATE_HZ) / RATE_HZ
    sounds = [
        LibrarySound(f"{f} Hz", (0.2 * np.sin(2 * np.pi * f * time_s)).astype(np.float32), "tone")
        for f in (220, 440, 880)
    ]
    files: dict[str, bytes | Path] = {
        **library_files(sounds, np.eye(3, 4), sample_rate_hz=RATE_HZ),
        "decoder.onnx": linear_onnx(rng.normal(size=(n, 4)), rng.normal(size=4), normalise=True),
        "standardise.npy": standardise_file(np.full(n, -12.0), np.ones(n)),
    }
    manifest = Manifest(
        name="small",
        participant="sub-test",
        created="2026-11-20T21:00:00+00:00",
        input=InputSpec("eeg", len(CHANNELS), sfreq_hz, channels=CHANNELS),
        features=SPEC,
        standardise=StandardiseSpec(),
        chain=RetrievalChain(EmbeddingSpec("test", 4)),
        sound=SoundSpec(RATE_HZ, HOP_S),
        fill_max_s=fill_max_s,
    )
    save_bundle(folder, manifest, files)
    return folder


def write_recording(path: Path, *, seconds: float = 6.0, sfreq_hz: float = SFREQ_HZ) -> Path:
    """Write noise as a CSV table, in microvolts."""
    rng = np.random.default_rng(12)
    n = round(seconds * sfreq_hz)
    table = np.column_stack([np.arange(n) / sfreq_hz, 10.0 * rng.normal(size=(n, len(CHANNELS)))])
    header = ",".join(("timestamps", *CHANNELS))
    np.savetxt(path, table, delimiter=",", header=header, comments="", fmt="%.9g")
    return path


@dataclass(frozen=True)
class Replay:
    """A replay that runs in another process."""

    stream: str
    process: subprocess.Popen[bytes]


_REPLAY = """
import sys
from stream.replay import ReplaySettings, run_replay
path, name, speed, fault, source_id = sys.argv[1:]
run_replay(ReplaySettings(path, name=name, speed=float(speed), fault=fault, source_id=source_id,
                          linger_s=1.0))
"""


@contextmanager
def replayed(path: Path, *, speed: float = 1.0, fault: str = "") -> Iterator[Replay]:
    """Replay a recording from another process; it begins when someone listens."""
    name = f"EEG-{uuid.uuid4().hex[:8]}"
    arguments = [str(path), name, str(speed), fault, str(uuid.uuid4())]
    process = subprocess.Popen([sys.executable, "-c", _REPLAY, *arguments])
    try:
        yield Replay(name, process)
    finally:
        process.kill()
        process.wait()
