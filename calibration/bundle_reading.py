"""A calibrated bundle read back: what it was fitted to, and recordings as it takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.bundle_out import CALIBRATION_FILE, TARGET_FILE
from calibration.config import CalibrationSettings, EvaluationSettings
from calibration.data.dataset import Dataset, Run
from calibration.data.samples import Samples
from calibration.outer import Decoded
from calibration.plan import Plan
from calibration.reading import read_participant
from calibration.run_features import run_features, standardise_runs
from calibration.steps import array_digest
from calibration.target_choice import targets_of
from calibration.targets import TargetSource
from calibration.windows import WindowChoice, make_samples
from export.bundle import Bundle
from export.chains import ChainSpec, CoarseToFineChain, DirectChain, SemanticChain
from export.npy import read_npy
from export.runtime import open_runner
from export.strict_json import parse_object, record_from_json
from models.errors import BundleError, SettingError
from models.settings import settings_from_dict

__all__ = ["Heard", "bundle_samples", "decode_with_bundle", "read_about"]

_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Recordings as a bundle takes them."""

    dataset: Dataset
    runs: tuple[Run, ...]  # that the bundle was not fitted on; all of them if there are no others
    leaky: bool
    plan: Plan
    targets: TargetSource
    samples: Samples  # standardised


def bundle_samples(
    bundle: Bundle,
    about: dict[str, Any],
    rows: NDArray[np.float64],
    path: Path,
    *,
    participant: str | None,
    settings: CalibrationSettings,
) -> Heard:
    """Read recordings and make of them what the decoder of a bundle takes.

    Parameters
    ----------
    bundle : Bundle
    about, rows
        From `read_about`.
    path : Path
        Of the recordings.
    participant : str, optional
    settings : CalibrationSettings

    Raises
    ------
    BundleError
        If the bundle does not fit the recordings.
    """
    dataset = read_participant(
        path, participant, settings.data, preferred=bundle.manifest.participant
    )
    if not dataset.runs:
        raise SettingError(
            f"{path.name} holds samples that were cut out and averaged already; a bundle decodes "
            "runs. Give recordings."
        )
    who = dataset.participants[0]
    runs, leaky = _unseen(dataset.of(who), about)
    for run in runs:
        _check_input(bundle, dataset, run)
    plan = _plan(bundle, about, who, settings.evaluation, leaky=leaky)
    named = settings.target.kind
    if named is not None and named.partition(":")[0] == plan.target.partition(":")[0]:
        plan = replace(plan, target=named)  # the same weights, in another place
    elif isinstance(bundle.manifest.chain, (SemanticChain, CoarseToFineChain)):
        if "encoder.onnx" in bundle.manifest.files:  # the bundle is a generator's folder itself
            plan = replace(plan, target=f"generator:{bundle.path}")
    targets = targets_of(
        dataset,
        plan,
        download=settings.target.download,
        classes=tuple(about["classes"]),
        vectors=rows[1:],
    )
    features = run_features(runs, features=plan.features, shortest=plan.shortest)
    ready = standardise_runs(features, plan.standardise, mean=bundle.mean, std=bundle.std)
    samples = make_samples(ready, lag_s=float(about["lag_s"]), targets=targets, choice=plan.choice)
    return Heard(dataset, runs, leaky, plan, targets, samples)


def decode_with_bundle(bundle: Bundle, samples: Samples, centre: NDArray[np.float64]) -> Decoded:
    """Decode samples whose features are standardised, with the decoder of a bundle.

    Parameters
    ----------
    bundle : Bundle
    samples : Samples
    centre : array of shape (d,)
        Mean of the training targets, which the decoder leaves out.
    """
    runner = open_runner(bundle.file("decoder.onnx"))
    chain = bundle.manifest.chain
    output = "mel" if isinstance(chain, DirectChain) else "embedding"
    # Mel frames hold the mean, and so does an embedding that a generator is given.
    centred = isinstance(chain, (DirectChain, SemanticChain, CoarseToFineChain))

    def predict(x: NDArray[np.float32]) -> NDArray[np.float64]:
        rows = [runner.run({"features": x[k : k + 1]})[output] for k in range(len(x))]
        values = np.asarray(rows, np.float64).reshape(len(x), -1)
        return np.asarray(values - centre) if centred else values

    halves = None
    if samples.x.shape[1] > 1:
        parts = []
        for k in range(2):
            x = samples.x[:, k::2]
            there = np.asarray(np.isfinite(x[:, :, 0]).any(axis=1))
            mean = np.zeros((len(x), x.shape[2]), np.float32)
            mean[there] = np.nanmean(x[there], axis=1)
            parts.append(np.where(there[:, np.newaxis], predict(mean), np.nan))
        halves = (parts[0], parts[1])
    return Decoded(
        samples=replace(samples, y=samples.y - centre),
        raw=predict(samples.mean_x()),
        centre=np.tile(centre, (len(samples), 1)),
        halves=halves,
    )


