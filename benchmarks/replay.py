"""A recording replayed over LSL by hearback, by mne-lsl's PlayerLSL and by pyxdf's playback_lsl.

The same 64 channels at 1 kHz with a marker every half second, one player after another, several
rounds. Channel 0 holds the number of its sample, so that every stamp can be held against the truth.

    python -m benchmarks.replay --seconds 20 --rounds 3
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rig import machine, private_lsl, write_results

_SFREQ = 1000.0
_CHANNELS = 64
_MARKER_EVERY = 500  # samples
_STEP_V = 2.0**-30  # channel 0: number of the sample in these volts, exact in float32 and float64
_CHUNK = 10


def write_recordings(folder: Path, seconds: float) -> None:
    """Write the same signal and markers as FIF (for MNE) and as XDF (for pyxdf)."""
    import mne

    from stream.xdf import XdfStream, XdfWriter

    n = int(seconds * _SFREQ)
    data = np.random.default_rng(0).normal(0, 2e-5, (_CHANNELS, n))
    data[0] = np.arange(n) * _STEP_V
    rows = np.arange(_MARKER_EVERY, n, _MARKER_EVERY)
    raw = mne.io.RawArray(data, mne.create_info(_CHANNELS, _SFREQ, "eeg"), verbose="ERROR")
    texts = [str(row) for row in rows]
    raw.set_annotations(mne.Annotations(rows / _SFREQ, 0.0, texts))
    raw.save(folder / "bench_raw.fif", fmt="double", verbose="ERROR")
    writer = XdfWriter(folder / "bench.xdf")
    labels = tuple(f"E{i}" for i in range(_CHANNELS))
    eeg = XdfStream(
        "EEG", "EEG", _CHANNELS, "float32", _SFREQ, labels=labels, units=("V",) * _CHANNELS
    )
    numbers = writer.add_stream(eeg)
    words = writer.add_stream(XdfStream("EEG-annotations", "Markers", 1, "string"))
    stamps = 100.0 + np.arange(n) / _SFREQ
    writer.write_samples(numbers, stamps, data.T.astype(np.float32))
    writer.write_strings(words, stamps[rows], texts)
    writer.close()


def send(kind: str, folder: Path) -> None:
    """Be one of the players, until the recording ends."""
    if kind == "hearback":
        from stream.replay import ReplaySettings, run_replay

        run_replay(ReplaySettings(folder / "bench_raw.fif", name="EEG", chunk_s=_CHUNK / _SFREQ))
    elif kind == "mne-lsl":
        from mne_lsl.player import PlayerLSL

        player = PlayerLSL(
            folder / "bench_raw.fif",
            chunk_size=_CHUNK,
            n_repeat=1,
            name="EEG",
            source_id="bench",
            annotations_encoding="string",
        )
        player.start()
        while player.running:
            time.sleep(0.1)
        time.sleep(1.0)
    else:
        from pyxdf.cli.playback_lsl import main as playback

        playback(str(folder / "bench.xdf"), wait_for_consumer=True)
        time.sleep(1.0)


def _find(endings: tuple[str, ...]) -> Any:
    import pylsl

    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        for ending in endings:
            # Short, with pauses: each question holds ports that the player's outlets need.
            found = pylsl.resolve_byprop("name", f"EEG{ending}", 1, 0.6)
            if found:
                return found[0]
            time.sleep(0.5)
    raise RuntimeError(f"no stream EEG{endings[0]}: did the player fail?")


def receive(kind: str, folder: Path) -> dict[str, NDArray[np.float64]]:
    """Run one player; return number, stamp and arrival of every tenth sample, and the markers."""
    import pylsl
    from pylsl.util import LostError

    command = [sys.executable, "-m", "benchmarks.replay", f"--send={kind}", f"--folder={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # Inlets that look for a lost player by themselves take the ports that the next one needs.
    eeg = pylsl.StreamInlet(_find(("",)), max_buflen=60, recover=False)
    words = pylsl.StreamInlet(_find(("-annotations", "-markers")), recover=False)
    eeg.open_stream(10.0)
    words.open_stream(10.0)
    numbers: list[int] = []
    stamps: list[float] = []
    newest: list[tuple[int, float, float]] = []
    markers: list[tuple[int, float]] = []
    # The player says goodbye by closing its streams, long after its last sample was taken.
    while process.poll() is None:
        try:
            values, at = eeg.pull_chunk(timeout=0.05, max_samples=1024, min_samples=1)
            now = pylsl.local_clock()
            while (word := words.pull_sample(timeout=0.0))[0] is not None:
                markers.append((int(word[0][0]), word[1]))
        except LostError:
            break
        if at:
            came = np.round(np.asarray(values, dtype=np.float64)[:, 0] / _STEP_V).astype(int)
            numbers += came.tolist()
            stamps += at
            # A pull may catch a chunk half way; what counts is when its last sample is here.
            newest += [(n, s, now) for n, s in zip(came, at, strict=True) if n % _CHUNK == 9]
    process.kill()
    process.wait()
    return {
        "numbers": np.array(numbers, dtype=np.float64),
        "stamps": np.array(stamps),
        "newest": np.array(newest),
        "markers": np.array(markers).reshape(-1, 2),
    }


def judge(came: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return how exact the markers, how honest the stamps and how punctual the chunks were."""
    place = {
        int(number): stamp for number, stamp in zip(came["numbers"], came["stamps"], strict=True)
    }
    offsets = [
        (stamp - place[int(number)]) * _SFREQ
        for number, stamp in came["markers"]
        if int(number) in place
    ]
    number, stamp, arrived = came["newest"].T
    late = arrived - number / _SFREQ
    late = 1e3 * (late - late.min())
    ahead = 1e3 * (stamp - arrived)
    lost = came["numbers"][-1] - came["numbers"][0] + 1 - len(came["numbers"])
    return {
        "marker_offset_samples": float(np.median(offsets)) if offsets else float("nan"),
        "marker_offset_worst": float(np.max(np.abs(offsets))) if offsets else float("nan"),
        "markers": float(len(offsets)),
        "stamp_ahead_p50_ms": float(np.median(ahead)),
        "stamp_ahead_max_ms": float(ahead.max()),
        "late_p50_ms": float(np.median(late)),
        "late_p99_ms": float(np.percentile(late, 99)),
        "lost": float(lost),
    }


