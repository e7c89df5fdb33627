"""Draw what the demo wrote to its WAV file: `python -m benchmarks.picture demo.wav`.

Above what the simulated listener heard (left channel), below what was decoded (right channel).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import soundfile

from models.mel import MelSpec, log_mel

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_OUT = Path(__file__).parent / "results" / "demo.png"


def main() -> None:
    """Draw both channels of a demo's sound as mel spectrograms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sound", type=Path, help="WAV file of the demo, 2 channels")
    parser.add_argument("--out", type=Path, default=_OUT)
    parser.add_argument("--start", type=float, default=2.0, help="s")
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    pcm, rate = soundfile.read(chosen.sound, dtype="float32", always_2d=True)
    spec = MelSpec(sample_rate_hz=rate)
    pcm = pcm[round(chosen.start * rate) : round((chosen.start + chosen.seconds) * rate)]
    figure, axes = plt.subplots(2, 1, figsize=(11, 4.6), sharex=True, layout="constrained")
    names = ("heard by the simulated listener", "decoded from its EEG, live")
    for axis, channel, name in zip(axes, pcm.T, names, strict=True):
        mel = log_mel(np.ascontiguousarray(channel), spec).T  # (n_mels, n_frames), ln
        top = float(mel.max())
        extent = (0.0, len(channel) / rate, 0.0, float(spec.n_mels))
        axis.imshow(
            mel, origin="lower", aspect="auto", extent=extent, vmin=top - 7.0, vmax=top,
            cmap="magma", interpolation="nearest",
        )  # fmt: skip
        axis.set_ylabel("mel band")
        axis.set_title(name, loc="left", fontsize=11)
    axes[-1].set_xlabel("s")
    figure.savefig(chosen.out, dpi=90)


if __name__ == "__main__":
    main()
