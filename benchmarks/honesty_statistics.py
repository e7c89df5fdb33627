"""Ceilings, nulls, selection and leaks, where it is known that there is signal or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.honesty_figure import Figure, mean_and_error
from benchmarks.honesty_listener import TrueTargets
from calibration.data.samples import Samples
from calibration.honest.ceiling import noise_ceiling
from calibration.honest.leaks import detect_leaks
from calibration.honest.permutation import MIN_BLOCK_TR, column_permutation_p
from calibration.honest.splits import Family
from calibration.run_features import run_features
from calibration.simulate import (
    SimulationSettings,
    default_regions,
    simulate_runs,
    simulated_truth,
)
from calibration.simulate.runs import Part
from calibration.windows import make_samples
from models.spec import TrMeanSpec

__all__ = [
    "ceiling_has_no_bias",
    "leaks_are_found",
    "permutation_p_is_uniform",
    "selection_inside_folds_finds_nothing",
]

_FAMILIES: tuple[Family, ...] = ("random-chunk", "segment", "run", "song", "person")
_LEAKY = ("random-chunk", "segment")

# 60 test clips of 10 TR, one cycle of 30 in each run; no drift, which detrending is for.
_REPEATED = SimulationSettings(
    embedding="latent",
    timetable="short",
    clip_s=15.0,
    n_runs=(0, 2),
    n_test_clips=30,
    drift=0.0,
    regions=default_regions(n_uninformative=0, n_voxels=100),
    n_other_voxels=0,
)


def ceiling_has_no_bias(
    n_seeds: int,
    *,
    repetitions: Sequence[int] = (2, 3, 4, 8),
    snrs: Sequence[float] = (0.015, 0.1, 0.5),
) -> list[Figure]:
    """Estimate ceilings of single volumes from repetitions; the responses are known."""
    figures = []
    for times in repetitions:
        biases, told = [], []
        for snr in snrs:
            true, found = np.empty((2, n_seeds))
            for seed in range(n_seeds):
                settings = replace(_REPEATED, repetitions=times, snr=snr, seed=seed)
                true[seed], found[seed] = _ceilings(settings, times)
            bias, error = mean_and_error(found - true)
            biases.append(abs(bias))
            told.append(f"{true.mean():.2f}: {bias:+.3f} +- {error:.3f}")
        figures.append(
            Figure(
                "4 noise ceiling",
                f"{times} repetitions, 600 voxels pooled, by true ceiling of the mean (bias "
                f"{'; '.join(told)}); largest mean bias",
                f"{max(biases):.3f}",
                "<= 0.02",
                max(biases) <= 0.02,
            )
        )
    return figures


def _ceilings(settings: SimulationSettings, times: int) -> tuple[float, float]:
    """Return the true ceiling of the voxels together, and the estimate."""
    truth = simulated_truth(settings)

    def windows(part: Part) -> Samples:
        runs = simulate_runs(settings, part=part).runs
        volumes = run_features(runs, features=TrMeanSpec(window_s=settings.tr_s))
        return make_samples(volumes, lag_s=4.5, targets=TrueTargets(truth))

    response = windows("signal").mean_x().astype(np.float64).var(axis=0, ddof=1).sum()
    noise = float(np.trace(truth.noise_covariance(0))) / times
    found = noise_ceiling(windows("all").x).pooled()
    return float(np.sqrt(response / (response + noise))), found


def permutation_p_is_uniform(
    n_nulls: int = 1_000, *, block_tr: int = 2 * MIN_BLOCK_TR
) -> list[Figure]:
    """Correlate true responses with voxels that do not hear: p by blocks, and by single TR."""
    from scipy.stats import kstest

    settings = SimulationSettings(
        embedding="latent",
        n_runs=(1, 0),
        drift=0.0,
        smooth_share=0.0,  # each voxel's noise is its own, so that nulls are independent
        regions=default_regions(n_informative=1, n_uninformative=0, n_voxels=n_nulls),
        n_other_voxels=0,
    )
    response, noise = (
        simulate_runs(settings, part=part).runs[0].signal.astype(np.float64)
        for part in ("signal", "noise")
    )
    n = len(noise)

    def nulls(blocks: NDArray[np.int64]) -> NDArray[np.float64]:
        rng = np.random.default_rng(0)
        p = np.empty(n_nulls)
        for start in range(0, n_nulls, 100):  # each part with permutations of its own
            some = slice(start, start + 100)
            p[some] = column_permutation_p(
                response[:, some], noise[:, some], blocks=blocks, n_permutations=199, rng=rng
            )
        return p

    figures = []
    for name, blocks in (
        (f"blocks of {block_tr} TR", np.arange(n) // block_tr),
        ("single TR", np.arange(n)),
    ):
        p = nulls(blocks)
        ks = float(kstest(p, "uniform").pvalue)
        whole = name != "single TR"
        figures.append(
            Figure(
                "5 permutation p",
                f"{name}, {n_nulls} nulls (p < 0.05 in {np.mean(p < 0.05):.3f}); KS p",
                f"{ks:.2g}",
                "> 0.01" if whole else "fails: < 1e-6",
                ks > 0.01 if whole else ks < 1e-6,
            )
        )
    return figures


def selection_inside_folds_finds_nothing() -> list[Figure]:
    """Select 100 of 60,000 voxels of noise for each target, inside the folds and outside."""
    from tests.models.ridge.test_selected import noise_scores

    inside, outside = noise_scores(480, 60_000, 256, 100, 8)
    what = "r of pure noise, 480 windows x 60,000 voxels, 100 selected"
    return [
        Figure("6 selection", f"{what} inside the folds", f"{inside:+.4f}", "0 +- 0.01",
               abs(inside) < 0.01),
        Figure("6 selection", f"{what} before them", f"{outside:.3f}", "> 0.2", outside > 0.2),
    ]  # fmt: skip


def leaks_are_found(n_seeds: int = 50) -> list[Figure]:
    """Look for leaks where nothing was heard and recordings differ, and the other way round."""
    from tests.calibration.honest.toy import people_and_songs

    found, wrong, false = 0, 0, 0
    for seed in range(n_seeds):
        flagged = detect_leaks(
            people_and_songs(seed=seed, fingerprint=0.5), families=_FAMILIES, n_flips=4_999
        ).flagged
        found += set(_LEAKY) <= set(flagged)
        wrong += bool(set(flagged) - set(_LEAKY))
        heard = people_and_songs(seed=seed, fingerprint=0.0, signal=0.3)
        false += bool(detect_leaks(heard, families=_FAMILIES, n_flips=4_999).flagged)
    seeds = f"of {n_seeds} seeds"
    return [
        Figure("9 leaks", "no stimulus, fingerprints: random chunks and segments flagged",
               f"{found} {seeds}", "all", found == n_seeds),
        Figure("9 leaks", "no stimulus, fingerprints: run, song or person held out flagged",
               f"{wrong} {seeds}", "none", wrong == 0),
        Figure("9 leaks", "real signal, no fingerprints: anything flagged",
               f"{false} {seeds}", "none", false == 0),
    ]  # fmt: skip
