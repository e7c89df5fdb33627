"""What a fine-tuning leaves for a calibration: a record, and what it must fit.

hearback train brain -> tuned.json, acoustic.onnx, statistics -> hearback calibrate -> bundle
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Run
from calibration.outer import Fit
from calibration.plan import Plan
from calibration.steps import array_digest
from calibration.whole_file import write_whole
from export.checked_files import sha256_of
from export.generator_files import GeneratorCard
from export.npy import read_npy, write_npy
from export.strict_json import parse_object, record_from_json
from models.errors import FileError, SettingError

__all__ = [
    "ACOUSTIC_FILE",
    "ADVICE",
    "TunedRecord",
    "fitting_plan",
    "read_tuned",
    "tuned_array",
    "tuned_in_card",
    "write_tuned",
]

TUNED_FILE = "tuned.json"
ACOUSTIC_FILE = "acoustic.onnx"
_SCHEMA = 1
_MAX_BYTES = 4 << 20
_ARRAYS = {"mean": 1, "std": 1, "centre": 1, "tokens": 2}  # axes of each
# What of a plan decides on the windows, their features and what is decoded of them; the stretch
# that is embedded is taken over, and what is held out is asked of the recordings themselves.
_SAME = ("features", "standardise", "choice", "lags_s", "closed", "decoder")


@dataclass(frozen=True, slots=True)
class TunedRecord:
    """What `tuned.json` says."""

    participant: str
    weights: str  # digest of the tuned denoiser; a generator that is exported from it names it too
    trained_on: tuple[str, ...]  # digests of the runs that were learnt from
    plan: dict[str, Any]
    hop_s: float
    lag_s: float
    method: Literal["ridge", "transformer"]
    steps: int  # of tokens for a window
    files: dict[str, str] = field(default_factory=dict)  # sha256 of what lies beside it
    schema: int = _SCHEMA


def write_tuned(
    folder: Path,
    record: TunedRecord,
    fit: Fit,
    *,
    tokens: NDArray[np.float32],
) -> TunedRecord:
    """Write the record of a fine-tuning beside its `acoustic.onnx`.

    Parameters
    ----------
    folder : Path
    record : TunedRecord
        Its `files` are made here.
    fit : Fit
        The semantic decoder's, on what was learnt from.
    tokens : array of shape (8 steps, 768)
        The acoustic decoder's mean tokens.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    arrays = {"mean": fit.mean, "std": fit.std, "centre": fit.centre, "tokens": tokens}
    for name, values in arrays.items():
        write_whole(folder / _array_file(name), write_npy(np.asarray(values, "<f8")))
    names = (ACOUSTIC_FILE, *(_array_file(name) for name in arrays))
    record = replace(record, files={name: sha256_of(folder / name) for name in names})
    write_whole(folder / TUNED_FILE, (json.dumps(asdict(record), indent=1) + "\n").encode())
    return record


def read_tuned(folder: Path) -> TunedRecord:
    """Return the record of a fine-tuning.

    Raises
    ------
    FileError
        If there is none, it is damaged, or a file beside it is another one.
    """
    path = folder / TUNED_FILE
    try:
        values = parse_object(path.read_bytes(), TUNED_FILE, max_bytes=_MAX_BYTES)
        record: TunedRecord = record_from_json(TunedRecord, values, TUNED_FILE)
        if record.schema != _SCHEMA or set(record.files) != _names():
            raise SettingError(f"{TUNED_FILE} is of another release of hearback.")
        changed = [name for name, digest in record.files.items()
                   if sha256_of(folder / name) != digest]  # fmt: skip
    except (OSError, SettingError) as error:
        raise FileError(
            f"{folder} cannot be used as a fine-tuning with a decoder of acoustic tokens: {error} "
            "Give the finished folder of: hearback train brain"
        ) from error
    if changed:
        raise FileError(
            f"{folder} holds another {changed[0]} than the fine-tuning wrote. Go on with it: "
            "hearback train brain --resume"
        )
    return record


def tuned_in_card(card: GeneratorCard) -> Mapping[str, Any]:
    """Return what the card of an exported generator says of its fine-tuning; empty if nothing."""
    recipe = card.about.get("recipe")
    told = recipe.get("tuned") if isinstance(recipe, dict) else None
    return told if isinstance(told, dict) else {}


ADVICE = (
    "Calibrate with the settings of the fine-tuning (the tables under [calibration] of its file), "
    "or let it write the bundle itself: hearback train brain --resume --bundle FOLDER"
)


def fitting_plan(record: TunedRecord, plan: Plan, trained: Sequence[Run], *, alone: bool) -> Plan:
    """Return the plan with the stretch that was embedded in the fine-tuning.

    Parameters
    ----------
    record : TunedRecord
    plan : Plan
    trained : sequence of Run
        That the bundle will be fitted on.
    alone : bool
        Whether nobody else helps to train.

    Raises
    ------
    SettingError
        If participant, recordings, features or windows are others.
    """
    if plan.participant != record.participant:
        raise SettingError(
            f"The fine-tuning was made on {record.participant!r}, and these are recordings of "
            f"{plan.participant!r}. What was tuned to one brain says nothing of another."
        )
    digests = {array_digest(run.signal) for run in trained}
    if digests != set(record.trained_on):
        both = len(digests & set(record.trained_on))
        raise SettingError(
            f"The fine-tuning learnt from {len(record.trained_on)} recordings, the bundle would "
            f"from {len(digests)}, and {both} are the same. {ADVICE}"
        )
    if not alone:
        raise SettingError(
            "The fine-tuning was made on one participant alone. Leave the others out (--with, "
            "people.align)."
        )
    here = _plain(plan)
    for name in _SAME:
        if record.plan.get(name) != here[name]:
            raise SettingError(
                f"The fine-tuning was made with {name} {_short(record.plan.get(name))}, here they "
                f"are {_short(here[name])}. {ADVICE}"
            )
    stretch = record.plan.get("stretch")
    if stretch == plan.stretch or stretch not in ("clip", "window"):
        return plan
    note = "What is decoded is the embedding of each window's stretch of sound, as in fine-tuning."
    return replace(plan, stretch=stretch, notes=(*plan.notes, note))


def _plain(plan: Plan) -> dict[str, Any]:
    """Return a plan as it comes back from a file."""
    values: dict[str, Any] = json.loads(json.dumps(plan.to_json()))
    return values


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def tuned_array(folder: Path, name: str) -> NDArray[np.float64]:
    """Return an array beside a record: "mean", "std", "centre" or "tokens".

    Raises
    ------
    FileError
        If it cannot be read.
    """
    path = folder / _array_file(name)
    try:
        data = path.read_bytes()
        return np.array(read_npy(data, dtype=np.dtype("<f8"), ndim=_ARRAYS[name]))
    except (OSError, ValueError) as error:
        raise FileError(f"Cannot read {path}: {error}.") from error


def _array_file(name: str) -> str:
    return f"tuned-{name}.npy"


def _names() -> set[str]:
    return {ACOUSTIC_FILE, *(_array_file(name) for name in _ARRAYS)}
