"""A calibration's generator, if it was tuned to a brain: its acoustic decoder, and what is scored.

Generator and acoustic decoder were tuned to features, embeddings and windows as one calibration
makes them of one participant's recordings. A bundle takes them only where it makes the same, and
what they learnt from is never scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.onnx_engine import OnnxEngine
from calibration.acoustic.settings import AcousticSettings
from calibration.config import GeneratorChoice
from calibration.data.dataset import Run
from calibration.generated.tuned_record import (
    ACOUSTIC_FILE,
    ADVICE,
    TunedRecord,
    fitting_plan,
    read_tuned,
    tuned_array,
    tuned_in_card,
)
from calibration.outer import Fit
from calibration.plan import Plan
from calibration.steps import array_digest
from export.generator_files import GeneratorCard
from models.errors import SettingError
from models.stretch import TOKENS_PER_STEP

__all__ = ["Tuned"]

_CLOSE = 1e-4  # of statistics: the same calculation
_NEAR = 2e-2  # of embeddings: two runtimes of one encoder


class Tuned:
    """The fine-tuning of a calibration's generator, if there was one.

    Parameters
    ----------
    choice : GeneratorChoice
    card : GeneratorCard
        Of the exported generator.

    Attributes
    ----------
    record : TunedRecord or None
        Of the folder that the settings name.
    unscored : str
        Why the generated sound must not be scored; empty where it may.

    Raises
    ------
    FileError
        If there is no such fine-tuning.
    SettingError
        If the generator is not the one that was tuned.
    """

    def __init__(self, choice: GeneratorChoice, card: GeneratorCard) -> None:
        told = tuned_in_card(card)
        self.record: TunedRecord | None = None
        self.unscored = ""
        self._learnt = frozenset(map(str, told.get("trained_on", ())))
        if choice.tuned is None:
            return
        self._folder = choice.tuned
        self.record = read_tuned(choice.tuned)
        if told.get("weights") != self.record.weights:
            tuned = choice.tuned / "checkpoint"  # of full size
            raise SettingError(
                f"The generator is not the one that was tuned in {choice.tuned.name!r}. Export "
                f"that one: hearback export {tuned if tuned.is_dir() else choice.tuned} --out "
                "GENERATOR"
            )

    def planned(self, plan: Plan, runs: Sequence[Run], *, alone: bool = True) -> Plan:
        """Return the plan with what was tuned, once it is sure that both fit.

        Parameters
        ----------
        plan : Plan
        runs : sequence of Run
            All of the participant's.
        alone : bool
            Whether nobody else helps to train.

        Raises
        ------
        SettingError
            If participant, recordings, features or windows are not those of the fine-tuning.
        """
        if not self._learnt and self.record is None:
            return plan
        folds = plan.evaluation.test == "folds"
        if self.record is not None:
            trained = [run for run in runs if folds or run.part == "train"]
            plan = fitting_plan(self.record, plan, trained, alone=alone)
        if self.hold_back([run for run in runs if folds or run.part == "test"]):
            plan = replace(plan, notes=(*plan.notes, self.unscored))
        return plan

    def hold_back(self, runs: Sequence[Run]) -> bool:
        """Return whether sound must not be scored on recordings, since they were learnt from.

        `unscored` says so from then on.

        Parameters
        ----------
        runs : sequence of Run
        """
        if self._learnt:
            held = {array_digest(run.signal) for run in runs}
            if held & self._learnt:
                self.unscored = (
                    f"{len(held & self._learnt)} of the {len(held)} recordings that are scored are "
                    "what the generator was tuned on, so its sound is not: it would be scored on "
                    "what it learnt. Score it on other recordings: hearback evaluate."
                )
        return bool(self.unscored)

    def decoder(self, fit: Fit, *, hop_s: float) -> AcousticDecoder:
        """Return the tuned acoustic decoder, once it is sure that it hears what it was tuned to.

        Parameters
        ----------
        fit : Fit
            The semantic decoder's, as it goes into the bundle.
        hop_s : float

        Raises
        ------
        SettingError
            If features, lag, embeddings or windows are not those of the fine-tuning.
        """
        record = self.record
        assert record is not None
        arrays = {
            name: tuned_array(self._folder, name) for name in ("mean", "std", "centre", "tokens")
        }
        if abs(hop_s - record.hop_s) > 1e-6 or abs(fit.lag_s - record.lag_s) > 1e-6:
            raise SettingError(
                f"The fine-tuning had a window every {record.hop_s:g} s and a lag of "
                f"{record.lag_s:g} s, here they are {hop_s:g} s and {fit.lag_s:g} s. {ADVICE}"
            )
        for name, there, here, most in (
            ("features", arrays["mean"], fit.mean, _CLOSE),
            ("features", arrays["std"], fit.std, _CLOSE),
            ("embeddings", arrays["centre"], fit.centre, _NEAR),
        ):
            same = there.shape == here.shape
            if not same or np.linalg.norm(there - here) > most * np.linalg.norm(there):
                raise SettingError(
                    f"The {name} are not those of the fine-tuning: other values of {len(there)} "
                    f"dimensions there, {len(here)} here. {ADVICE}"
                )
        return AcousticDecoder(
            AcousticSettings(method=record.method),
            OnnxEngine(self._folder / ACOUSTIC_FILE),
            (TOKENS_PER_STEP * record.steps, arrays["tokens"].shape[1]),
            len(fit.mean),
            arrays["tokens"].astype(np.float32),
            {},
        )
