"""Write a fit as a bundle that `hearback live` runs, with its report in the same folder."""

from __future__ import annotations

import json
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
from export.manifest import DirectChain, EmbeddingSpec, Manifest, RetrievalChain, SoundSpec
from export.npy import write_npy
from export.onnx_linear import linear_onnx
from models.errors import SettingError
from models.features import make_extractor
from models.mel import MelSpec
from models.spec import InputSpec

__all__ = ["CALIBRATION_FILE", "TARGET_FILE", "write_bundle"]

CALIBRATION_FILE = "calibration.json"  # what `hearback evaluate` needs beyond the manifest
TARGET_FILE = "target.npy"  # (1 + n, d): mean of the training targets, then the classes
_RATE_HZ = 16_000
_CLASS_SOUND_S = 3.0


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
    chain: DirectChain | RetrievalChain = RetrievalChain(
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


def _decoder(fit: Fit, chain: DirectChain | RetrievalChain) -> bytes:
    """Return the decoder as ONNX: sparse where each target has its own few features."""
    if isinstance(chain, DirectChain):
        return _mel_decoder(fit, chain)
    decoder = fit.decoder
    indices, values = getattr(decoder, "indices_", None), getattr(decoder, "values_", None)
    if isinstance(decoder, LinearDecoder):
        indices, values = decoder.indices, decoder.values
    if indices is None or values is None:
        weights, bias = decoder.weights()
        return linear_onnx(weights, bias, normalise=True)
    from export.onnx_linear import sparse_linear_onnx

    bias = np.atleast_1d(getattr(decoder, "bias", getattr(decoder, "intercept_", 0.0)))
    return sparse_linear_onnx(
        indices, values, bias, n_features=fit.train.x.shape[2], normalise=True
    )


def _mel_decoder(fit: Fit, chain: DirectChain) -> bytes:
    """Return the decoder of mel frames as ONNX: the training mean is a part of what it says."""
    weights, bias = fit.decoder.weights()
    shape = (chain.frames_per_window, chain.mel.n_mels)
    return linear_onnx(weights, bias + fit.centre, output="mel", shape=shape)


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
            name[:200],
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
        sounds.append(LibrarySound(name[:200], pcm, name))
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


def _plain_name(target: str) -> str:
    """Return the embedder's name without the place of its weights."""
    name = target.partition(":")[0]
    if not name:
        raise SettingError("The target has no name.")
    return name
