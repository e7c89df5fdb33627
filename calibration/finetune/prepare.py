"""From recordings to training windows: as `hearback calibrate` reads and decodes them.

    read -> features -> lag, semantic decoder -> decoded out of fold -> tokens, latents of the sound

Only training runs are used where the recordings name test runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.crossfit import out_of_fold
from calibration.acoustic.targets import TokenSource, rendered, steps_of, stretch_tokens
from calibration.config import CalibrationSettings, DecoderSettings
from calibration.data.dataset import Dataset, Stimulus
from calibration.data.samples import Samples
from calibration.decoders import make_decoder, weight_energy
from calibration.embedders.base import Embedder
from calibration.finetune.windows import BrainWindows
from calibration.outer import Fit, fit_part, inner_groups, unit
from calibration.plan import Plan, make_plan
from calibration.roi_ensemble import feature_rois
from calibration.run_features import run_features, standardise_runs
from calibration.steps import array_digest
from calibration.stimulus_sound import stimulus_sound
from calibration.targets import EmbeddingTargets
from calibration.windows import make_samples
from models.errors import SettingError

__all__ = ["Prepared", "cut_latents", "prepare_windows"]

logger = logging.getLogger(__name__)

_RATE_HZ = 16_000
_FRAME_S = 0.04

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Training windows, and the semantic decoder they were decoded with."""

    windows: BrainWindows
    fit: Fit
    plan: Plan
    response: NDArray[np.float64]  # (n_features,) of the semantic decoder
    hop_s: float  # from window to window: how long the sound is that each renders
    trained_on: tuple[str, ...]  # digests of the runs
    held_out: Samples | None  # of the data set's own test runs, for scores; features kept


def prepare_windows(
    dataset: Dataset,
    participant: str,
    settings: CalibrationSettings,
    *,
    embedder: Embedder,
    tokens: TokenSource,
    latents: Callable[[NDArray[np.float32]], Array],
    silence: Array,
    prefix: int,
    even: bool = False,
    most_s: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Prepared:
    """Read, decode out of fold, and hear what was heard.

    Parameters
    ----------
    dataset : Dataset
    participant : str
    settings : CalibrationSettings
        `target` is replaced by the generator's own space.
    embedder : Embedder
        Of that space, 512 dimensions.
    tokens : TokenSource
    latents : callable
        Sound at 16 kHz to latents (frames of 40 ms, *latent).
    silence : array of shape latent
        What stands before a clip.
    prefix : int
        Latent frames before each stretch.
    even : bool
        An even number of token steps (`steps_of`).
    most_s : float, optional
        Longest sound that tokens and latents are made of, s.
    progress : callable, optional

    Raises
    ------
    SettingError
        If the recordings say nothing to learn from, or the embedder has not 512 dimensions.
    FileError
        If a sound cannot be read.
    """
    tell = progress or (lambda _what: None)
    if embedder.dim != 512:
        raise SettingError(
            f"A generator is steered by vectors of 512 values, and {embedder.name} gives "
            f"{embedder.dim}."
        )
    plan = replace(make_plan(dataset, participant, settings), stretch="window")
    if plan.target == "class":
        raise SettingError(
            "Fine-tuning needs the sounds that were heard, and some are not at hand. Name their "
            "folder (calibration.data.stimuli)."
        )
    runs = dataset.of(participant)
    train_runs = tuple(run for run in runs if run.part != "test") or runs
    tell("features")
    features = run_features(train_runs, features=plan.features, shortest=plan.shortest)
    targets = EmbeddingTargets(dataset.stimuli, embedder, stretch=plan.stretch)
    space = dataset.space_of(participant)
    rois = None
    if plan.decoder.kind == "roi-ensemble" and space is not None:
        rois = feature_rois(
            space.rois, n_voxels=runs[0].signal.shape[1], n_features=features[0].n_features
        )
    tell("semantic decoder")
    fit = fit_part(features, targets, plan, rois=rois, keep_features=True)
    samples, true = fit.train, unit(fit.train.y + fit.centre)
    groups = inner_groups(samples, plan)
    tell("decoding out of fold")
    n_folds = min(plan.decoder.n_folds, len(np.unique(groups)) - 1)
    said = out_of_fold(
        samples.x[:, 0],
        fit.train.y + fit.centre,
        groups,
        lambda: make_decoder(_fewer(plan, n_folds), rois=rois),
        n_folds=max(2, n_folds),
    )
    hop_s = min(features[0].hop_s, most_s or features[0].hop_s)
    steps = steps_of(hop_s, even=even)
    tell("tokens and latents of the sounds")
    starts, stops = rendered(samples, hop_s)
    names = samples.clip.tolist()
    made = stretch_tokens(tokens, dataset.stimuli, names, starts, stops, steps=steps)
    sound, known = cut_latents(
        dataset.stimuli, names, starts, latents, silence=silence, prefix=prefix, frames=4 * steps
    )
    windows = BrainWindows(
        samples=samples,
        groups=groups,
        decoded=unit(said).astype(np.float32),
        true=true.astype(np.float32),
        tokens=made,
        latents=sound,
        n_known=known,
        prefix=prefix,
    )
    logger.info("%d windows of %d clips, %d steps of tokens.", len(names), len(set(names)), steps)
    test = tuple(run for run in runs if run.part == "test")
    held_out = None
    if test and len(test) < len(runs):
        later = run_features(test, features=plan.features, shortest=plan.shortest)
        ready = standardise_runs(later, plan.standardise, mean=fit.mean, std=fit.std)
        held_out = make_samples(ready, lag_s=fit.lag_s, targets=targets, choice=plan.choice)
    return Prepared(
        windows,
        fit,
        plan,
        weight_energy(fit.decoder),
        hop_s,
        tuple(array_digest(run.signal) for run in train_runs),
        held_out,
    )


def cut_latents(
    stimuli: Mapping[str, Stimulus],
    names: Sequence[str],
    starts_s: NDArray[np.float64],
    latents: Callable[[NDArray[np.float32]], Array],
    *,
    silence: Array,
    prefix: int,
    frames: int,
) -> tuple[Array, NDArray[np.int64]]:
    """Return the latents of stretches and of what came before, and how much of that is sound.

    Parameters
    ----------
    stimuli : mapping of str to Stimulus
    names : sequence of str
    starts_s : array of shape (n,)
        Of the stretches, s in their stimuli.
    latents : callable
    silence : array
    prefix, frames : int

    Returns
    -------
    latents : array of shape (n, prefix + frames, *latent), float32
        Silence before a clip; the last frame held on after it.
    n_known : array of shape (n,), int64
    """
    whole: dict[str, Array] = {}
    out = np.empty((len(names), prefix + frames, *silence.shape), np.float32)
    known = np.zeros(len(names), np.int64)
    for row, name in enumerate(names):
        if name not in whole:
            whole[name] = latents(stimulus_sound(stimuli[name], sample_rate_hz=_RATE_HZ))
        clip = whole[name]
        first = round(float(starts_s[row]) / _FRAME_S)
        before = min(first, prefix)
        out[row, : prefix - before] = silence
        at = np.minimum(np.arange(first - before, first + frames), len(clip) - 1)
        out[row, prefix - before :] = clip[at]
        known[row] = before
    return out, known


def _fewer(plan: Plan, n_folds: int) -> DecoderSettings:
    """Return the decoder's settings for a part of the groups."""
    return replace(plan.decoder, n_folds=max(2, n_folds))
