"""Acoustic decoders of a calibration: fitted beside each semantic decoder, on its training part."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.crossfit import out_of_fold
from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.fit import fit_acoustic
from calibration.acoustic.settings import AcousticSettings
from calibration.acoustic.targets import TokenSource, rendered, steps_of, stretch_tokens
from calibration.data.dataset import Stimulus
from calibration.data.samples import Samples
from calibration.decoders import Decoder, make_decoder
from calibration.embedders.base import unit_rows
from calibration.generated.conditions import as_vectors
from calibration.generated.full_tokens import EnteringTokens
from calibration.outer import Fit, inner_groups
from calibration.plan import Plan
from calibration.run_features import RunFeatures, standardise_runs
from calibration.targets import TargetSource
from calibration.windows import make_samples

__all__ = ["FittedTokens", "TokenFits", "acoustic_file"]

Rois = Mapping[str, NDArray[np.intp]]


class TokenFits(ABC):
    """Gives the acoustic decoder beside each semantic one, and decodes tokens of what was held out.

    Parameters
    ----------
    targets : TargetSource
        Of the semantic decoder.
    plan : Plan

    Attributes
    ----------
    decoded : list of arrays of shape (n, 8 steps, 768)
        Tokens of each part that was held out, in order.
    true : list of arrays of the same shape
        What the decoded ones stand for; empty unless the generator hears nothing else.
    """

    def __init__(self, targets: TargetSource, plan: Plan) -> None:
        self._targets, self._plan = targets, plan
        self.decoded: list[NDArray[np.float32]] = []
        self.true: list[NDArray[np.float32]] = []

    @abstractmethod
    def fit(self, fit: Fit, train: Sequence[RunFeatures]) -> AcousticDecoder:
        """Return an acoustic decoder that learnt from the runs that `fit` learnt from."""

    def hold_out(
        self,
        fit: Fit,
        train: Sequence[RunFeatures],
        test: Sequence[RunFeatures],
        raw: NDArray[np.float64],
    ) -> None:
        """Decode the tokens of a part that was held out, by a decoder of the rest.

        Parameters
        ----------
        fit : Fit
            Of `train`.
        train, test : sequence of RunFeatures
        raw : array of shape (n, 512)
            What `fit` decodes of the windows of `test`, centred.
        """
        self._decode(fit, train, self._samples(fit, test), raw)

    def _decode(
        self, fit: Fit, train: Sequence[RunFeatures], samples: Samples, raw: NDArray[np.float64]
    ) -> None:
        vectors = as_vectors(raw, fit.centre)
        self.decoded.append(self.fit(fit, train).predict(samples.mean_x(), vectors))

    def _samples(self, fit: Fit, runs: Sequence[RunFeatures]) -> Samples:
        ready = standardise_runs(runs, self._plan.standardise, mean=fit.mean, std=fit.std)
        return make_samples(ready, lag_s=fit.lag_s, targets=self._targets, choice=self._plan.choice)


class FittedTokens(TokenFits):
    """Fits acoustic decoders.

    The tokens of a window are those of the stretch that it renders: as long as the hop, in the
    middle of the stretch that it answers to.

    Parameters
    ----------
    source : TokenSource
        Makes tokens of the sounds.
    stimuli : mapping of str to Stimulus
    targets : TargetSource
        Of the semantic decoder.
    plan : Plan
    hop_s : float
    settings : AcousticSettings
        Their `method` says whether it is the closed form, or the network of C2F-LDM, which needs
        the extra train.
    rois : mapping, optional
    entering : EnteringTokens, optional
        What a full-size checkpoint takes of the tokens of a stretch; that is decoded then.
    """

    def __init__(
        self,
        source: TokenSource,
        stimuli: Mapping[str, Stimulus],
        targets: TargetSource,
        plan: Plan,
        *,
        hop_s: float,
        settings: AcousticSettings,
        rois: Rois | None = None,
        entering: EnteringTokens | None = None,
    ) -> None:
        super().__init__(targets, plan)
        self._source, self._entering = source, entering
        self._stimuli, self._hop_s, self._rois = stimuli, hop_s, rois
        self._settings = settings
        self._last: tuple[Fit, AcousticDecoder] | None = None

    def fit(self, fit: Fit, train: Sequence[RunFeatures]) -> AcousticDecoder:
        """Return an acoustic decoder that learnt from the runs that `fit` learnt from.

        The same fit again gives the same decoder: what is scored on a data set's own test runs and
        goes into the bundle is trained once.

        Raises
        ------
        SettingError
            If there are too few clips or runs to choose anything in.
        """
        if self._last is not None and self._last[0] is fit:
            return self._last[1]
        samples = self._samples(fit, train).separate()
        groups = inner_groups(samples, self._plan)
        vectors = unit_rows(out_of_fold(samples.x[:, 0], samples.y, groups, self._semantic))
        decoder = fit_acoustic(
            samples,
            self._tokens(samples),
            vectors,
            groups,
            self._settings,
            true_embeddings=unit_rows(samples.y),
            seed=self._plan.evaluation.seed,
        )
        self._last = fit, decoder
        return decoder

    def _decode(
        self, fit: Fit, train: Sequence[RunFeatures], samples: Samples, raw: NDArray[np.float64]
    ) -> None:
        super()._decode(fit, train, samples, raw)
        if self._entering is not None:
            self.true.append(self._tokens(samples))

    def _semantic(self) -> Decoder:
        return make_decoder(self._plan.decoder, rois=self._rois)

    def _tokens(self, samples: Samples) -> NDArray[np.float32]:
        made = stretch_tokens(
            self._source,
            self._stimuli,
            [str(name) for name in samples.clip],
            *rendered(samples, self._hop_s),
            steps=steps_of(self._hop_s, even=self._entering is not None),
        )
        return made if self._entering is None else self._entering(made)


def acoustic_file(decoder: AcousticDecoder) -> bytes:
    """Return acoustic.onnx, once it was run and found to be the decoder.

    Raises
    ------
    SettingError
        If onnx is missing, or the file gives something else.
    """
    with tempfile.TemporaryDirectory(prefix="hearback-acoustic-") as folder:
        path = Path(folder) / "acoustic.onnx"
        decoder.export_onnx(path)
        return path.read_bytes()
