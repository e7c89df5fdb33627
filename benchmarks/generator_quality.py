"""What a trained generator makes: few steps against many, conditions, factors, errors, identity.

    python -m benchmarks.generator_quality TRAINING [--generator EXPORTED] [--quick]
        [--clips 2000] [--seeds 3] [--steps 1 2 4] [--many 32] [--work DIR] [--only PART ...]

TRAINING is the folder of a training run; with --generator the exported one is scored beside it,
made stretch by stretch as live. The folder of an exported generator may stand in its place: its
networks are read back, and what only a run has, many steps of the teacher, is left out. Sounds are
made and scored in shards that stay in --work, so a run that was cut off goes on where it stopped.
Real sounds are procedural ones of a seed that nothing was trained on; the Frechet distance is in
the space of the judge, an encoder of another seed than the one whose vectors are the conditions.
Writes benchmarks/results/generator_quality.json and .md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rig import machine, write_results
from calibration.generator_scores.conditions import (
    ErrorCurve,
    corrupted,
    factor_ranks,
    mean_cosine,
    n_way_identity,
)
from calibration.generator_scores.fidelity import Fidelity, few_against_many, fidelity
from calibration.generator_scores.makers import Make, encode, make_streams, make_windows
from calibration.generator_scores.networks import Trained, open_trained, scores_folder
from calibration.generator_scores.real import RealSounds, real_sounds
from calibration.generator_scores.scorers import FACTORS, TorchScorer, mel_windows
from calibration.generator_scores.shards import MEASURED, Scored, scored_shards
from calibration.json_values import json_values
from export.generator import open_generator

__all__ = ["main"]

PARTS = ("fidelity", "conditions", "errors", "identity")


class Work:
    """Everything that the parts share: networks, real sounds, and what was made of them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.trained: Trained = open_trained(args.training)
        self.scorer = TorchScorer(self.trained)
        self.folder: Path = args.work
        self.real: RealSounds = real_sounds(
            args.work.parent / "real", args.clips, workers=args.workers
        )
        self.real_scored = scored_shards(
            self.folder,
            "real",
            args.clips,
            lambda rows: [self.real.sound(i) for i in rows],
            self.scorer,
            measure=True,
            progress=say,
        )
        self.vectors = self.real_scored.embedded
        if self.trained.student is not None:
            self.settings = [Make("student", k) for k in args.steps]
        else:  # before distillation: the same few steps of the teacher
            self.settings = [Make("teacher", k) for k in args.steps]
        # An exported student comes without its teacher.
        self.many = Make("teacher", args.many) if self.trained.teacher is not None else None
        self.generator = open_generator(args.generator) if args.generator else None

    def made(self, make: Make, seed: int, *, n: int | None = None) -> Scored:
        """Return the scores of a setting; the sounds of the first seed are measured as well."""
        return scored_shards(
            self.folder,
            f"{make.name}-seed{seed}",
            n or self.args.clips,
            lambda rows: make_windows(
                self.trained,
                self.vectors[rows.start : rows.stop],
                make,
                seed=seed + 97 * rows.start,
            ),
            self.scorer,
            measure=seed == 0,
            progress=say,
        )

    def streamed(self, seed: int) -> Scored:
        """Return the scores of the exported generator."""
        generator = self.generator
        assert generator is not None
        return scored_shards(
            self.folder,
            f"exported-seed{seed}",
            self.args.clips,
            lambda rows: make_streams(
                generator, self.vectors[rows.start : rows.stop], seed=seed + 97 * rows.start
            ),
            self.scorer,
            measure=seed == 0,
            progress=say,
        )

    def sets(self) -> dict[str, Callable[[int], Scored]]:
        """Return what is compared: name and how to get it for a seed."""
        found: dict[str, Callable[[int], Scored]] = {
            make.name: (lambda seed, make=make: self.made(make, seed))  # type: ignore[misc]
            for make in (*filter(None, (self.many,)), *self.settings)
        }
        if self.generator is not None:
            found[f"exported-{self.generator.spec.steps}"] = self.streamed
        return found


