"""Every fit of a calibration, kept: of each fold, of the bundle, of shuffled brains."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.decoder import AcousticDecoder
from calibration.config import CalibrationSettings, settings_to_json
from calibration.data.dataset import Event, Run
from calibration.data.samples import Samples
from calibration.families import compare_families
from calibration.generated.token_fits import TokenFits
from calibration.kept_fit import fit_from_step, fit_to_step
from calibration.methods.others import OtherPeople
from calibration.outer import Decoded, Fit, Fold, decode, decode_leaky, fit_part, join, make_parts
from calibration.plan import Plan
from calibration.report.result import Family
from calibration.run_features import RunFeatures
from calibration.steps import StepResult, Steps, array_digest
from calibration.targets import TargetSource

__all__ = ["FoldFits", "Progress", "fit_key"]

Progress = Callable[[str, float, float], None]  # what, done, total


@dataclass(slots=True, eq=False)
class FoldFits:
    """The costly parts of a calibration, each one a kept step."""

    plan: Plan
    features: tuple[RunFeatures, ...]
    targets: TargetSource
    rois: dict[str, NDArray[np.intp]]
    steps: Steps
    tell: Progress
    key: str
    others: OtherPeople | None = None
    updatable: bool = False  # the bundle's fit keeps its features
    final: Fit | None = None
    lags_s: dict[int, float] = field(default_factory=dict)  # of each fold
    seconds: dict[str, float] = field(default_factory=dict)  # that each fit took
    tokens: TokenFits | None = None  # acoustic decoders beside the semantic ones
    held: list[frozenset[str]] = field(default_factory=list)  # clips that were held out together

    def decode_all(self) -> tuple[Decoded, Samples | None]:
        """Decode everything that is held out, fold by fold.

        Returns
        -------
        decoded : Decoded
        train : Samples or None
            What the one decoder was fitted on; None where each fold has its own.
        """
        if self.plan.evaluation.family in ("segment", "random-chunk"):
            decoded, _ = decode_leaky(self.features, self.targets, self.plan, rois=self.rois)
            return decoded, None
        folds = make_parts(self.features, self.plan)
        parts: list[Decoded] = []
        for number, fold in enumerate(folds):
            self.tell(f"fold {fold.name}", number, len(folds))
            fit = self._fold(fold, number)
            self.lags_s[number] = fit.lag_s
            parts.append(decode(fit, fold.test, self.targets, self.plan))
            self.held.append(frozenset(map(str, parts[-1].samples.clip)))
            if self.tokens is not None:
                self.tell(f"acoustic decoder {fold.name}", number, len(folds))
                self.tokens.hold_out(fit, fold.train, fold.test, parts[-1].raw)
        return join(parts), self.final.train if self.final is not None else None

    def _fold(self, fold: Fold, number: int) -> Fit:
        if self.plan.evaluation.test == "dataset":
            return self.fit_final()  # the decoder that is scored is the one in the bundle
        return self._kept_fit(f"fold{number}", fold.train, {"fold": fold.name}, held_out=fold.test)

    @property
    def fit_s(self) -> float:
        """What the fit for the bundle took, s."""
        return self.seconds[_FINAL]

    def fit_final(self) -> Fit:
        """Fit for the bundle: on the training runs, or on everything where folds were scored."""
        if self.final is None:
            self.tell("fitting for the bundle", 0, 1)
            self.final = self._kept_fit(_FINAL, self._training(), {})
        return self.final

    def fit_acoustic(self) -> AcousticDecoder | None:
        """Fit the acoustic decoder of the bundle, on what `fit_final` was fitted on."""
        if self.tokens is None:
            return None
        self.tell("acoustic decoder for the bundle", 0, 1)
        return self.tokens.fit(self.fit_final(), self._training())

    def shuffled(self) -> list[NDArray[np.float64]]:
        """Decode with decoders of brains that heard something else."""
        if self.plan.evaluation.family in ("segment", "random-chunk"):
            return []
        out = []
        folds = make_parts(self.features, self.plan)
        for k in range(self.plan.evaluation.n_shuffled):
            self.tell("shuffled brains", k, self.plan.evaluation.n_shuffled)
            parts = []
            for number, fold in enumerate(folds):
                seed = [self.plan.evaluation.seed, k, number]
                fit = self._kept_fit(
                    f"shuffled{k}-{number}",
                    fold.train,
                    {"fold": fold.name, "seed": seed},
                    held_out=fold.test,
                    lag_s=self.lags_s[number],
                    seed=seed,
                )
                parts.append(decode(fit, fold.test, self.targets, self.plan))
            out.append(join(parts).raw)
        return out

    def families(self, fit: Fit) -> tuple[Family, ...]:
        """Compare ways to divide the training part, to see what rests on the recording itself."""
        self.tell("ways to hold out", 0, 1)
        return compare_families(self._training(), self.targets, self.plan, fit)

    def _training(self) -> tuple[RunFeatures, ...]:
        if self.plan.evaluation.test == "dataset":
            return tuple(run for run in self.features if run.run.part == "train")
        return self.features

    def _kept_fit(
        self,
        name: str,
        train: tuple[RunFeatures, ...],
        depends_on: dict[str, Any],
        *,
        held_out: tuple[RunFeatures, ...] = (),
        lag_s: float | None = None,
        seed: list[int] | None = None,
    ) -> Fit:
        """Fit, or take up what a run before this one fitted."""
        began = time.perf_counter()
        keep = self.updatable and name == _FINAL
        made: list[Fit] = []

        def work() -> StepResult:
            rng = None if seed is None else np.random.default_rng(seed)
            made.append(
                fit_part(
                    train,
                    self.targets,
                    self.plan,
                    rois=self.rois,
                    shuffle=rng,
                    lag_s=lag_s,
                    others=self.others,
                    held_out=held_out,
                    keep_features=keep,
                )
            )
            return fit_to_step(made[0])

        kept = self.steps.run(name, {"key": self.key, **depends_on}, work)
        self.seconds[name] = time.perf_counter() - began
        if made:
            return made[0]
        return fit_from_step(kept, train, self.targets, self.plan, keep_features=keep)


def fit_key(
    runs: tuple[Run, ...],
    plan: Plan,
    settings: CalibrationSettings,
    *,
    people: OtherPeople | None,
    targets: str,
    rois: Mapping[str, NDArray[np.intp]],
) -> str:
    """Return a digest of all that a fit depends on; how its scores are tested is no part of it.

    Parameters
    ----------
    runs : tuple of Run
    plan : Plan
    settings : CalibrationSettings
    people : OtherPeople, optional
        Who help to train.
    targets : str
        Digest of the targets.
    rois : mapping
        Columns of regions, where the decoder divides by them.
    """
    signals = [array_digest(run.signal, run.stamps_s) for run in runs]
    events = [[run.key, run.part, [_plain(event) for event in run.events]] for run in runs]
    chosen = settings_to_json(replace(settings, evaluation=plan.evaluation))
    plain = plan.to_json()
    for name in ("n_permutations", "n_bootstrap", "n_shuffled", "families"):
        del plain["evaluation"][name]
    regions = {name: array_digest(columns) for name, columns in rois.items()}
    known = [_VERSION, signals, events, plain, chosen["target"], targets, regions]
    if people is not None:
        known.append(people.digest)
    text = json.dumps(known, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


_FINAL = "final"  # the step of the bundle's decoder
_VERSION = 2  # of the fit; a change of what is fitted must not take up old steps


def _plain(event: Event) -> list[Any]:
    return [event.onset_s, event.duration_s, event.stimulus, event.label]