def read_about(bundle: Bundle) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return what calibration wrote beside the manifest: its choices, and the targets' rows.

    Raises
    ------
    BundleError
        If the bundle was not made by `hearback calibrate`, or what it says does not fit.
    """
    if CALIBRATION_FILE not in bundle.manifest.files or TARGET_FILE not in bundle.manifest.files:
        raise BundleError(
            f"Bundle {bundle.path.name!r} does not say what it was fitted to. Give one that "
            "`hearback calibrate` made."
        )
    where = f"{bundle.path.name}/{CALIBRATION_FILE}"
    try:
        values = parse_object(
            bundle.read(CALIBRATION_FILE, max_bytes=_MAX_BYTES), where, max_bytes=_MAX_BYTES
        )
        about: _About = record_from_json(_About, values, where)
        _choice_of(values)
        rows = read_npy(
            bundle.read(TARGET_FILE, max_bytes=_MAX_BYTES), dtype=np.dtype("<f8"), ndim=2
        )
        _check_about(about, rows, bundle.manifest.chain)
    except (SettingError, ValueError) as error:
        raise BundleError(
            f"Bundle {bundle.path.name!r}: {CALIBRATION_FILE} is not what `hearback calibrate` "
            f"writes ({str(error).rstrip('.')}). Make the bundle again."
        ) from error
    known: dict[str, Any] = values
    return known, rows


@dataclass(frozen=True, slots=True)
class _About:
    """The file that calibration writes beside the manifest."""

    schema: int
    plan: dict[str, Any]  # of which the window choice and the stretch are used
    lag_s: float
    target: str
    closed: bool
    classes: tuple[str, ...]
    trained_on: tuple[str, ...]
    n_taken_in: int = 0  # windows since, by updates


@dataclass(frozen=True, slots=True)
class _Choice:
    choice: WindowChoice
    stretch: Literal["clip", "window"]


def _choice_of(about: dict[str, Any]) -> _Choice:
    """Return what of the plan is used, its types checked."""
    plan = {name: about["plan"][name] for name in ("choice", "stretch") if name in about["plan"]}
    if isinstance(plan.get("choice"), dict):
        plan["choice"] = {k: value for k, value in plan["choice"].items() if value is not None}
    return settings_from_dict(_Choice, plan, "plan")


def _check_about(about: _About, rows: NDArray[np.float64], chain: ChainSpec) -> None:
    expected = (1 + len(about.classes), _dim(chain))
    problem = ""
    if about.schema != 1:
        problem = f"schema 1 was expected, got {about.schema}"
    elif not abs(about.lag_s) <= 60:
        problem = f"a lag of at most 60 s was expected, got {about.lag_s}"
    elif not about.target or (about.target == "class") != bool(about.classes):
        problem = "classes belong to the target 'class' alone"
    elif len(set(about.classes)) != len(about.classes):
        problem = "a class is named twice"
    elif (about.target == "mel") != isinstance(chain, DirectChain):
        problem = f"the target {about.target!r} does not fit the chain of the manifest"
    elif rows.shape != expected or not np.isfinite(rows).all():
        problem = f"{TARGET_FILE} should hold finite {expected}, got {rows.shape}"
    if problem:
        raise SettingError(problem)


def _dim(chain: ChainSpec) -> int:
    if isinstance(chain, DirectChain):
        return chain.frames_per_window * chain.mel.n_mels
    return chain.embedding.dim


def _unseen(runs: tuple[Run, ...], about: dict[str, Any]) -> tuple[tuple[Run, ...], bool]:
    """Return the runs that the bundle was not fitted on; all of them, leaky, if there are none."""
    seen = set(about["trained_on"])
    other = tuple(run for run in runs if array_digest(run.signal) not in seen)
    if not other:
        return runs, True
    test = tuple(run for run in other if run.part == "test")
    return test or other, False


def _check_input(bundle: Bundle, dataset: Dataset, run: Run) -> None:
    wanted = bundle.manifest.input
    space = dataset.space_of(run.participant)
    digest = space.mask_sha256 if space is not None else ""
    problem = ""
    if dataset.modality != wanted.modality:
        problem = f"{wanted.modality} is expected, got {dataset.modality}"
    elif run.signal.shape[1] != wanted.n_channels:
        problem = f"{wanted.n_channels} channels or voxels are expected, got {run.signal.shape[1]}"
    elif abs(run.sfreq_hz - wanted.sfreq_hz) > 0.005 * wanted.sfreq_hz:
        problem = f"{wanted.sfreq_hz:g} samples a second are expected, got {run.sfreq_hz:g}"
    elif wanted.channels and dataset.channels != wanted.channels:
        order = " in this order" if sorted(wanted.channels) == sorted(dataset.channels) else ""
        problem = (
            f"the channels {', '.join(wanted.channels)} are expected{order}, got "
            f"{', '.join(dataset.channels)}"
        )
    elif wanted.mask_sha256 and digest and digest != wanted.mask_sha256:
        problem = "another mask of voxels is expected"
    if problem:
        raise BundleError(
            f"Bundle {bundle.path.name!r} does not fit {dataset.path.name}: {problem}. Give the "
            "recordings, channels and mask that it was made for (data.channels, data.mask)."
        )


def _plan(
    bundle: Bundle, about: dict[str, Any], who: str, evaluation: EvaluationSettings, *, leaky: bool
) -> Plan:
    """Return the plan that the bundle was made by, for scoring."""
    chosen = _choice_of(about)
    return Plan(
        participant=who,
        features=bundle.manifest.features,
        standardise=bundle.manifest.standardise,
        choice=chosen.choice,
        lags_s=(float(about["lag_s"]),),
        target=str(about["target"]),
        stretch=chosen.stretch,
        closed=bool(about["closed"]),
        decoder=CalibrationSettings().decoder,
        evaluation=replace(evaluation, test="dataset", family="random-chunk" if leaky else "clip"),
    )
