"""Long streams of a generator: joins, clicks, drift, response to a change, steadiness, silence.

    python -m benchmarks.generator_seams TRAINING [--generator EXPORTED] [--quick]
        [--stretch 4 16] [--streams 24] [--seconds 33] [--steps 4] [--work DIR] [--only PART ...]

TRAINING is the folder of a training run, or of an exported generator, whose networks are read back.
The streams are those of the exported generator that --generator names, else of TRAINING's networks
run by torch; either way TRAINING's judge scores them. Streams are kept in --work, so a run that was
cut off goes on. Real sounds, put through codec and vocoder in one piece, are what a stream without
joins is. Writes benchmarks/results/generator_seams.json and .md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rig import machine, write_results
from calibration.generator_scores.conditions import mean_cosine
from calibration.generator_scores.drift import drift, level_change_db, level_dbfs, steadiness
from calibration.generator_scores.join_finder import find_joins
from calibration.generator_scores.joins import (
    Against,
    ClickScore,
    clicks,
    join_steps,
    level_steps_db,
    pitch_steps_cents,
)
from calibration.generator_scores.makers import decode, encode
from calibration.generator_scores.networks import Trained, open_trained, scores_folder
from calibration.generator_scores.real import RealSounds, real_sounds
from calibration.generator_scores.response import response
from calibration.generator_scores.scorers import WINDOW, TorchScorer, mel_windows
from calibration.generator_scores.streams import Stream, make_stream
from calibration.generator_scores.whole import pieces_difference, streamed_difference
from calibration.json_values import json_values
from calibration.sounds.procedural import CLASSES, SILENCE
from calibration.whole_file import write_whole
from export.generator import open_generator
from models.errors import SettingError
from models.mel import MelSpec, log_mel
from models.stretch import FRAME_S, Generator, GeneratorInput

__all__ = ["main"]

PARTS = ("whole", "joins", "finder", "drift", "response", "steady", "silence")
_RATE = 16_000
_SHORT = 64  # mel frames of a window that hears changes
_CLIP = WINDOW * 160


class Work:
    """Networks, real sounds, and the streams that were made."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.trained: Trained = open_trained(args.training)
        self.scorer = TorchScorer(self.trained)
        n = max(args.streams, args.real)
        self.real: RealSounds = real_sounds(
            args.work.parent / "real", n, duration_s=5.12, workers=args.workers
        )
        self.vectors = self.scorer.embed(mel_windows([self.real.sound(i) for i in range(n)]))
        self.generator = self._generator()

    def _generator(self) -> Generator:
        if self.args.generator is not None:
            return open_generator(self.args.generator)
        from models.nets.stretch import GeneratorNets, TorchGenerator

        trained = self.trained
        student = trained.student is not None
        denoiser = trained.student if student else trained.teacher
        if denoiser is None or trained.vocoder is None:
            raise SettingError(
                "Streams need a trained vocoder and generator. Train these stages first."
            )
        return TorchGenerator(
            GeneratorNets(trained.size, trained.codec, denoiser, trained.vocoder),
            steps=self.args.steps,
            stretches=tuple(self.args.stretch),
            sampler=trained.sampler if student else "euler",
            guidance=1.0 if student else trained.guidance,
        )

    def stream(self, number: int, n_frames: int) -> Stream:
        """Return the stream of the condition of real sound `number`, made once."""
        n = round(self.args.seconds / (n_frames * FRAME_S))
        given = [GeneratorInput(vector=self.vectors[number])] * n
        return self._kept(f"steady-{n_frames}-{number:03d}-{n}", given, n_frames, number)

    def changing(self, number: int, other: int, n_frames: int, before: int, n: int) -> Stream:
        """Return a stream whose condition changes after `before` stretches."""
        first, second = (GeneratorInput(vector=self.vectors[i]) for i in (number, other))
        given = [first] * before + [second] * (n - before)
        return self._kept(f"changed-{n_frames}-{number:03d}-{other:03d}", given, n_frames, number)

    def _kept(self, name: str, given: list[GeneratorInput], n_frames: int, seed: int) -> Stream:
        path = self.args.work / f"{name}.npz"
        spec = self.generator.spec
        if not path.is_file():
            print(f"{name} ...", flush=True)
            made = make_stream(
                self.generator, given, n_frames=n_frames, rng=np.random.default_rng([11, seed])
            )
            latents = np.zeros((0, 1), np.float32) if made.latents is None else made.latents
            write_whole(path, lambda file: np.savez(file, sound=made.sound, latents=latents))
        with np.load(path) as kept:
            latents = kept["latents"]
            return Stream(
                kept["sound"],
                latents if len(latents) else None,
                n_frames,
                spec.samples_per_frame,
                spec.delay_samples,
            )


