"""Write a fit as a bundle that `hearback live` runs, with its report in the same folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.config import CalibrationSettings
from calibration.data.dataset import Dataset
from calibration.decoders import LinearDecoder
from calibration.outer import Fit
from calibration.plan import Plan
from calibration.readers.regions import write_mask
from calibration.report.page import html_page
from calibration.report.result import Result
from calibration.steps import array_digest
from calibration.stimuli import LABELS, make_stimulus
from calibration.stimulus_sound import stimulus_sound
from calibration.summary import versions
from calibration.target_choice import mel_frames
from calibration.targets import ClassTargets, EmbeddingTargets, TargetSource
from export.bundle import MASK_FILE, save_bundle, standardise_file
from export.library import LibrarySound, library_files
from export.manifest import (
    ChainSpec,
    DirectChain,
    EmbeddingSpec,
    Manifest,
    RetrievalChain,
    SoundSpec,
)
from export.npy import write_npy
from export.onnx_linear import linear_onnx, sparse_linear_onnx
from models.errors import FileError, SettingError
from models.features import make_extractor
from models.mel import MelSpec
from models.spec import InputSpec

__all__ = ["CALIBRATION_FILE", "TARGET_FILE", "decoder_file", "write_bundle"]

CALIBRATION_FILE = "calibration.json"  # what `hearback evaluate` needs beyond the manifest
TARGET_FILE = "target.npy"  # (1 + n, d): mean of the training targets, then the classes
_RATE_HZ = 16_000
_CLASS_SOUND_S = 3.0
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
) -> None:
    """Write the folder, whole or not at all.

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
    mel = plan.target == "mel"
    sounds, vectors = (
        ([], np.zeros((0, 1))) if mel else _library(dataset, plan, fit, targets, settings)
    )
    chain: ChainSpec = RetrievalChain(
        EmbeddingSpec(_plain_name(plan.target), vectors.shape[1]),
        crossfade_s=min(settings.library.crossfade_s, hop_s / 2),
    )
    if mel:
        chain = DirectChain(mel=MelSpec(), frames_per_window=mel_frames(dataset, plan))
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
        sound=SoundSpec(_RATE_HZ, hop_s),
        fill_max_s=0.1 if dataset.modality == "eeg" else 0.0,
        # The stretch that is rendered lies in the middle of the one that the window answers to;
        # mel frames are those of its end.
        lag_s=fit.lag_s + (0.0 if mel else (answer_s - hop_s) / 2.0),
        scores=_scores(result),
        software=versions(),
    )
    about = {
        "schema": 1,
        "plan": plan.to_json(),
        "lag_s": fit.lag_s,
        "target": plan.target,
        "closed": plan.closed,
        "classes": list(classes),
        # Which recordings it has seen, so that nobody scores it on them by mistake.
        "trained_on": [array_digest(run.signal) for run in trained],
    }
    rows = [fit.centre]
    if isinstance(targets, ClassTargets):
        rows += [targets.vector(name) for name in classes]
    files: dict[str, bytes | Path] = {
        "decoder.onnx": _decoder(fit, chain),
        "standardise.npy": standardise_file(fit.mean, fit.std),
        CALIBRATION_FILE: (json.dumps(about, indent=1) + "\n").encode(),
        TARGET_FILE: write_npy(np.asarray(rows, "<f8")),
        "report.json": result.json_text().encode(),
        "report.html": html_page(result).encode(),
        **({} if mel else library_files(sounds, vectors, sample_rate_hz=_RATE_HZ)),
    }
    if space is not None and space.mask.any():
        with tempfile.TemporaryDirectory() as folder:
            write_mask(space, Path(folder) / MASK_FILE)
            files[MASK_FILE] = (Path(folder) / MASK_FILE).read_bytes()
    save_bundle(out, manifest, files, overwrite=True)


def _decoder(fit: Fit, chain: ChainSpec) -> bytes:
    """Return the decoder as ONNX: sparse where each target has its own few features."""
    decoder = fit.decoder
    indices, values = getattr(decoder, "indices_", None), getattr(decoder, "values_", None)
    if isinstance(decoder, LinearDecoder):
        indices, values = decoder.indices, decoder.values
    if indices is None or values is None or isinstance(chain, DirectChain):
        weights, bias = decoder.weights()
        return decoder_file(weights, bias, fit.centre, chain)
    bias = np.atleast_1d(getattr(decoder, "bias", getattr(decoder, "intercept_", 0.0)))
    n_features = len(fit.mean)
    return decoder_file(values, bias, fit.centre, chain, indices=indices, n_features=n_features)


