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
from calibration.generated.entering import EnteringTokens
from calibration.outer import Fit, inner_groups
from calibration.plan import Plan
from calibration.run_features import RunFeatures, standardise_runs
from calibration.targets import TargetSource
from calibration.windows import make_samples

__all__ = ["FittedTokens", "HeardTokens", "TokenFits", "acoustic_file"]

Rois = Mapping[str, NDArray[np.intp]]


class HeardTokens:
    """Makes the tokens that windows stand for: of the stretch of sound that each renders.

    That is as long as the hop, in the middle of the stretch that the window answers to.

    Parameters
    ----------
    source : TokenSource
        Makes tokens of the sounds.
    stimuli : mapping of str to Stimulus
    hop_s : float
    entering : EnteringTokens, optional
        What a full-size checkpoint takes of the tokens of a stretch; that is made then.
    """

    def __init__(
        self,
        source: TokenSource,
        stimuli: Mapping[str, Stimulus],
        *,
        hop_s: float,
        entering: EnteringTokens | None = None,
    ) -> None:
        self._source, self._stimuli, self._hop_s = source, stimuli, hop_s
        self.entering = entering

    def __call__(self, samples: Samples) -> NDArray[np.float32]:
        """Return the tokens of windows: (n, places, 768)."""
        made = stretch_tokens(
            self._source,
            self._stimuli,
            [str(name) for name in samples.clip],
            *rendered(samples, self._hop_s),
            steps=steps_of(self._hop_s, even=self.entering is not None),
        )
        return made if self.entering is None else self.entering(made)


class TokenFits(ABC):
    """Gives the acoustic decoder beside each semantic one, and decodes tokens of what was held out.

    Parameters
    ----------
    targets : TargetSource
        Of the semantic decoder.
    plan : Plan
    true : HeardTokens, optional
        Makes what the decoded tokens stand for, which is kept beside them.

    Attributes
    ----------
    decoded : list of arrays of shape (n, 8 steps, 768)
        Tokens of each part that was held out, in order.
    true : list of arrays of the same shape
        What the decoded ones stand for; empty if nothing makes them.
    """

    def __init__(
        self, targets: TargetSource, plan: Plan, *, true: HeardTokens | None = None
    ) -> None:
        self._targets, self._plan, self._true = targets, plan, true
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
        samples, vectors = self._samples(fit, test), as_vectors(raw, fit.centre)
        self.decoded.append(self.fit(fit, train).predict(samples.mean_x(), vectors))
        if self._true is not None:
            self.true.append(self._true(samples))

    def _samples(self, fit: Fit, runs: Sequence[RunFeatures]) -> Samples:
        ready = standardise_runs(runs, self._plan.standardise, mean=fit.mean, std=fit.std)
        return make_samples(ready, lag_s=fit.lag_s, targets=self._targets, choice=self._plan.choice)


class FittedTokens(TokenFits):
    """Fits acoustic decoders.

    Parameters
    ----------
    heard : HeardTokens
        Makes the tokens that are learnt. Where they enter a full-size checkpoint, which hears
        nothing else, the true ones of what is held out are kept too.
    targets : TargetSource
        Of the semantic decoder.
    plan : Plan
    settings : AcousticSettings
        Their `method` says whether it is the closed form, or the network of C2F-LDM, which needs
        the extra train.
    rois : mapping, optional
    """

    def __init__(
        self,
        heard: HeardTokens,
        targets: TargetSource,
        plan: Plan,
        *,
        settings: AcousticSettings,
        rois: Rois | None = None,
    ) -> None:
        super().__init__(targets, plan, true=heard if heard.entering is not None else None)
        self._heard, self._rois = heard, rois
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
            self._heard(samples),
            vectors,
            groups,
            self._settings,
            true_embeddings=unit_rows(samples.y),
            seed=self._plan.evaluation.seed,
        )
        self._last = fit, decoder
        return decoder

    def _semantic(self) -> Decoder:
        return make_decoder(self._plan.decoder, rois=self._rois)


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
