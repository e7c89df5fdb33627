"""The demo bundles whose sound a generator makes: one simulated person, fitted from a seed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.fit import fit_acoustic
from calibration.acoustic.settings import AcousticSettings
from calibration.acoustic.targets import GeneratorTokens, steps_of
from calibration.data.samples import Samples
from calibration.demo_recipes import BOLD, DemoRecipe
from calibration.embedders.generator import GeneratorEmbedder
from calibration.fit_retrieval import RetrievalFit, fit_retrieval, score_retrieval
from calibration.generated.chain import FittedGenerator
from calibration.generated.folder import DEFAULT_GENERATOR
from calibration.generated.start_library import start_library
from calibration.generated.token_fits import acoustic_file
from calibration.listener_bold import BoldListener
from calibration.runs import Run, clip_at, run_windows
from calibration.stimuli import LABELS, SAMPLE_RATE_HZ, make_stimulus, stimulus_sequence
from export.bundle import Bundle, save_bundle, standardise_file
from export.chains import EmbeddingSpec, TokenSpec
from export.library import LibrarySound
from export.manifest import Manifest, SoundSpec
from export.onnx_linear import factored_linear_onnx
from models.ridge.shared import LinearFit
from models.spec import InputSpec, TrMeanSpec
from models.standardise import standardise_batch
from models.stretch import TOKENS_PER_STEP

__all__ = ["make_generated_bundle"]

logger = logging.getLogger(__name__)

_FEATURES = TrMeanSpec(window_s=4.5)
_LIBRARY_S = 2.56  # of a library sound: what the encoder hears at once
_LEFT_OUT = 1e-4  # of the variance of what is decoded
_LAGS_S = tuple(np.arange(0.0, 9.1, 1.5).tolist())


def make_generated_bundle(
    out: Path,
    *,
    seed: int,
    generator: Path,
    chain: Literal["semantic", "coarse-to-fine"] = "semantic",
    recipe: DemoRecipe = BOLD,
    library_per_class: int = 2,
    created: str,
    software: dict[str, str],
) -> Bundle:
    """Fit and write a chain from averaged volumes to an embedding to generated sound.

    The library is there to begin from on demand (strength); as the bundle has it, everything comes
    from noise.

    Parameters
    ----------
    out : Path
    seed : int
    generator : Path
        Its folder.
    chain : {"semantic", "coarse-to-fine"}
    recipe : DemoRecipe
    library_per_class : int
    created : str
        ISO 8601.
    software : dict
        Versions, for the manifest.

    Returns
    -------
    bundle : Bundle
    """
    listener = BoldListener(recipe.person, recipe.snr_db)

    def run(seconds: float, number: int) -> Run:
        sequence = stimulus_sequence(seed + number, seconds, clip_s=recipe.clip_s)
        return Run(listener.record(sequence.pcm, seed=seed + number), 1.0 / listener.tr_s, sequence)

    encoder = GeneratorEmbedder(str(generator))
    rng = np.random.default_rng([seed, 77])
    stimuli = [
        make_stimulus(label, int(rng.integers(2**31)), _LIBRARY_S)
        for label in LABELS
        for _ in range(library_per_class)
    ]
    sounds = [LibrarySound(item.name, item.pcm, item.label) for item in stimuli]
    vectors = np.array([encoder.embed(sound.pcm, SAMPLE_RATE_HZ) for sound in sounds])
    training = [run(recipe.train_s / 2.0, 3), run(recipe.train_s / 2.0, 4)]
    fit = fit_retrieval(
        training,
        embedding=_AtRate(encoder),
        features=_FEATURES,
        block_s=listener.tr_s,
        lags_s=_LAGS_S,
    )
    scores = score_retrieval(
        fit,
        run(recipe.test_s, 5),
        run(recipe.test_s, 7),
        library=vectors,
        labels=[sound.label for sound in sounds],
    )
    logger.info("fMRI, %s: lag %.1f s, alpha %g, %s", chain, fit.lag_s, fit.linear.alpha, scores)
    acoustic = _fit_tokens(fit, training, generator) if chain == "coarse-to-fine" else None
    fitted = FittedGenerator(
        generator,
        EmbeddingSpec(encoder.name, encoder.dim),
        seed=seed,
        library=start_library(generator, sounds, vectors),
        strength=1.0,
        tokens=None if acoustic is None else TokenSpec(acoustic.steps),
        acoustic=None if acoustic is None else acoustic_file(acoustic),
        # Those of the generator that ships are beside this file's package already.
        analysis=generator.resolve() != DEFAULT_GENERATOR,
    )
    manifest = Manifest(
        name=f"demo-fmri-{chain}",
        participant=f"simulated listener {recipe.person}",
        created=created,
        input=InputSpec("bold", listener.n_voxels, 1.0 / listener.tr_s, unit="a.u."),
        features=fit.features,
        standardise=fit.standardise,
        chain=fitted.chain,
        sound=SoundSpec(SAMPLE_RATE_HZ, listener.tr_s),
        fill_max_s=0.0,
        lag_s=fit.lag_s,
        scores=_scores(recipe, scores, fit, seed, acoustic),
        software=software,
    )
    files: dict[str, bytes | Path] = {
        "decoder.onnx": factored_linear_onnx(*_factors(fit.linear), normalise=True),
        "standardise.npy": standardise_file(fit.mean, fit.std),
        **fitted.files(),
    }
    return save_bundle(out, manifest, files, overwrite=True)


def _factors(
    linear: LinearFit,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the decoder in two factors and a bias: what it says varies along few directions.

    Those of its held-out predictions that hold all but a ten-thousandth of their variance: a
    quarter of the bytes, and the same sound.
    """
    mean = linear.held_out.mean(axis=0)
    _, sizes, directions = np.linalg.svd(linear.held_out - mean, full_matrices=False)
    share = np.cumsum(sizes**2) / np.sum(sizes**2)
    rank = int(np.searchsorted(share, 1.0 - _LEFT_OUT)) + 1
    right = directions[:rank]  # (rank, 512), orthonormal
    logger.info("Decoder of %d dimensions in %d factors.", len(mean), rank)
    # mean + (x W + b - mean) V V^T
    return linear.weights @ right.T, right, mean + (linear.bias - mean) @ right.T @ right