def decoder_file(
    weights: NDArray[np.floating],
    bias: NDArray[np.floating],
    centre: NDArray[np.float64],
    chain: ChainSpec,
    *,
    indices: NDArray[np.intp] | None = None,
    n_features: int = 0,
) -> bytes:
    """Return a linear decoder as the ONNX file of a chain.

    Parameters
    ----------
    weights : array of shape (n_features, d), or (d, k) with `indices`
    bias : array of shape (d,)
    centre : array of shape (d,)
        Mean of the training targets; mel frames hold it, an embedding does not.
    chain : DirectChain or RetrievalChain
    indices : array of shape (d, k), optional
        Features of each target, where each has its own few.
    n_features : int
        In all, with `indices`.
    """
    if indices is not None:
        return sparse_linear_onnx(indices, weights, bias, n_features=n_features, normalise=True)
    if isinstance(chain, DirectChain):
        shape = (chain.frames_per_window, chain.mel.n_mels)
        return linear_onnx(weights, bias + centre, output="mel", shape=shape)
    return linear_onnx(weights, bias, normalise=True)


def _library(
    dataset: Dataset, plan: Plan, fit: Fit, targets: TargetSource, settings: CalibrationSettings
) -> tuple[list[LibrarySound], NDArray[np.float64]]:
    """Return the sounds that the bundle plays, and where each lies in the decoded space."""
    if settings.library.folder is not None:
        return _folder_library(settings, fit, targets)
    if isinstance(targets, ClassTargets):
        return _class_library(dataset, fit, targets)
    names = sorted({str(name) for name in fit.train.clip})
    longest = round(settings.library.max_s * _RATE_HZ)
    sounds = [
        LibrarySound(
            _short(name),
            stimulus_sound(dataset.stimuli[name], sample_rate_hz=_RATE_HZ)[:longest],
            dataset.stimuli[name].label,
        )
        for name in names
    ]
    stops = [len(sound.pcm) / _RATE_HZ for sound in sounds]
    vectors = targets.targets(names, np.zeros(len(names)), stops) - fit.centre
    return sounds, vectors


def _folder_library(
    settings: CalibrationSettings, fit: Fit, targets: TargetSource
) -> tuple[list[LibrarySound], NDArray[np.float64]]:
    """Return the sounds of a folder: of any number for an embedding, one or more for each class."""
    from calibration.library_builder import library_from_folder

    folder = settings.library.folder
    assert folder is not None
    if isinstance(targets, EmbeddingTargets):
        made = library_from_folder(
            folder, targets.embedder, sample_rate_hz=_RATE_HZ, window_s=settings.library.max_s
        )
        return list(made.sounds), np.asarray(made.embeddings, np.float64) - fit.centre
    from calibration.embedders import make_embedder

    made = library_from_folder(
        folder,
        make_embedder("log-mel"),
        sample_rate_hz=_RATE_HZ,
        window_s=settings.library.max_s,
        windows_per_file=1,
    )
    assert isinstance(targets, ClassTargets)
    sounds, vectors = [], []
    for sound in made.sounds:
        name = next((c for c in targets.classes if c in (sound.label, Path(sound.name).stem)), None)
        if name is not None:
            sounds.append(sound)
            vectors.append(targets.vector(name) - fit.centre)
    missing = set(targets.classes) - {
        name for name in targets.classes for v in vectors
        if np.array_equal(v, targets.vector(name) - fit.centre)
    }  # fmt: skip
    if missing:
        raise SettingError(
            f"The library folder {folder.name} has no sound for the classes {sorted(missing)}. "
            "Name its files or subfolders as the classes."
        )
    return sounds, np.asarray(vectors)


def _class_library(
    dataset: Dataset, fit: Fit, targets: ClassTargets
) -> tuple[list[LibrarySound], NDArray[np.float64]]:
    """Return a sound for each class: its own where there is one, else one from the procedures."""
    sounds = []
    for number, name in enumerate(targets.classes):
        stimulus = dataset.stimuli.get(_some(dataset, name))
        if stimulus is not None and stimulus.path is not None:
            pcm = stimulus_sound(stimulus, sample_rate_hz=_RATE_HZ)
        else:
            label = LABELS[number % len(LABELS)]
            pcm = make_stimulus(label, number // len(LABELS), _CLASS_SOUND_S).pcm
        sounds.append(LibrarySound(_short(name), pcm, name))
    return sounds, np.array([targets.vector(name) for name in targets.classes]) - fit.centre


def _some(dataset: Dataset, label: str) -> str:
    """Return a stimulus of a class."""
    for name, stimulus in dataset.stimuli.items():
        if label in (stimulus.label, name):
            return name
    return label


def _scores(result: Result) -> dict[str, Any]:
    """Return the scores that stand in the manifest: those of the command's last line."""
    return {key: value for key, value in result.line().items() if key != "participant"}


def _short(name: str) -> str:
    """Return a name of at most 200 characters; two that differ at their ends stay different."""
    if len(name) <= 200:
        return name
    return f"{name[:180]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _plain_name(target: str) -> str:
    """Return the embedder's name without the place of its weights."""
    name = target.partition(":")[0]
    if not name:
        raise SettingError("The target has no name.")
    return name
