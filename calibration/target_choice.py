"""The targets of a plan: an embedding of the sounds, or a vector for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from calibration.data.dataset import Dataset
from calibration.plan import Plan
from calibration.targets import ClassTargets, EmbeddingTargets, TargetSource, class_targets

__all__ = ["choose_targets", "targets_of"]


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
    from calibration.embedders import make_embedder
    from calibration.embedders.cache import EmbeddingCache

    embedder = make_embedder(plan.target, **({"download": True} if download else {}))
    return EmbeddingTargets(
        dataset.stimuli,
        embedder,
        stretch="clip" if plan.closed else plan.stretch,
        cache=None if cache is None else EmbeddingCache(cache),
    )


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
