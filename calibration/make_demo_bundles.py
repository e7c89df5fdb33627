"""Make the bundles of `hearback demo` from a seed: `python -m calibration.make_demo_bundles`.

All are fitted on one simulated person who heard ten or twenty minutes of procedural sounds. The
scores in their manifests come from other sounds (seeds of their own) heard by the same person.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from calibration.demo_recipes import BOLD, EEG, DemoRecipe
from calibration.embedding import MEL_STATISTICS_NAME, MelStatistics
from calibration.fit_direct import fit_direct, score_direct
from calibration.fit_retrieval import fit_retrieval, score_retrieval
from calibration.generated.demo_bundle import make_generated_bundle
from calibration.generated.folder import DEFAULT_GENERATOR, generator_folder
from calibration.listener_bold import BoldListener
from calibration.listener_eeg import EEG_CHANNELS, EegListener
from calibration.runs import Run
from calibration.stimuli import LABELS, SAMPLE_RATE_HZ, make_stimulus, stimulus_sequence
from export.bundle import Bundle, save_bundle, standardise_file
from export.library import LibrarySound, library_files
from export.manifest import (
    DirectChain,
    EmbeddingSpec,
    Manifest,
    RetrievalChain,
    SoundSpec,
)
from export.onnx_linear import check_onnx, linear_onnx
from models.errors import HearbackError
from models.spec import InputSpec, SampleSpec, TrMeanSpec

__all__ = ["main", "make_bold_bundle", "make_eeg_bundle"]

logger = logging.getLogger(__name__)

_CREATED = "2026-11-20T00:00:00Z"  # fixed: the same seed must give the same bytes
_EEG_FEATURES = SampleSpec(
    # Down to 0.05 Hz: how long a sound is held shows only in slow potentials.
    high_pass_hz=0.05,
    low_pass_hz=8.0,
    rate_hz=25.0,
    past_s=0.4,
    hop_s=0.04,
)
_BOLD_FEATURES = TrMeanSpec(window_s=4.5)
_GENERATED: dict[str, Literal["semantic", "coarse-to-fine"]] = {
    "fmri-semantic": "semantic",
    "fmri-coarse-to-fine": "coarse-to-fine",
}
_NAMES = ("eeg", "fmri", *_GENERATED)


def make_eeg_bundle(out: Path, *, seed: int, recipe: DemoRecipe = EEG) -> Bundle:
    """Fit and write the direct chain: filtered EEG to mel frames to sound."""
    listener = EegListener(recipe.person, recipe.snr_db)

    def run(seconds: float, number: int) -> Run:
        sequence = stimulus_sequence(seed + number, seconds, clip_s=recipe.clip_s)
        samples = listener.record(sequence.pcm, seed=seed + number)
        return Run(samples, listener.sfreq_hz, sequence)

    frames = 4
    fit = fit_direct(
        [run(recipe.train_s, 1)],
        features=_EEG_FEATURES,
        frames_per_window=frames,
        lags_s=(0.2, 0.3, 0.4, 0.5),
    )
    scores = score_direct(fit, run(recipe.test_s, 2), run(recipe.test_s, 6))
    logger.info("EEG: lag %.2f s, alpha %g, %s", fit.lag_s, fit.linear.alpha, scores)
    manifest = Manifest(
        name="demo-eeg",
        participant=f"simulated listener {recipe.person}",
        created=_CREATED,
        input=InputSpec("eeg", len(EEG_CHANNELS), listener.sfreq_hz, channels=EEG_CHANNELS),
        features=fit.features,
        standardise=fit.standardise,
        chain=DirectChain(mel=fit.mel, frames_per_window=frames),
        sound=SoundSpec(SAMPLE_RATE_HZ, frames / fit.mel.frames_per_s),
        fill_max_s=0.1,
        lag_s=fit.lag_s,
        scores=_scores(recipe, scores, fit.lag_scores, fit.linear.alpha, seed),
        software=_software(),
    )
    files = {
        "decoder.onnx": linear_onnx(
            fit.linear.weights,
            fit.linear.bias,
            output="mel",
            shape=(frames, fit.mel.n_mels),
        ),
        "standardise.npy": standardise_file(fit.mean, fit.std),
    }
    return save_bundle(out, manifest, files, overwrite=True)


def make_bold_bundle(
    out: Path, *, seed: int, recipe: DemoRecipe = BOLD, library_per_class: int = 4
) -> Bundle:
    """Fit and write the retrieval chain: averaged volumes to an embedding to a library sound."""
    listener = BoldListener(recipe.person, recipe.snr_db)

    def run(seconds: float, number: int) -> Run:
        sequence = stimulus_sequence(seed + number, seconds, clip_s=recipe.clip_s)
        return Run(listener.record(sequence.pcm, seed=seed + number), 1.0 / listener.tr_s, sequence)

    rng = np.random.default_rng([seed, 77])
    sounds = [
        make_stimulus(label, int(rng.integers(2**31)), 2.4)
        for label in LABELS
        for _ in range(library_per_class)
    ]
    embedding = MelStatistics.fit([sound.pcm for sound in sounds])
    vectors = np.array([embedding.embed(sound.pcm) for sound in sounds])
    fit = fit_retrieval(
        [run(recipe.train_s / 2.0, 3), run(recipe.train_s / 2.0, 4)],
        embedding=embedding,
        features=_BOLD_FEATURES,
        block_s=listener.tr_s,
        lags_s=tuple(np.arange(0.0, 9.1, 1.5).tolist()),
    )
    scores = score_retrieval(
        fit,
        run(recipe.test_s, 5),
        run(recipe.test_s, 7),
        library=vectors,
        labels=[sound.label for sound in sounds],
    )
    logger.info("fMRI: lag %.1f s, alpha %g, %s", fit.lag_s, fit.linear.alpha, scores)
    manifest = Manifest(
        name="demo-fmri",
        participant=f"simulated listener {recipe.person}",
        created=_CREATED,
        input=InputSpec("bold", listener.n_voxels, 1.0 / listener.tr_s, unit="a.u."),
        features=fit.features,
        standardise=fit.standardise,
        chain=RetrievalChain(EmbeddingSpec(MEL_STATISTICS_NAME, len(embedding.mean))),
        sound=SoundSpec(SAMPLE_RATE_HZ, listener.tr_s),
        fill_max_s=0.0,
        lag_s=fit.lag_s,
        scores=_scores(recipe, scores, fit.lag_scores, fit.linear.alpha, seed),
        software=_software(),
    )
    files: dict[str, bytes | Path] = {
        "decoder.onnx": linear_onnx(fit.linear.weights, fit.linear.bias, normalise=True),
        "standardise.npy": standardise_file(fit.mean, fit.std),
        **library_files(
            [LibrarySound(sound.name, sound.pcm, sound.label) for sound in sounds],
            vectors,
            sample_rate_hz=SAMPLE_RATE_HZ,
        ),
    }
    return save_bundle(out, manifest, files, overwrite=True)


def _scores(
    recipe: DemoRecipe,
    held_out: dict[str, float],
    lags: dict[float, float],
    alpha: float,
    seed: int,
) -> dict[str, object]:
    """Return the manifest's scores: rounded, so that a last bit does not change the digest."""
    return {
        "held_out": {key: round(value, 4) for key, value in held_out.items()},
        "cross_validated_r_by_lag_s": {f"{lag:g}": round(r, 4) for lag, r in lags.items()},
        "alpha": alpha,
        "seed": seed,
        "simulated": {
            "snr_db": recipe.snr_db,
            "clip_s": recipe.clip_s,
            "train_s": recipe.train_s,
            "test_s": recipe.test_s,
        },
    }


