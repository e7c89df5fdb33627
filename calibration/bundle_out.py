"""Write a fit as a bundle that `hearback live` runs, with its report in the same folder."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from calibration.bundle_decoder import fitted_decoder
from calibration.bundle_library import LIBRARY_RATE_HZ, bundle_library
from calibration.config import CalibrationSettings
from calibration.data.dataset import Dataset
from calibration.generated.chain import FittedGenerator
from calibration.outer import Fit
from calibration.plan import Plan
from calibration.readers.regions import write_mask
from calibration.report.page import html_page
from calibration.report.result import Result
from calibration.steps import array_digest
from calibration.summary import told_target, versions
from calibration.target_choice import mel_frames
from calibration.targets import ClassTargets, TargetSource
from export.bundle import MASK_FILE, save_bundle, standardise_file
from export.library import library_files
from export.manifest import (
    ChainSpec,
    DirectChain,
    EmbeddingSpec,
    Manifest,
    RetrievalChain,
    SoundSpec,
)
from export.npy import write_npy
from models.errors import FileError, SettingError
from models.features import make_extractor
from models.mel import MelSpec
from models.spec import InputSpec

__all__ = ["CALIBRATION_FILE", "TARGET_FILE", "check_out", "write_bundle"]

CALIBRATION_FILE = "calibration.json"  # what `hearback evaluate` needs beyond the manifest
TARGET_FILE = "target.npy"  # (1 + n, d): mean of the training targets, then the classes
_MAX_NAME = 180  # bytes, of 255: names of what lies beside it are longer


def check_out(out: Path, participant: str) -> Path:
    """Return the absolute path of a bundle to write, once it is sure that it can be written.

    Asked before hours of work, not after them; the folder around it is made.

    Raises
    ------
    SettingError
        If the name cannot be that of a folder.
    FileError
        If something else is there, or the bundle of somebody else, or nothing can be written.
    """
    folder = Path(os.path.abspath(out))
    if not folder.name or len(os.fsencode(folder.name)) > _MAX_NAME:
        raise SettingError(
            f"--out must name a folder, with at most {_MAX_NAME} bytes in its name, got "
            f"{folder.name[:40]!r}."
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        there = folder.is_symlink() or folder.exists()
        manifest = folder / "manifest.json"
        if there and (folder.is_symlink() or not manifest.is_file()):
            raise FileError(
                f"{folder} is there already and is no bundle, so it is not replaced. Choose "
                "another --out."
            )
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
    except OSError as error:
        raise FileError(
            f"Nothing can be written to {folder.parent}: {error.strerror or error}. Choose another "
            "--out."
        ) from error
    if there:
        try:
            whose = json.loads(manifest.read_bytes()).get("participant")
        except (OSError, ValueError, AttributeError):
            whose = None  # damaged: nothing is lost
        if whose is not None and whose != participant[:200]:
            raise FileError(
                f"{folder} is the bundle of {str(whose)[:200]!r} and is not replaced by that of "
                f"{participant[:200]!r}. Choose another --out."
            )
    return folder


def write_bundle(
    out: Path,
    *,
    dataset: Dataset,
    plan: Plan,
    fit: Fit,
    targets: TargetSource,
    result: Result,
    settings: CalibrationSettings,
    generated: FittedGenerator | None = None,
) -> None:
    """Write the folder, whole or not at all.

    With `generated` the chain ends in its generator, else in mel frames or a library of sounds.

    Raises
    ------
    FileError
        If it cannot be written.
    SettingError
        If there is no sound to play.
    """
    run = dataset.of(plan.participant)[0]
    extractor = make_extractor(plan.features, sfreq_hz=run.sfreq_hz, n_channels=run.signal.shape[1])
    hop_s = extractor.hop_samples * run.tr_s
    answer_s = extractor.window_samples * run.tr_s
    chain, chain_files = _chain(
        dataset, plan, fit, targets, settings, hop_s=hop_s, generated=generated
    )
    trained = [
        run
        for run in dataset.of(plan.participant)
        if plan.evaluation.test == "folds" or run.part == "train"
    ]
    classes = targets.classes if isinstance(targets, ClassTargets) else ()
    space = dataset.space_of(plan.participant)
    manifest = Manifest(
        name=out.name[:64] or "bundle",
        participant=plan.participant[:200],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input=InputSpec(
            dataset.modality,
            run.signal.shape[1],
            run.sfreq_hz,
            channels=dataset.channels,
            unit="a.u." if dataset.modality == "bold" else "V",
            mask_sha256=space.mask_sha256 if space is not None else "",
        ),
        features=plan.features,
        standardise=plan.standardise,
        chain=chain,
        sound=SoundSpec(LIBRARY_RATE_HZ, hop_s),
        fill_max_s=0.1 if dataset.modality == "eeg" else 0.0,
        # The stretch that is rendered lies in the middle of the one that the window answers to;
        # mel frames are those of its end.
        lag_s=fit.lag_s + (0.0 if isinstance(chain, DirectChain) else (answer_s - hop_s) / 2.0),
        scores=_scores(result),
        software=versions(),
    )
    # Weights of a generator's encoder are in the bundle: where they lay is nobody's business.
    target = told_target(plan.target) if generated is not None else plan.target
    about = {
        "schema": 1,
        "plan": {**plan.to_json(), "target": target},
        "lag_s": fit.lag_s,
        "target": target,
        "closed": plan.closed,
        "classes": list(classes),
        # Which recordings it has seen, so that nobody scores it on them by mistake.
        "trained_on": [array_digest(run.signal) for run in trained],
    }
    rows = [fit.centre]
    if isinstance(targets, ClassTargets):
        rows += [targets.vector(name) for name in classes]
    files: dict[str, bytes | Path] = {
        "decoder.onnx": fitted_decoder(fit, chain),
        "standardise.npy": standardise_file(fit.mean, fit.std),
        CALIBRATION_FILE: (json.dumps(about, indent=1) + "\n").encode(),
        TARGET_FILE: write_npy(np.asarray(rows, "<f8")),
        "report.json": result.json_text().encode(),
        "report.html": html_page(result).encode(),
        **chain_files,
    }
    if space is not None and space.mask.any():
        with tempfile.TemporaryDirectory() as folder:
            write_mask(space, Path(folder) / MASK_FILE)
            files[MASK_FILE] = (Path(folder) / MASK_FILE).read_bytes()
    save_bundle(out, manifest, files, overwrite=True)


def _chain(
    dataset: Dataset,
    plan: Plan,
    fit: Fit,
    targets: TargetSource,
    settings: CalibrationSettings,
    *,
    hop_s: float,
    generated: FittedGenerator | None,
) -> tuple[ChainSpec, dict[str, bytes | Path]]:
    """Return the chain of the manifest, and the files that it needs beside the decoder."""
    if generated is not None:
        return generated.chain, generated.files()
    if plan.target == "mel":
        return DirectChain(mel=MelSpec(), frames_per_window=mel_frames(dataset, plan)), {}
    sounds, vectors = bundle_library(dataset, plan, fit, targets, settings)
    chain = RetrievalChain(
        EmbeddingSpec(_plain_name(plan.target), vectors.shape[1]),
        crossfade_s=min(settings.library.crossfade_s, hop_s / 2),
    )
    return chain, {**library_files(sounds, vectors, sample_rate_hz=LIBRARY_RATE_HZ)}


def _scores(result: Result) -> dict[str, Any]:
    """Return the scores that stand in the manifest: those of the command's last line."""
    return {key: value for key, value in result.line().items() if key != "participant"}


def _plain_name(target: str) -> str:
    """Return the embedder's name without the place of its weights."""
    name = target.partition(":")[0]
    if not name:
        raise SettingError("The target has no name.")
    return name
