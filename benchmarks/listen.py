"""Pictures and sounds to judge a generator by eye and ear.

    python -m benchmarks.listen TRAINING --out FOLDER [--generator EXPORTED] [--steps 4] [--quick]

Into FOLDER: for each class a WAV and a picture of a real sound and of what the teacher and the few
steps make of its vector; a stream of changing conditions, a steady one, silence; and `sheet.png`,
all of it at one glance. Streams come from the exported generator, else from the networks by torch;
where no vocoder is trained yet, sounds come by Griffin-Lim and streams are left out.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import soundfile
from numpy.typing import NDArray

from calibration.generator_scores.copies import log_spectral_distance
from calibration.generator_scores.drift import level_dbfs
from calibration.generator_scores.makers import Make, decode, encode, make_windows
from calibration.generator_scores.networks import Trained, open_trained, scores_folder
from calibration.generator_scores.real import RealSounds, real_sounds
from calibration.generator_scores.scorers import TorchScorer, mel_windows
from calibration.generator_scores.sound_factors import measure_factors
from calibration.generator_scores.streams import make_stream
from calibration.sounds.procedural import CLASSES
from export.generator import open_generator
from models.mel import MelSpec, log_mel
from models.stretch import FRAME_S, Generator, GeneratorInput

matplotlib.use("Agg")
from matplotlib import pyplot as plt

__all__ = ["main"]

_RATE = 16_000
_SPEC = MelSpec()
_RANGE = 9.0  # of natural logarithms below the top: 78 dB

Wave = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A sound with its title, and what is marked in it."""

    title: str
    sound: Wave
    marks: tuple[tuple[float, str], ...] = ()  # s, what begins there