def main() -> None:
    """Make, score, write."""
    args = _arguments()
    before = machine()
    before["packages"] = {name: version(name) for name in ("numpy", "torch", "onnxruntime")}
    work = Work(args)
    rows: list[dict[str, Any]] = []
    detail: dict[str, Any] = {
        "vocoder": work.trained.vocoder is not None,
        "teacher": work.many is not None,
    }
    if "fidelity" in args.only or "conditions" in args.only:
        rows = _compared(work, detail)
    sections: dict[str, list[dict[str, Any]]] = {}
    if "errors" in args.only:
        curve = _errors(work)
        sections["What is left of a condition that was given with an error (cosine r)"] = [
            {"r": r, "cosine to what was meant": cosine, "right class": accuracy}
            for r, cosine, accuracy in zip(curve.r, curve.cosine, curve.accuracy, strict=True)
        ]
    if "identity" in args.only:
        title = (
            "Known again among ten: from noise (strength 1), begun from what was found, found (0)"
        )
        sections[title] = _identity(work)
    settings = {key: str(value) for key, value in vars(args).items() if key not in _PATHS}
    heading = "What the generator makes: few steps against many, by encoders that score only" + (
        "" if work.trained.vocoder is not None else " (no vocoder trained: Griffin-Lim)"
    )
    write_results(
        args.out,
        title=heading,
        settings=settings,
        before=before,
        rows=json_values(rows),
        sections=json_values(sections),
        detail=json_values(detail),
    )


_PATHS = ("training", "generator", "work", "out")


