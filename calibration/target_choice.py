"""The targets of a plan: an embedding of the sounds, or a vector for each class."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from calibration.data.dataset import Dataset, Run
from calibration.plan import Plan
from calibration.targets import (
    ClassTargets,
    EmbeddingTargets,
    MelTargets,
    TargetSource,
    class_targets,
)
from models.errors import SettingError
from models.features import make_extractor
from models.mel import MelSpec

__all__ = ["choose_targets", "mel_frames", "target_digest", "targets_of"]


def choose_targets(
    dataset: Dataset, plan: Plan, *, download: bool = False, cache: Path | None = None
) -> TargetSource:
    """Return the source of targets.

    Parameters
    ----------
    dataset : Dataset
    plan : Plan
    download : bool
        Weights of an embedder may be fetched.
    cache : Path, optional
        Folder in which embeddings are kept.

    Raises
    ------
    SettingError
        If there is no such embedder.
    FileError
        If its weights are not at hand.
    """
    if plan.target == "class":
        return class_targets(dataset, plan.participant)
    if plan.target == "mel":
        return MelTargets(dataset.stimuli, MelSpec(), frames_per_window=mel_frames(dataset, plan))
    from calibration.embedders import make_embedder
    from calibration.embedders.cache import EmbeddingCache

    embedder = make_embedder(plan.target, **({"download": True} if download else {}))
    return EmbeddingTargets(
        dataset.stimuli,
        embedder,
        stretch="clip" if plan.closed else plan.stretch,
        cache=None if cache is None else EmbeddingCache(cache),
    )


def mel_frames(dataset: Dataset, plan: Plan) -> int:
    """Return the mel frames that one window adds to the sound.

    Raises
    ------
    SettingError
        If the windows do not come every whole number of frames.
    """
    run = dataset.of(plan.participant)[0]
    extractor = make_extractor(plan.features, sfreq_hz=run.sfreq_hz, n_channels=run.signal.shape[1])
    frames = extractor.hop_samples * run.tr_s * MelSpec().frames_per_s
    if round(frames) < 1 or abs(frames - round(frames)) > 1e-6:
        raise SettingError(
            f"Each window must add a whole number of mel frames of 10 ms, got {frames:g}. Choose "
            "another hop under [features]."
        )
    return round(frames)


def targets_of(
    dataset: Dataset,
    plan: Plan,
    *,
    download: bool = False,
    classes: Sequence[str] = (),
    vectors: ArrayLike = (),
) -> TargetSource:
    """Return the targets that a bundle was fitted to, for other recordings.

    Parameters
    ----------
    dataset : Dataset
    plan : Plan
    download : bool
    classes : sequence of str
        Of the bundle; recordings may have fewer of them.
    vectors : array of shape (n_classes, d)
    """
    if plan.target != "class":
        return choose_targets(dataset, plan, download=download)
    return ClassTargets(dataset.stimuli, dict(zip(classes, list(vectors), strict=True)))  # type: ignore[arg-type]


def target_digest(dataset: Dataset, targets: TargetSource, runs: Sequence[Run]) -> str:
    """Return a digest of what the targets are made from: sounds by content, labels, the embedder.

    Another sound under the same name must not take up what was fitted to the old one.
    """
    heard = {event.stimulus for run in runs for event in run.events}
    files: dict[Path, str] = {}
    rows = []
    for name in sorted(heard & set(dataset.stimuli)):
        stimulus = dataset.stimuli[name]
        content = ""
        if stimulus.path is not None and not isinstance(targets, ClassTargets):
            if stimulus.path not in files:
                files[stimulus.path] = _content(stimulus.path)
            content = files[stimulus.path]
        rows.append([name, stimulus.label, stimulus.start_s, stimulus.duration_s, content])
    known: list[object] = [rows, targets.dim]
    if isinstance(targets, EmbeddingTargets):
        known.append(targets.embedder.settings())
    if isinstance(targets, ClassTargets):
        known.append([[name, targets.vector(name).tolist()] for name in targets.classes])
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def _content(path: Path) -> str:
    """Return the digest of a file; "" where it cannot be read, which whoever needs it will say."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