def main() -> None:
    """Make, score, write."""
    args = _arguments()
    before = machine()
    before["packages"] = {name: version(name) for name in ("numpy", "torch", "onnxruntime")}
    work = Work(args)
    detail: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for n_frames in args.stretch:
        found: dict[str, Any] = {}
        detail[f"{n_frames * FRAME_S:g} s"] = found
        for part in args.only:
            print(f"{n_frames * FRAME_S:g} s: {part}", flush=True)
            try:
                found[part] = _SCORES[part](work, n_frames)
            except SettingError as error:
                found[part] = {"not measured": str(error)}
        rows += _rows(n_frames, found)
    settings = {key: str(value) for key, value in vars(args).items() if key not in _PATHS}
    write_results(
        args.out,
        title="Streams of the generator: joins, drift, response",
        settings=settings,
        before=before,
        rows=json_values(rows),
        detail=json_values(detail),
    )


_PATHS = ("training", "generator", "work", "out")


def _streams(work: Work, n_frames: int) -> list[Stream]:
    return [work.stream(i, n_frames) for i in range(work.args.streams)]


def _whole(work: Work, n_frames: int) -> dict[str, Any]:
    """S1: decoded in stretches against codec and vocoder run once over all latents."""
    codec, vocoder = work.trained.codec, work.trained.vocoder
    if vocoder is None:
        raise SettingError("Decoding in one piece needs a trained vocoder.")
    streams = _streams(work, n_frames)[:4]
    return {
        "largest_in_pieces": max(pieces_difference(codec, vocoder, each) for each in streams),
        "largest_difference": max(streamed_difference(codec, vocoder, each) for each in streams),
        "n": len(streams),
    }


def _joins(work: Work, n_frames: int) -> dict[str, Any]:
    """S2, S4, S5: steps, clicks, levels, pitches at joins and elsewhere."""
    streams = _streams(work, n_frames)
    sounds, joins = [s.sound for s in streams], [s.joins for s in streams]
    spec = MelSpec()
    mels = [log_mel(sound, spec) for sound in sounds]
    copies = _copies(work)
    measures: dict[str, Callable[[], Against | ClickScore]] = {
        "mel_steps": lambda: join_steps(
            mels,
            [s.mel_joins() for s in streams],
            reach=8,  # two latent frames
            without_joins=[log_mel(sound, spec) for sound in copies] if n_frames < 8 else (),
        ),
        "clicks": lambda: clicks(sounds, joins),
        "levels_db": lambda: level_steps_db(sounds, joins),
    }
    if all(stream.latents is not None for stream in streams):
        latents = [stream.latents for stream in streams if stream.latents is not None]
        longest = _longest_inside(work, n_frames)
        places = [s.latent_joins for s in streams]
        measures["latent_steps"] = lambda: join_steps(latents, places, without_joins=longest)
        held = work.generator.spec.held
        if held and held < n_frames:
            measures["latent_steps_end_of_blend"] = lambda: join_steps(
                latents, [place + held for place in places], without_joins=longest
            )
    tones = [i for i in range(len(streams)) if work.real.labels[i] == "tone"]
    measures["pitch_cents"] = lambda: pitch_steps_cents(
        [sounds[i] for i in tones], [joins[i] for i in tones]
    )
    found: dict[str, Any] = {}
    for name, measure in measures.items():
        try:
            found[name] = measure().to_json()
        except SettingError as error:  # too few places of the kind; the rest is measured
            found[name] = {"not measured": str(error)}
    return found


def _longest_inside(work: Work, n_frames: int) -> list[NDArray[np.float32]]:
    """Return pieces of streams of the longest stretches that hold no join, for short ones."""
    if n_frames > 6:
        return []
    longest = work.generator.spec.stretches[-1]
    pieces = []
    for number in range(min(work.args.streams, 13)):
        latents = work.stream(number, longest).latents
        if latents is not None:
            pieces += [latents[i : i + longest] for i in range(longest, len(latents), longest)]
    return pieces


def _copies(work: Work) -> list[NDArray[np.float32]]:
    """Return real sounds through codec and vocoder in one piece: streams without joins."""
    mel = mel_windows([work.real.sound(i)[_CLIP:] for i in range(work.args.streams)])
    return decode(work.trained, encode(work.trained, mel))