def main() -> None:
    """Make, write, draw."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    trained = open_trained(args.training)
    real = real_sounds(
        scores_folder(args.training) / "real",
        len(CLASSES) * args.each,
        seed=888_000 + args.seed,
        workers=args.workers,
    )
    rows = _classes(trained, real, args)
    for row in rows:
        _write(args.out, row)
    streams = _streams(trained, real, args)
    for piece in streams:
        _write(args.out, [piece])
    _sheet(args.out / "sheet.png", rows, streams, trained)
    print(f"{args.out / 'sheet.png'}")


def _classes(trained: Trained, real: RealSounds, args: argparse.Namespace) -> list[list[Piece]]:
    """Return a row for each sound: real, its copy, teacher, few steps."""
    n = len(real)
    sounds = [real.sound(i) for i in range(n)]
    scorer = TorchScorer(trained)
    mel = mel_windows(sounds)
    vectors = scorer.embed(mel)
    columns: list[tuple[str, list[Wave]]] = [("copy", decode(trained, encode(trained, mel)))]
    settings = []
    if trained.teacher is not None:
        settings.append(Make("teacher", args.many))
    settings += [
        Make("student" if trained.student is not None else "teacher", k) for k in args.steps
    ]
    for make in settings:
        print(f"{make.name} ...", flush=True)
        columns.append((make.name, make_windows(trained, vectors, make, seed=args.seed)))
    heard = [scorer.judge(mel_windows(made)).classes for _, made in columns]
    rows = []
    for i in range(n):
        label = real.labels[i]
        pitch = real.factors["pitch"][i]
        asked = f", {pitch:.0f} Hz" if np.isfinite(pitch) else ""
        row = [Piece(f"{label}{asked}", sounds[i])]
        for (name, made), judged in zip(columns, heard, strict=True):
            found = measure_factors(made[i]).pitch_hz if np.isfinite(pitch) else np.nan
            told = f", {found:.0f} Hz" if np.isfinite(found) else ""
            wrong = "" if judged[i] == real.classes[i] else f" (heard: {CLASSES[judged[i]]})"
            row.append(Piece(f"{name}{told}{wrong}", made[i]))
        rows.append(row)
    return rows


def _streams(trained: Trained, real: RealSounds, args: argparse.Namespace) -> list[Piece]:
    """Return a stream of changing conditions, a steady one, and silence."""
    generator = _generator(trained, args)
    if generator is None:
        return []
    n_frames = generator.spec.stretches[0]
    stretch_s = n_frames * FRAME_S
    vectors = TorchScorer(trained).embed(mel_windows([real.sound(i) for i in range(len(CLASSES))]))
    late = generator.spec.delay_samples / _RATE

    def stream(order: list[int], seconds: float, title: str) -> Piece:
        n = round(seconds / stretch_s)
        given = [GeneratorInput(vector=vectors[i]) for i in order for _ in range(n)]
        rng = np.random.default_rng(args.seed)
        made = make_stream(generator, given, n_frames=n_frames, rng=rng)
        marks = tuple((k * n * stretch_s + late, CLASSES[i]) for k, i in enumerate(order))
        return Piece(title, made.sound, marks if len(order) > 1 else ())

    print("streams ...", flush=True)
    everything = [i for i, name in enumerate(CLASSES) if name != "silence"]
    half = len(everything) // 2
    steady = CLASSES.index("vowel")
    quiet = CLASSES.index("silence")
    return [
        stream(everything[:half], 2.0, "changing conditions 1"),
        stream(everything[half:], 2.0, "changing conditions 2"),
        stream([steady], 12.0, f"steady condition ({CLASSES[steady]})"),
        stream([steady, quiet, steady], 4.0, "into silence and back"),
    ]


def _generator(trained: Trained, args: argparse.Namespace) -> Generator | None:
    if args.generator is not None:
        return open_generator(args.generator)
    denoiser = trained.student or trained.teacher
    if denoiser is None or trained.vocoder is None:
        return None
    from models.nets.stretch import GeneratorNets, TorchGenerator

    student = trained.student is not None
    return TorchGenerator(
        GeneratorNets(trained.size, trained.codec, denoiser, trained.vocoder),
        steps=args.steps[-1] if student else args.many,
        stretches=(4,),
        sampler=trained.sampler if student else "euler",
        guidance=1.0 if student else trained.guidance,
    )


def _write(folder: Path, pieces: list[Piece]) -> None:
    """Write the sounds and a picture of them beside each other."""
    name = _file(pieces[0].title)
    for place, piece in enumerate(pieces):
        end = "" if len(pieces) == 1 else f"-{place}-{_file(piece.title) if place else 'real'}"
        soundfile.write(folder / f"{name}{end}.wav", np.clip(piece.sound, -1.0, 1.0), _RATE)
    figure, axes = plt.subplots(
        2, len(pieces), figsize=(max(5.0 * len(pieces), 11.0), 5.0), squeeze=False,
        height_ratios=(3, 1), sharex="col", layout="constrained",
    )  # fmt: skip
    top = _top(pieces[0].sound)
    # One scale for the row: what is made too quiet must look too quiet.
    peak = 1.1 * max(1e-3, *(float(np.max(np.abs(piece.sound))) for piece in pieces))
    for (above, below), piece in zip(axes.T, pieces, strict=True):
        _draw_mel(above, piece, top)
        time = np.arange(len(piece.sound)) / _RATE
        below.plot(time, piece.sound, linewidth=0.4, color="black")
        below.set_ylim(-peak, peak)
        below.set_xlabel("s")
        above.set_title(f"{piece.title}\n{level_dbfs(piece.sound):.0f} dBFS", fontsize=10)
    axes[0, 0].set_ylabel("mel band")
    axes[1, 0].set_ylabel("amplitude")
    figure.savefig(folder / f"{name}.png", dpi=80)
    plt.close(figure)


def _sheet(path: Path, rows: list[list[Piece]], streams: list[Piece], trained: Trained) -> None:
    """Draw everything into one picture: a row for each real sound, the streams below."""
    n_columns = len(rows[0])
    height = 1.15 * len(rows) + 1.7 * len(streams) + 0.6
    figure = plt.figure(figsize=(3.6 * n_columns, height), layout="constrained")
    ratios = [1.0] * len(rows) + [1.45] * len(streams)
    grid = figure.add_gridspec(len(ratios), n_columns, height_ratios=ratios)
    for i, row in enumerate(rows):
        for j, piece in enumerate(row):
            axis = figure.add_subplot(grid[i, j])
            _draw_mel(axis, piece, _top(row[0].sound))
            told = "" if not j else f", {_distance(row[0].sound, piece.sound)}"
            axis.set_title(f"{piece.title}{told}", fontsize=7.5, loc="left", pad=2)
            axis.set_xticks([])
            axis.set_yticks([])
    for i, piece in enumerate(streams, start=len(rows)):
        axis = figure.add_subplot(grid[i, :])
        _draw_mel(axis, piece, _top(piece.sound))
        axis.set_title(piece.title, fontsize=8, loc="left", pad=2)
        axis.set_yticks([])
    voice = "vocoder" if trained.vocoder is not None else "Griffin-Lim, no vocoder is trained"
    figure.suptitle(
        f"Columns: real sound, its copy, what is made of its vector ({voice}). Log mel, 64 bands, "
        "a row from the loudest of its real sound to 78 dB below.",
        fontsize=9,
    )
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _top(sound: Wave) -> float:
    """Return the level that is drawn brightest; what is silent must look silent."""
    return max(float(log_mel(sound, _SPEC).max()), -3.0)


def _draw_mel(axis: plt.Axes, piece: Piece, top: float) -> None:
    mel = log_mel(piece.sound, _SPEC).T  # (64, frames)
    extent = (0.0, len(piece.sound) / _RATE, 0.0, float(_SPEC.n_mels))
    axis.imshow(
        mel, origin="lower", aspect="auto", extent=extent, vmin=top - _RANGE, vmax=top,
        cmap="magma", interpolation="nearest",
    )  # fmt: skip
    for at, what in piece.marks:
        axis.axvline(at, color="white", linewidth=0.6)
        axis.text(at + 0.05, 55.0, what, color="white", fontsize=7)


def _distance(real: Wave, made: Wave) -> str:
    n = min(len(real), len(made))
    return f"{log_spectral_distance(real[:n], made[:n]):.0f} dB"


def _file(title: str) -> str:
    kept = [c if c.isalnum() else "-" for c in title.lower()]
    return "-".join(part for part in "".join(kept).split("-") if part)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("training", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--generator", type=Path, default=None, help="exported, for the streams")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--many", type=int, default=32, help="steps of the guided teacher")
    parser.add_argument("--each", type=int, default=1, help="sounds of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="8 teacher steps, 4 few ones")
    args = parser.parse_args()
    if args.quick:
        args.many, args.steps = 8, [4]
    return args


if __name__ == "__main__":
    main()