def fastest(seconds: float = 60.0) -> dict[str, float]:
    """Return how many times faster than real time a recording runs without LSL."""
    from models.features import make_extractor
    from models.spec import PsdSpec
    from stream.messages import Chunk
    from stream.recordings import RecordedSignal, Segment, recording_events

    n = int(seconds * _SFREQ)
    samples = np.random.default_rng(0).normal(0, 2e-5, (n, _CHANNELS)).astype(np.float32)
    labels = tuple(f"E{i}" for i in range(_CHANNELS))
    stamps = np.arange(n) / _SFREQ
    signal = RecordedSignal(
        "EEG", "EEG", labels, "V", 1.0, _SFREQ, samples, stamps, (Segment(0, n, 0),)
    )
    start = time.perf_counter()
    for _ in recording_events(signal, 20):
        pass
    alone = seconds / (time.perf_counter() - start)
    extractor = make_extractor(PsdSpec(), sfreq_hz=_SFREQ, n_channels=_CHANNELS)
    start = time.perf_counter()
    for event in recording_events(signal, 20):
        if isinstance(event, Chunk):
            extractor.push(event.samples)
    return {"events": alone, "events_and_psd": seconds / (time.perf_counter() - start)}


def main() -> None:
    """Run all players in turn and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--send")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.send:
        send(options.send, options.folder)
        return
    before = machine()
    private_lsl()
    kinds = ("hearback", "mne-lsl PlayerLSL", "pyxdf playback_lsl")
    results: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        write_recordings(Path(folder), options.seconds)
        for _ in range(options.rounds):
            for kind in kinds:
                results[kind].append(judge(receive(kind.split()[0], Path(folder))))
    rows = [
        {"player": kind, **{key: float(np.median([one[key] for one in runs])) for key in runs[0]}}
        for kind, runs in results.items()
    ]
    speed = {key: round(value) for key, value in fastest().items()}
    write_results(
        "replay",
        title="Replay: markers, stamps and punctuality (medians over rounds)",
        settings={
            "channels": _CHANNELS,
            "sfreq_hz": _SFREQ,
            "chunk": _CHUNK,
            "seconds": options.seconds,
            "rounds": options.rounds,
            "times_real_time_without_lsl": speed,
        },
        before=before,
        rows=rows,
    )


if __name__ == "__main__":
    main()