def _software() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "onnx")}
    return {"python": platform.python_version(), **versions}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the bundles; those with generated sound where there is a generator."""
    parser = argparse.ArgumentParser(
        prog="python -m calibration.make_demo_bundles",
        description="Make the bundles of `hearback demo` from a seed.",
        epilog="Try it:  python -m calibration.make_demo_bundles --out calibration/demo_bundles",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "demo_bundles")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--only", choices=_NAMES, action="append", help="may be given again")
    parser.add_argument(
        "--generator", type=Path, default=DEFAULT_GENERATOR, help="folder of an exported generator"
    )
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        check_onnx()  # before minutes of fitting
        chosen.out.mkdir(parents=True, exist_ok=True)
        names = chosen.only or _NAMES
        if "eeg" in names:
            make_eeg_bundle(chosen.out / "eeg", seed=chosen.seed)
        if "fmri" in names:
            make_bold_bundle(chosen.out / "fmri", seed=chosen.seed)
        # Of all, those that need a generator are left out where there is none.
        if not chosen.only and not (chosen.generator / "generator.json").is_file():
            names = ("eeg", "fmri")
        for name, chain in _GENERATED.items():
            if name in names:
                make_generated_bundle(
                    chosen.out / name,
                    seed=chosen.seed,
                    generator=generator_folder(chosen.generator),
                    chain=chain,
                    created=_CREATED,
                    software=_software(),
                )
    except HearbackError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
