"""A new person with k minutes of data: alone, and with others aligned to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.decoders import Decoder
from calibration.methods.alignment import ALIGNMENT_ALPHAS, Pooling, align_people
from calibration.methods.clips import clip_identification
from models.errors import SettingError

__all__ = ["NewPersonCurve", "first_minutes", "new_person_curve"]


@dataclass(frozen=True, slots=True)
class NewPersonCurve:
    """Identification of test clips over minutes of the new person's own training data."""

    person: str
    with_people: tuple[str, ...]
    minutes: tuple[float, ...]  # as they turned out, whole clips
    own: tuple[float, ...]  # from own data alone
    aligned: tuple[float, ...]  # with the others aligned by that data
    full_minutes: float
    full_own: float  # from all own training data, alone
    full_aligned: float
    how: str
    n_clips: int  # tested

    def minutes_to_reach(self, share: float = 0.95) -> float | None:
        """Return the fewest minutes with which alignment has that share of the full own score."""
        for minutes, score in zip(self.minutes, self.aligned, strict=True):
            if score >= share * self.full_own:
                return minutes
        return None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "minutes_to_reach_95_percent": self.minutes_to_reach()}


def new_person_curve(
    own: Samples,
    test: Samples,
    others: Sequence[Samples],
    *,
    minutes: Sequence[float],
    decoder: Callable[[], Decoder],
    how: Pooling = "stack",
    n_dims: int | None = None,
    alphas: Sequence[float] | NDArray[np.floating] = ALIGNMENT_ALPHAS,
    cv: int = 5,
) -> NewPersonCurve:
    """Score decoders of one person from the first minutes of their data, alone and with others.

    Parameters
    ----------
    own, test : Samples
        Training and test rows of the new person; of different clips.
    others : sequence of Samples
        People with all their data. Their rows of test clips are left out.
    minutes : sequence of float
        Lengths of stimulus, min, rising.
    decoder : callable
        Returns an unfitted decoder.
    how, n_dims, alphas, cv
        See `calibration.methods.alignment.align_people`.

    Returns
    -------
    curve : NewPersonCurve
        Clip level, ties at one half.

    Raises
    ------
    SettingError
        If minutes are too few for folds or an alignment.
    """
    tested = set(test.clip.tolist())

    def score(train: Samples, aligned: bool) -> float:
        rows = train.separate()
        if aligned:
            rows = align_people(
                train, others, held_out=tested, how=how, n_dims=n_dims, alphas=alphas, cv=cv
            ).samples
        centre = rows.y.mean(axis=0)
        fitted = decoder().fit(rows.x[:, 0], rows.y - centre, groups=rows.clip)
        return clip_identification(fitted.predict(test.mean_x()) + centre, test, centre=centre)

    parts = [first_minutes(own, length) for length in minutes]
    return NewPersonCurve(
        person=str(own.person[0]),
        with_people=tuple(dict.fromkeys(str(name) for o in others for name in o.person)),
        minutes=tuple(round(_minutes(part), 3) for part in parts),
        own=tuple(score(part, False) for part in parts),
        aligned=tuple(score(part, True) for part in parts),
        full_minutes=round(_minutes(own), 3),
        full_own=score(own, False),
        full_aligned=score(own, True),
        how=how,
        n_clips=len(tested),
    )


def first_minutes(samples: Samples, minutes: float) -> Samples:
    """Return the rows of the first clips, in the order of time, that last so many minutes.

    Raises
    ------
    SettingError
        If that is less than one clip.
    """
    names, lengths = _clips(samples)
    kept = names[np.cumsum(lengths) <= 60.0 * minutes + 1e-6]
    if not len(kept):
        raise SettingError(
            f"{minutes:g} minutes hold no whole clip; the first one lasts {lengths[0]:g} s."
        )
    return samples.take(np.isin(samples.clip, kept))


def _clips(samples: Samples) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Return clips in the order in which they were first heard, and how long each was decoded."""
    names, first, number = np.unique(
        samples.clip[np.argsort(samples.order, kind="stable")],
        return_index=True,
        return_inverse=True,
    )
    stop = np.zeros(len(names))
    np.maximum.at(stop, number, samples.stop_s[np.argsort(samples.order, kind="stable")])
    order = np.argsort(first)
    return names[order], stop[order]


def _minutes(samples: Samples) -> float:
    return float(_clips(samples)[1].sum() / 60.0)