def _finder(work: Work, n_frames: int) -> dict[str, Any]:
    """S3: whether a classifier finds the joins of streams that it has not seen."""
    streams = _streams(work, n_frames)
    sounds, joins = [s.sound for s in streams], [s.joins for s in streams]
    found = {}
    for name in ("logistic", "cnn"):
        rng = np.random.default_rng(3)
        found[name] = find_joins(sounds, joins, rng=rng, finder=name).to_json()
    return found


def _drift(work: Work, n_frames: int) -> dict[str, Any]:
    """S6: 2.56 s up to stretch 200 (or the last there is) against the first 2.56 s."""
    streams = _streams(work, n_frames)
    end = min(200 * n_frames * 640, min(len(stream.sound) for stream in streams))
    first = [stream.sound[stream.delay_samples :][:_CLIP] for stream in streams]
    last = [stream.sound[end - _CLIP : end] for stream in streams]
    scored = []
    for sounds in (first, last):
        mel = mel_windows(sounds)
        scored.append((work.scorer.judge(mel), work.scorer.embed(mel)))
    n = len(streams)
    wanted = work.real.classes[:n]
    real = work.scorer.judge(
        mel_windows([work.real.sound(i) for i in range(len(work.real.labels))])
    )
    cosines = [
        np.array([mean_cosine(row[None], vector[None]) for row, vector in zip(e, v, strict=True)])
        for e, v in ((scored[0][1], work.vectors[:n]), (scored[1][1], work.vectors[:n]))
    ]
    found = drift(
        real.vectors,
        scored[0][0].vectors,
        scored[1][0].vectors,
        first_sounds=first,
        last_sounds=last,
        first_right=scored[0][0].classes == wanted,
        last_right=scored[1][0].classes == wanted,
        first_cosine=cosines[0],
        last_cosine=cosines[1],
    )
    asked = [work.real.sound(i)[:_CLIP] for i in range(n)]
    return {
        **found.to_json(),
        "level_beside_asked_db": level_change_db(asked, last),
        "last_stretch": end // (n_frames * 640),
    }


def _response(work: Work, n_frames: int) -> dict[str, Any]:
    """How soon a changed condition is heard as the new class, beside real sounds cut hard."""
    before = round(2.56 / (n_frames * FRAME_S))
    after = before + round(1.92 / (n_frames * FRAME_S))
    made, cut, at, wanted = [], [], [], []
    change = before * n_frames * 640
    for number, other in pairwise(range(work.args.streams)):
        if SILENCE in (work.real.labels[number], work.real.labels[other]):
            continue
        if work.real.classes[number] == work.real.classes[other]:
            continue
        stream = work.changing(number, other, n_frames, before, after)
        real = np.concatenate([work.real.sound(number)[:change], work.real.sound(other)])
        made.append(stream.sound)
        cut.append(real[: len(stream.sound)])
        at.append(change)
        wanted.append(int(work.real.classes[other]))

    def classify(windows: NDArray[np.float32]) -> NDArray[np.int64]:
        return work.scorer.judge(mel_windows(list(windows), _SHORT)).classes

    found = response(made, cut, at, wanted, classify, window=_SHORT * 160)
    return {**found.to_json(), "window_s": _SHORT / 100}


def _steady(work: Work, n_frames: int) -> dict[str, Any]:
    """How much streams under one condition wander, beside real sounds of the same classes."""
    streams = [s.sound for s in _streams(work, n_frames)]
    real = [work.real.sound(i) for i in range(len(streams))]

    def vectors(sound: NDArray[np.float32]) -> NDArray[np.float32]:
        pieces = [sound[i : i + _CLIP] for i in range(0, len(sound) - _CLIP + 1, _CLIP)]
        return work.scorer.judge(mel_windows(pieces)).vectors

    length = len(real[0])
    same = [sound[-length:] for sound in streams]  # as long as the real ones
    return steadiness(
        same,
        real,
        made_vectors=[vectors(sound) for sound in same],
        real_vectors=[vectors(sound) for sound in real],
    ).to_json()


