"""Other people's recordings for one person's decoder: aligned anew inside every training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from calibration.data.dataset import Dataset, Run
from calibration.data.samples import Samples
from calibration.methods.alignment import Pooling, align_people
from calibration.plan import Plan
from calibration.run_features import (
    RunFeatures,
    run_features,
    standardise_runs,
    training_statistics,
)
from calibration.steps import array_digest
from calibration.targets import TargetSource
from calibration.windows import make_samples
from models.errors import SettingError

__all__ = ["OtherPeople", "other_people"]


@dataclass(frozen=True, slots=True, eq=False)
class OtherPeople:
    """People whose data go into the decoder of somebody else."""

    people: tuple[tuple[RunFeatures, ...], ...]  # of each, all runs, not standardised
    heard: frozenset[str]  # clips of the person who is decoded, in training and test
    how: Pooling
    n_dims: int | None
    digest: str  # of all that enters

    @property
    def names(self) -> tuple[str, ...]:
        """Who they are."""
        return tuple(runs[0].run.participant for runs in self.people)

    def pool(self, own: Samples, *, lag_s: float, targets: TargetSource, plan: Plan) -> Samples:
        """Return a person's training rows, and after them those of the others in the same voxels.

        What the person hears outside of these training rows is held out: nobody's rows of it go in.

        Parameters
        ----------
        own : Samples
            Training rows, standardised.
        lag_s : float
            Taken for everybody.
        targets : TargetSource
        plan : Plan

        Raises
        ------
        SettingError
            If too few clips were heard by both.
        """
        held_out = self.heard - set(own.clip.tolist())
        others = []
        for runs in self.people:
            kept = [_without(run, held_out) for run in runs]
            kept = [run for run in kept if run.run.events]
            if not kept:
                raise SettingError(
                    f"{runs[0].run.participant} heard nothing but clips that are held out, so "
                    "there is nothing to learn from them. Leave them out of people.align."
                )
            mean, std = training_statistics(kept, plan.standardise)
            ready = standardise_runs(kept, plan.standardise, mean=mean, std=std)
            others.append(make_samples(ready, lag_s=lag_s, targets=targets, choice=plan.choice))
        return align_people(
            own,
            others,
            held_out=held_out,
            how=self.how,
            n_dims=self.n_dims,
            cv=plan.decoder.n_folds,
        ).samples


def other_people(
    others: Sequence[Dataset],
    runs: Sequence[Run],
    plan: Plan,
    *,
    how: Pooling,
    n_dims: int | None = None,
) -> OtherPeople:
    """Compute the features of other people.

    Parameters
    ----------
    others : sequence of Dataset
        One person each.
    runs : sequence of Run
        All runs of the person who is decoded.
    plan : Plan
    how, n_dims
        See `calibration.methods.alignment.align_people`.

    Raises
    ------
    SettingError
        If the design holds out something else than clips.
    """
    if plan.closed or plan.evaluation.family in ("segment", "random-chunk"):
        raise SettingError(
            "People are aligned by clips that both heard, and no clip of the test may be among "
            "them; here the same sounds come in training and test. Leave people.align empty."
        )
    people, digests = [], []
    for dataset in others:
        theirs = dataset.of(dataset.participants[0])
        people.append(run_features(theirs, features=plan.features, shortest=plan.shortest))
        digests += [
            [array_digest(run.signal, run.stamps_s), [_plain(e) for e in run.events]]
            for run in theirs
        ]
    return OtherPeople(
        people=tuple(people),
        heard=frozenset(event.stimulus for run in runs for event in run.events),
        how=how,
        n_dims=n_dims,
        digest=repr((digests, how, n_dims)),
    )


def _without(run: RunFeatures, clips: frozenset[str]) -> RunFeatures:
    kept = tuple(event for event in run.run.events if event.stimulus not in clips)
    return replace(run, run=replace(run.run, events=kept))


def _plain(event: Any) -> tuple[float, float, str]:
    return event.onset_s, event.duration_s, event.stimulus
