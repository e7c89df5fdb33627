"""Acoustic tokens by the decoder that a fine-tuning left, in place of one that is fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.decoder import AcousticDecoder
from calibration.generated.token_fits import HeardTokens, TokenFits
from calibration.generated.tuned import Tuned
from calibration.outer import Fit
from calibration.plan import Plan
from calibration.run_features import RunFeatures
from calibration.targets import TargetSource
from models.stretch import TOKEN_DIM, TOKENS_PER_STEP

__all__ = ["TunedTokens"]


class TunedTokens(TokenFits):
    """Gives the tuned acoustic decoder; decodes what it did not learn from.

    Parameters
    ----------
    tuned : Tuned
        With a record, and found to fit.
    targets : TargetSource
    plan : Plan
    hop_s : float
    true : HeardTokens, optional
        For a full-size checkpoint, which hears nothing but tokens.
    """

    def __init__(
        self,
        tuned: Tuned,
        targets: TargetSource,
        plan: Plan,
        *,
        hop_s: float,
        true: HeardTokens | None = None,
    ) -> None:
        super().__init__(targets, plan, true=true)
        self._tuned, self._hop_s = tuned, hop_s

    def fit(self, fit: Fit, train: Sequence[RunFeatures]) -> AcousticDecoder:
        """Return the tuned decoder.

        Raises
        ------
        SettingError
            If `fit` is not the one that it was tuned to.
        """
        return self._tuned.decoder(fit, hop_s=self._hop_s)

    def hold_out(
        self,
        fit: Fit,
        train: Sequence[RunFeatures],
        test: Sequence[RunFeatures],
        raw: NDArray[np.float64],
    ) -> None:
        """Decode the tokens of what was held out; nothing where nothing will be scored."""
        if not self._tuned.unscored:
            super().hold_out(fit, train, test, raw)
            return
        record = self._tuned.record
        assert record is not None
        self.decoded.append(np.zeros((0, TOKENS_PER_STEP * record.steps, TOKEN_DIM), np.float32))
