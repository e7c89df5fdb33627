"""Fit the acoustic decoder of coarse-to-fine decoding: brain and embedding to acoustic tokens.

    features, decoded embedding --closed form or transformer--> tokens --acoustic.onnx--> bundle

The split that selects is inside the training windows and by groups; what is held out for the report
never comes here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.crossfit import check_decoded
from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.ridge import fit_ridge
from calibration.acoustic.settings import AcousticSettings
from calibration.data.samples import Samples
from calibration.honest.splits import make_splits
from models.errors import SettingError
from models.stretch import TOKEN_DIM, TOKENS_PER_STEP

if TYPE_CHECKING:
    from calibration.acoustic.token_decoder import SmallTokenDecoder
    from calibration.training.loop import Progress

__all__ = ["fit_acoustic", "inner_split"]

Array = NDArray[np.float32]


def fit_acoustic(
    samples: Samples,
    tokens: NDArray[Any],
    embeddings_out_of_fold: NDArray[Any],
    groups: NDArray[Any],
    settings: AcousticSettings | None = None,
    *,
    true_embeddings: NDArray[Any] | None = None,
    response: NDArray[Any] | None = None,
    mel: NDArray[Any] | None = None,
    token_decoder: SmallTokenDecoder | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    seed: int = 0,
    folder: Path | None = None,
    resume: bool = False,
    stop: Event | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> AcousticDecoder:
    """Fit an acoustic decoder on training windows.

    Parameters
    ----------
    samples : Samples
        Windows, repetitions as rows (`Samples.separate`) or averaged; features standardised as
        live.
    tokens : array of shape (n, 8 m, 768)
        Of exactly the stretch of sound of each window (`calibration.acoustic.targets`).
    embeddings_out_of_fold : array of shape (n, 512)
        Decoded by a semantic decoder that did not see the window's group, of length 1
        (`calibration.acoustic.crossfit.out_of_fold`). True ones are refused.
    groups : array of shape (n,)
        What is never divided: clips, or runs where the same few sounds come again.
    settings : AcousticSettings, optional
    true_embeddings : array of shape (n, 512), optional
        Of what was heard, of length 1; needed where p_gt is above 0.
    response : array of shape (n_features,), optional
        How much each feature responds; those with most make the brain token. C2F-LDM takes "the
        768 voxels with the highest responses based on W" without a rule: the semantic decoder's
        `calibration.decoders.weight_energy` is one. Without it: the mean squared correlation of a
        feature with the decoded embedding's target, `true_embeddings` or else the tokens, on the
        windows that are trained on.
    mel : array of shape (n, 16 m, 64), optional
        Log mel of the stretches, for `mel_weight`.
    token_decoder : SmallTokenDecoder, optional
        For `perceptual_weight` and `mel_weight`.
    device : {"cpu", "cuda"}
    seed : int
    folder : Path, optional
        Where checkpoints, losses and the weights are kept; a temporary one if not given.
    resume : bool
        Go on with the checkpoint in `folder`.
    stop : Event, optional
        When set, training ends and the best so far is taken.
    progress : callable, optional

    Returns
    -------
    decoder : AcousticDecoder

    Raises
    ------
    SettingError
        If shapes do not fit, there are too few groups, embeddings are not decoded ones, or the
        settings need something that is not given.
    """
    settings = settings or AcousticSettings()
    x = np.asarray(samples.mean_x(), np.float32)
    targets = np.asarray(tokens, np.float32)
    decoded = np.asarray(embeddings_out_of_fold, np.float32)
    true = None if true_embeddings is None else np.asarray(true_embeddings, np.float32)
    _check(x, targets, groups)
    check_decoded(decoded, true, n=len(x))
    train, check = inner_split(samples, groups, settings, seed=seed)
    ridge, held_out = fit_ridge(
        x[train], decoded[train], targets[train], np.asarray(groups)[train], settings=settings
    )
    mean = targets[train].mean(axis=0)
    floor = max(float(np.mean((targets[check] - mean) ** 2)), 1e-12)
    in_form = ridge.predict(x[check], decoded[check])
    scores = {"held_out_error_ridge": float(np.mean((in_form - targets[check]) ** 2)) / floor}
    if settings.method == "ridge":
        whole, _ = fit_ridge(x, decoded, targets, groups, settings=settings)
        scores["held_out_error"] = scores["held_out_error_ridge"]
        return AcousticDecoder(
            settings, whole, whole.basis.shape, x.shape[1], targets.mean(axis=0), scores
        )
    from calibration.acoustic.train import AcousticRows
    from calibration.acoustic.transformer import train_transformer

    if response is None:
        wanted = true if true is not None else targets.reshape(len(targets), -1)[:, ::97]
        response = _responses(x[train], wanted[train])
    base = None
    if settings.base == "ridge":
        base = np.zeros((len(x), held_out.shape[1]), np.float32)
        base[train], base[check] = held_out, ridge.values(x[check], decoded[check])
    rows = AcousticRows(
        features=x,
        decoded=decoded,
        true=true,
        tokens=targets,
        train=train,
        check=check,
        base=base,
        mel=None if mel is None else np.asarray(mel, np.float32),
        scale=max(float(np.sqrt(np.mean((targets[train] - mean) ** 2))), 1e-6),
    )

    def work(home: Path) -> AcousticDecoder:
        engine, found, curve = train_transformer(
            rows,
            settings,
            ridge=ridge,
            mean=mean,
            response=np.asarray(response, np.float64),
            token_decoder=token_decoder,
            device=device,
            seed=seed,
            folder=home,
            resume=resume,
            stop=stop,
            progress=progress,
        )
        return AcousticDecoder(
            settings, engine, ridge.basis.shape, x.shape[1], mean, scores | found, curve
        )

    if folder is not None:
        return work(folder)
    with tempfile.TemporaryDirectory(prefix="hearback-acoustic-") as temporary:
        return work(Path(temporary))


def inner_split(
    samples: Samples, groups: NDArray[Any], settings: AcousticSettings, *, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to train on and the rows to select with: whole groups, dealt out at random.

    Parameters
    ----------
    samples : Samples
    groups : array of shape (n,)
    settings : AcousticSettings
        Its share `held_out`.
    seed : int

    Raises
    ------
    SettingError
        If there are fewer than three groups.
    """
    n_groups = len(np.unique(groups))
    if n_groups < 3:
        raise SettingError(
            f"An acoustic decoder needs windows of 3 groups or more (clips or runs), got {n_groups}"
            ". Record more."
        )
    n_folds = min(n_groups, max(2, round(1.0 / settings.held_out)))
    by_group = replace(samples.without_features(), clip=np.asarray(groups).astype(np.str_))
    split = make_splits(by_group, "clip", n_folds=n_folds, seed=seed)[0]
    return split.train, split.test


def _check(x: Array, tokens: Array, groups: NDArray[Any]) -> None:
    good = tokens.ndim == 3 and tokens.shape[1] % TOKENS_PER_STEP == 0
    if not good or tokens.shape[2] != TOKEN_DIM or not len(x) == len(tokens) == len(groups):
        raise SettingError(
            f"Expected tokens of shape (n, 8 m, {TOKEN_DIM}) and a group for each of n windows, "
            f"got tokens {tokens.shape}, {len(x)} windows and {len(groups)} groups."
        )
    if not (np.isfinite(tokens).all() and np.isfinite(x).all()):
        raise SettingError(
            "Features or tokens hold values that are not finite. Leave those windows out."
        )


def _responses(x: Array, wanted: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean squared correlation of each feature with what is to be decoded."""
    total = np.zeros(x.shape[1])
    z = np.asarray(wanted, np.float64)
    z = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-12)
    values = x - x.mean(axis=0)
    spread = np.maximum(values.std(axis=0), 1e-12)
    for first in range(0, x.shape[1], 4096):  # a whole brain at once would be copied
        part = slice(first, first + 4096)
        r = (values[:, part] / spread[part]).T @ z / len(x)
        total[part] = np.mean(r**2, axis=1)
    return total