def _silence(work: Work, n_frames: int) -> dict[str, Any]:
    """How loud a stream is that was asked for silence, dBFS."""
    quiet = [i for i, label in enumerate(work.real.labels) if label == SILENCE][:8]
    if not quiet:
        raise SettingError("There is no silence among the real sounds. Ask for more streams.")
    n = round(5.12 / (n_frames * FRAME_S))
    levels = []
    for number in quiet:
        given = [GeneratorInput(vector=work.vectors[number])] * n
        stream = work._kept(f"silent-{n_frames}-{number:03d}", given, n_frames, number)
        levels.append(level_dbfs(stream.sound))
    asked = [level_dbfs(work.real.sound(number)) for number in quiet]
    return {"loudest_dbfs": max(levels), "median_dbfs": float(np.median(levels)), "asked": asked}


_SCORES = {
    "whole": _whole,
    "joins": _joins,
    "finder": _finder,
    "drift": _drift,
    "response": _response,
    "steady": _steady,
    "silence": _silence,
}


def _rows(n_frames: int, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the figures that have a goal, a row each."""
    goals = (
        ("S1 pieces against whole, frame by frame", ("whole", "largest_in_pieces"), "<= 1e-5"),
        ("S1 streamed against whole, phases running on", ("whole", "largest_difference"), ""),
        ("S2 latent step, median", ("joins", "latent_steps", "median_ratio"), "<= 1.05"),
        ("S2 latent step, p95", ("joins", "latent_steps", "p95_ratio"), "<= 1.05"),
        ("S2 mel step, median", ("joins", "mel_steps", "median_ratio"), "<= 1.05"),
        ("S2 mel step, p95", ("joins", "mel_steps", "p95_ratio"), "<= 1.05"),
        ("S3 finder AUC, logistic", ("finder", "logistic", "auc"), "<= .60"),
        ("S3 finder AUC, CNN", ("finder", "cnn", "auc"), "<= .60"),
        ("S3 shuffled labels, CNN", ("finder", "cnn", "shuffled_auc"), "near .5"),
        ("S3 spoilt joins, CNN", ("finder", "cnn", "spoiled_auc"), "near 1"),
        ("S4 clicks, percentile of p95", ("joins", "clicks", "p95_percentile"), "<= 97"),
        ("S4 level step p95, dB", ("joins", "levels_db", "p95"), "<= 1.5"),
        ("S4 level step p95 elsewhere, dB", ("joins", "levels_db", "inside_p95"), ""),
        ("S5 pitch step, cents", ("joins", "pitch_cents", "median"), "<= 10"),
        ("S6 FD late over early", ("drift", "distance_ratio"), "<= 1.5"),
        ("S6 level change, dB", ("drift", "level_change_db"), "within 1"),
        ("level beside what was asked for, dB", ("drift", "level_beside_asked_db"), ""),
        ("S6 change of class accuracy", ("drift", "accuracy_change"), ">= -.03"),
        ("new class heard beyond a hard cut, s", ("response", "beyond_cut_s"), ""),
        ("new class heard, p95, s", ("response", "p95_s"), ""),
        ("level sd of steady streams, dB", ("steady", "level_sd_db"), ""),
        ("level sd of real sounds, dB", ("steady", "real_level_sd_db"), ""),
        ("silence, loudest, dBFS", ("silence", "loudest_dbfs"), ""),
    )
    rows = []
    for what, path, goal in goals:
        value: Any = found
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            rows.append(
                {"stretch, s": n_frames * FRAME_S, "what": what, "value": value, "goal": goal}
            )
    return rows or [{"stretch, s": n_frames * FRAME_S, "what": "-", "value": "-", "goal": ""}]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("training", type=Path)
    parser.add_argument("--generator", type=Path, default=None, help="exported")
    parser.add_argument("--stretch", type=int, nargs="+", default=[4, 16], help="latent frames")
    parser.add_argument("--streams", type=int, default=4 * len(CLASSES))
    parser.add_argument("--real", type=int, default=20 * len(CLASSES), help="for distances")
    parser.add_argument(
        "--seconds", type=float, default=33.0, help="200 stretches of .16 s and 1 s"
    )
    parser.add_argument("--steps", type=int, default=4, help="where torch runs the networks")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, default=None, help="where streams are kept")
    parser.add_argument("--workers", type=int, default=1, help="processes that render real sounds")
    parser.add_argument("--quick", action="store_true", help="13 streams of 6 s")
    parser.add_argument("--out", default="generator_seams", help="name of the results")
    args = parser.parse_args()
    if args.quick:
        args.streams, args.seconds, args.real = len(CLASSES), 6.4, 3 * len(CLASSES)
    name = args.training.resolve().name + ("-streams-quick" if args.quick else "-streams")
    args.work = args.work or scores_folder(args.training) / name
    return args


if __name__ == "__main__":
    main()
