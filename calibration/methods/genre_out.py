"""Does a decoder know a genre that it never heard? Train without it, test on it.

Brain2Music (Denk et al. 2023, arXiv:2307.11078), genre ablation: all clips of one genre are dropped
from training, and those of the test are decoded. Less training data alone makes scores fall too, so
a control drops as many clips of the other genres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from calibration.data.samples import Samples
from calibration.decoders import Decoder
from calibration.methods.clips import clip_identification
from models.errors import SettingError

__all__ = ["LabelOut", "leave_label_out"]


@dataclass(frozen=True, slots=True)
class LabelOut:
    """Identification of the test clips of each label, among all test clips."""

    labels: tuple[str, ...]
    n_clips: tuple[int, ...]  # tested, of each label
    full: tuple[float, ...]  # trained on everything
    without: tuple[float, ...]  # trained without that label
    control: tuple[float, ...]  # trained without as many clips of other labels
    chance: float = 0.5

    def mean(self, which: str) -> float:
        """Return the mean of "full", "without" or "control", weighted by test clips."""
        return float(np.average(getattr(self, which), weights=self.n_clips))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        means = {f"mean_{name}": self.mean(name) for name in ("full", "without", "control")}
        return {**asdict(self), **means}


def leave_label_out(
    train: Samples,
    test: Samples,
    *,
    decoder: Callable[[], Decoder],
    rng: np.random.Generator,
    labels: Sequence[str] | None = None,
) -> LabelOut:
    """Train without each label in turn, and decode the test clips of that label.

    Parameters
    ----------
    train, test : Samples
        Of different clips; the label is the genre.
    decoder : callable
        Returns an unfitted decoder.
    rng : numpy.random.Generator
        Chooses the clips that the control leaves out.
    labels : sequence of str, optional
        All that the test has, if not given.

    Raises
    ------
    SettingError
        If a clip is in both parts, or there is a label that one of them lacks, or only one.
    """
    both = set(train.clip.tolist()) & set(test.clip.tolist())
    if both:
        raise SettingError(
            f"Clips are in training and test: {sorted(both)[:3]}. Leaving out a label tells "
            "something only about clips that were not trained on."
        )
    wanted = sorted(set(test.label.tolist())) if labels is None else list(labels)
    known = set(train.label.tolist())
    missing = [name for name in wanted if name not in known or name not in set(test.label.tolist())]
    if missing or len(known) < 2:
        raise SettingError(
            f"Expected labels that training and test both have, and 2 or more of them, got "
            f"{wanted}; missing: {missing}."
        )
    rows = train.separate()
    predictions, centre = _decode(rows, test, decoder)
    full, without, control, counts = [], [], [], []
    for name in wanted:
        of = test.label == name
        counts.append(len(np.unique(test.clip[of])))
        full.append(clip_identification(predictions, test, centre=centre, of=of))
        left, middle = _decode(rows.take(rows.label != name), test, decoder)
        without.append(clip_identification(left, test, centre=middle, of=of))
        spared, middle = _decode(rows.take(~_as_many(rows, name, rng)), test, decoder)
        control.append(clip_identification(spared, test, centre=middle, of=of))
    return LabelOut(tuple(wanted), tuple(counts), tuple(full), tuple(without), tuple(control))


def _decode(rows: Samples, test: Samples, decoder: Callable[[], Decoder]) -> tuple[Any, Any]:
    """Return predictions of the test, and the mean of the training targets."""
    centre = rows.y.mean(axis=0)
    fitted = decoder().fit(rows.x[:, 0], rows.y - centre, groups=rows.clip)
    return fitted.predict(test.mean_x()) + centre, centre


def _as_many(rows: Samples, label: str, rng: np.random.Generator) -> Any:
    """Return rows of as many clips of other labels as there are of this one."""
    clips, first = np.unique(rows.clip, return_index=True)
    own = rows.label[first] == label
    others = clips[~own]
    n = min(int(own.sum()), len(others) - 1)
    return np.isin(rows.clip, rng.choice(others, n, replace=False))