class _AtRate:
    """An embedder of sounds at the rate of the stimuli; each sound is embedded once."""

    def __init__(self, embedder: GeneratorEmbedder) -> None:
        self._embedder = embedder
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def embed(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embedding of a sound."""
        key = pcm.tobytes()
        if key not in self._known:
            self._known[key] = self._embedder.embed(pcm, SAMPLE_RATE_HZ)
        return self._known[key]


def _fit_tokens(fit: RetrievalFit, runs: Sequence[Run], generator: Path) -> AcousticDecoder:
    """Return an acoustic decoder in closed form, of the stretches that windows render."""
    source, steps = GeneratorTokens(generator), steps_of(fit.block_s)
    rows, tokens, clips, starts = [], [], [], []
    for number, run in enumerate(runs):
        windows = run_windows(run, fit.features)
        stretch = windows.stretch(fit.lag_s, fit.block_s)
        clip = clip_at(run.sequence, stretch.mean(axis=1))
        keep = np.flatnonzero(clip >= 0)
        rows.append(standardise_batch(fit.standardise, windows.values, fit.mean, fit.std)[keep])
        clips += [f"{number}/{clip[k]}" for k in keep]
        starts.append(stretch[keep, 0])
        for k in keep:
            first, last = np.rint(stretch[k] * SAMPLE_RATE_HZ).astype(int).tolist()
            sound = run.sequence.pcm[max(first, 0) : last]
            sound = np.pad(sound, (max(0, -first), max(0, last - first - len(sound))))
            tokens.append(source.tokens(sound)[: TOKENS_PER_STEP * steps])
    x = np.concatenate(rows)
    # The decoder of the bundle is fitted on the same rows in the same order: what its folds said
    # of rows that they held out is what an embedding looks like live.
    held_out = fit.linear.held_out / np.linalg.norm(fit.linear.held_out, axis=1, keepdims=True)
    groups = np.array(clips)
    return fit_acoustic(
        _samples(x, held_out, groups, np.concatenate(starts), fit.block_s),
        np.stack(tokens),
        held_out,
        groups,
        AcousticSettings(method="ridge"),
    )


def _samples(
    x: NDArray[np.float32],
    y: NDArray[np.float64],
    clip: NDArray[np.str_],
    start_s: NDArray[np.float64],
    block_s: float,
) -> Samples:
    n = len(x)
    nothing = np.full(n, "")
    return Samples(
        x=x[:, np.newaxis],
        y=y,
        clip=clip,
        label=nothing,
        start_s=start_s,
        stop_s=start_s + block_s,
        person=nothing,
        session=nothing[:, np.newaxis],
        run=np.array([name.split("/")[0] for name in clip])[:, np.newaxis],
        previous_clip=nothing,
        order=np.arange(n, dtype=np.float64),
    )


def _scores(
    recipe: DemoRecipe,
    held_out: dict[str, float],
    fit: RetrievalFit,
    seed: int,
    acoustic: AcousticDecoder | None,
) -> dict[str, Any]:
    """Return the manifest's scores: rounded, so that a last bit does not change the digest."""
    made: dict[str, Any] = {
        "held_out": {key: round(value, 4) for key, value in held_out.items()},
        "cross_validated_r_by_lag_s": {
            f"{lag:g}": round(r, 4) for lag, r in fit.lag_scores.items()
        },
        "alpha": fit.linear.alpha,
        "seed": seed,
        "simulated": {
            "snr_db": recipe.snr_db,
            "clip_s": recipe.clip_s,
            "train_s": recipe.train_s,
            "test_s": recipe.test_s,
        },
    }
    if acoustic is not None:
        made["tokens"] = {key: round(value, 4) for key, value in acoustic.scores.items()}
    return made