def _compared(work: Work, detail: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each setting."""
    real = work.real_scored
    labels = np.array(work.real.labels)
    asked = {name: work.real.factors[name] for name in MEASURED}
    seeds = range(work.args.seeds)
    fidelities: dict[str, Fidelity] = {}
    rows = [_real_row(work)]
    detail["factors"] = {}
    teacher_cosine = float("nan")
    for name, get in work.sets().items():
        sets = [get(seed) for seed in seeds]
        first = sets[0]
        found = fidelity(real.judged, [made.judged for made in sets], rng=np.random.default_rng(0))
        fidelities[name] = found
        many = None if work.many is None else fidelities[work.many.name]
        cosine = float(np.mean([mean_cosine(made.embedded, work.vectors) for made in sets]))
        if work.many is not None and name == work.many.name:
            teacher_cosine = cosine
        measured = _columns(first.measured, MEASURED)
        readout = _columns(first.factors, FACTORS)
        by_sound = factor_ranks(asked, measured, _columns(real.measured, MEASURED), labels=labels)
        by_judge = factor_ranks(
            {key: work.real.factors[key] for key in FACTORS},
            readout,
            _columns(real.factors, FACTORS),
            labels=labels,
        )
        detail["factors"][name] = {
            "sound": {key: value.to_json() for key, value in by_sound.items()},
            "judge": {key: value.to_json() for key, value in by_judge.items()},
        }
        rows.append(
            {
                "made by": name,
                "FD": found.distance,
                "FD sd": found.spread,
                "FD / many": float("nan") if many is None else few_against_many(found, many),
                "cosine": cosine,
                "cosine / many": cosine / teacher_cosine,
                "class accuracy": float(
                    np.mean([np.mean(made.classes == work.real.classes) for made in sets])
                ),
                **{f"{key} r (sound)": by_sound[key].made for key in MEASURED},
                **{f"{key} r (judge)": by_judge[key].made for key in MEASURED},
            }
        )
    detail["split_half"] = next(iter(fidelities.values())).split_half
    detail["fidelity"] = {name: value.to_json() for name, value in fidelities.items()}
    rows[0]["FD"] = detail["split_half"]
    return rows


def _real_row(work: Work) -> dict[str, Any]:
    """Return the row of the real sounds: what can be reached, by the same measures."""
    real, labels = work.real_scored, np.array(work.real.labels)
    asked = {key: work.real.factors[key] for key in FACTORS}
    measured = {key: asked[key] for key in MEASURED}
    sound = factor_ranks(measured, _columns(real.measured, MEASURED), measured, labels=labels)
    judge = factor_ranks(asked, _columns(real.factors, FACTORS), asked, labels=labels)
    return {
        "made by": "real (FD: one half against the other)",
        "FD": float("nan"),
        "FD sd": float("nan"),
        "FD / many": float("nan"),
        "cosine": 1.0,
        "cosine / many": float("nan"),
        "class accuracy": float(np.mean(real.classes == work.real.classes)),
        **{f"{key} r (sound)": sound[key].made for key in MEASURED},
        **{f"{key} r (judge)": judge[key].made for key in MEASURED},
    }


def _errors(work: Work) -> ErrorCurve:
    """Return the curve of what is left of a condition that was given with an error."""
    n = min(work.args.clips, work.args.few)
    make = work.settings[-1]
    levels = (1.0, 0.9, 0.7, 0.5)
    cosine, accuracy = [], []
    for r in levels:
        given = corrupted(work.vectors[:n], r, rng=np.random.default_rng(round(1e3 * r)))
        made = scored_shards(
            work.folder,
            f"{make.name}-error{r:g}",
            n,
            lambda rows, given=given: make_windows(  # type: ignore[misc]
                work.trained, given[rows.start : rows.stop], make, seed=5 + 97 * rows.start
            ),
            work.scorer,
            measure=False,
            progress=say,
        )
        cosine.append(mean_cosine(made.embedded, work.vectors[:n]))
        accuracy.append(float(np.mean(made.classes == work.real.classes[:n])))
    return ErrorCurve(levels, tuple(cosine), tuple(accuracy))


def _identity(work: Work) -> list[dict[str, Any]]:
    """Return how often a sound is known again among ten, made directly and from a found sound.

    The condition is blurred as a decoder blurs it. What is found is the nearest other sound of the
    library to the blurred condition; the library is the real sounds themselves, without the one
    that was meant, so that finding it is not the answer.
    """
    n = min(work.args.clips, work.args.few)
    make = work.settings[-1]
    real = work.real_scored
    labels = np.array(work.real.labels[:n])
    rows = []
    for r in (1.0, 0.7, 0.5):
        given = corrupted(work.vectors[:n], r, rng=np.random.default_rng(round(1e3 * r) + 1))
        found = _nearest_others(given, work.vectors)
        starts: NDArray[np.float32] | None = None
        for strength in (1.0, 0.8, 0.6, 0.4):
            setting = Make(make.kind, make.steps, make.guidance, strength)
            if strength < 1.0 and starts is None:
                starts = encode(work.trained, mel_windows([work.real.sound(int(i)) for i in found]))
            made = scored_shards(
                work.folder,
                f"{setting.name}-found{r:g}",
                n,
                lambda rows, setting=setting, starts=starts, given=given: make_windows(  # type: ignore[misc]
                    work.trained,
                    given[rows.start : rows.stop],
                    setting,
                    seed=7 + 97 * rows.start,
                    start=None if starts is None else starts[rows.start : rows.stop],
                ),
                work.scorer,
                measure=False,
                progress=say,
            )
            rows.append(
                {
                    "r": r,
                    "strength": strength,
                    "ten_way": n_way_identity(made.judged, real.judged[:n]),
                    "ten_way_within_class": _within(made.judged, real.judged[:n], labels),
                    "class_accuracy": float(np.mean(made.classes == work.real.classes[:n])),
                    "cosine": mean_cosine(made.embedded, work.vectors[:n]),
                }
            )
        kept = real.judged[found]
        rows.append(
            {
                "r": r,
                "strength": 0.0,  # the sound that was found, as it is
                "ten_way": n_way_identity(kept, real.judged[:n]),
                "ten_way_within_class": _within(kept, real.judged[:n], labels),
                "class_accuracy": float(np.mean(work.real.classes[found] == work.real.classes[:n])),
                "cosine": mean_cosine(work.vectors[found], work.vectors[:n]),
            }
        )
    return rows


def _within(
    made: NDArray[np.float32], real: NDArray[np.float32], labels: NDArray[np.str_]
) -> float:
    """Return the identity among sounds of one class, NaN where classes have too few."""
    _, counts = np.unique(labels, return_counts=True)
    if counts.max() < 10:
        return float("nan")
    return n_way_identity(made, real, labels=labels)


def _nearest_others(given: NDArray[np.float32], library: NDArray[np.float32]) -> NDArray[np.int64]:
    table = given @ library.T
    table[np.arange(len(given)), np.arange(len(given))] = -np.inf
    return np.asarray(table.argmax(axis=1))


def _columns(values: NDArray[np.float32], names: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    return {name: values[:, i] for i, name in enumerate(names)}


def say(what: str, done: float, total: float) -> None:
    """Print what is being done."""
    print(f"{what} ...", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("training", type=Path)
    parser.add_argument("--generator", type=Path, default=None, help="exported, scored as well")
    parser.add_argument("--clips", type=int, default=2_000)
    parser.add_argument("--few", type=int, default=400, help="clips for errors and identity")
    parser.add_argument("--seeds", type=int, default=3, help="of the noise")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--many", type=int, default=32, help="steps of the guided teacher")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, default=None, help="where shards are kept")
    parser.add_argument("--workers", type=int, default=1, help="processes that render real sounds")
    parser.add_argument("--quick", action="store_true", help="78 clips, 1 seed, 8 teacher steps")
    parser.add_argument("--out", default="generator_quality", help="name of the results")
    args = parser.parse_args()
    if args.quick:
        args.clips, args.few, args.seeds, args.many = 78, 39, 1, 8
    name = args.training.resolve().name + ("-quick" if args.quick else "")
    args.work = args.work or scores_folder(args.training) / name
    return args


if __name__ == "__main__":
    main()
