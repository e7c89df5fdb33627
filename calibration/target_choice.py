"""The targets of a plan: an embedding of the sounds, or a vector for each class."""

from __future__ import annotations

from pathlib import Path

from calibration.config import CalibrationSettings
from calibration.data.dataset import Dataset
from calibration.plan import Plan
from calibration.targets import EmbeddingTargets, TargetSource, class_targets

__all__ = ["choose_targets"]


def choose_targets(
    dataset: Dataset, plan: Plan, settings: CalibrationSettings, *, cache: Path | None = None
) -> TargetSource:
    """Return the source of targets.

    Parameters
    ----------
    dataset : Dataset
    plan : Plan
    settings : CalibrationSettings
    cache : Path, optional
        Folder of kept steps; embeddings are kept in it.

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

    options = {"download": True} if settings.target.download else {}
    embedder = make_embedder(plan.target, **options)
    return EmbeddingTargets(
        dataset.stimuli,
        embedder,
        stretch="clip" if plan.closed else plan.stretch,
        cache=None if cache is None else EmbeddingCache(cache / "embeddings"),
    )
