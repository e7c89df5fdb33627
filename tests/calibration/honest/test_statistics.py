"""Permutation, false discovery, bootstrap and noise ceiling, against references and known truth."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calibration.honest.bootstrap import bootstrap_identification, bootstrap_mean
from calibration.honest.ceiling import (
    corrected_explainable_variance,
    explainable_variance,
    noise_ceiling,
    split_halves,
)
from calibration.honest.fdr import adjusted_p, significant
from calibration.honest.identify import score_if_own
from calibration.honest.permutation import (
    block_units,
    column_permutation_p,
    permute_units,
    phase_randomise,
)
from calibration.scores import identification
from models.errors import SettingError
from tests.calibration.honest.toy import make, music

Rows = NDArray[np.float64]


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.floats(0.0, 1.0)),
    st.sampled_from(("bh", "by")),
)
@settings(max_examples=60, deadline=None)
def test_adjusted_p_is_what_scipy_has(p: Rows, method: Literal["bh", "by"]) -> None:
    expected = scipy.stats.false_discovery_control(p, method=method)
    np.testing.assert_allclose(adjusted_p(p, method=method), expected, atol=1e-12)


def test_untested_voxels_do_not_count() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.5])
    np.testing.assert_allclose(adjusted_p(p), [0.03, np.nan, 0.06, 0.5])
    np.testing.assert_array_equal(significant(p), [True, False, False, False])
    assert adjusted_p(np.array([])).shape == (0,)
    with pytest.raises(SettingError, match="0 to 1"):
        adjusted_p(np.array([1.2]))
    with pytest.raises(SettingError, match="between 0 and 1"):
        significant(p, rate=0.0)


def test_false_discoveries_stay_below_the_rate_among_60000_voxels() -> None:
    rng = np.random.default_rng(0)
    shares, found = [], []
    for _ in range(20):
        z = rng.standard_normal(60_000)
        z[:6_000] += 3.0
        chosen = significant(scipy.stats.norm.sf(z), rate=0.05)
        shares.append(chosen[6_000:].sum() / max(chosen.sum(), 1))
        found.append(chosen[:6_000].mean())
    assert np.mean(shares) <= 0.06
    assert np.mean(found) > 0.5


def _autocorrelated(rng: np.random.Generator, shape: tuple[int, ...], rho: float) -> Rows:
    """AR(1) over the first axis, started long before."""
    noise = rng.standard_normal((shape[0] + 100, *shape[1:]))
    return np.asarray(scipy.signal.lfilter([1.0], [1.0, -rho], noise, axis=0)[100:])


def _p_of_nulls(blocks: NDArray[np.int64], n_nulls: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    x = _autocorrelated(rng, (len(blocks), n_nulls), 0.8)
    y = _autocorrelated(rng, (len(blocks), n_nulls), 0.8)
    p = np.empty(n_nulls)
    for part in range(0, n_nulls, 200):  # each part with permutations of its own
        some = slice(part, part + 200)
        p[some] = column_permutation_p(
            x[:, some], y[:, some], blocks=blocks, n_permutations=99, rng=rng
        )
    return p


def test_block_permutation_p_is_uniform_under_autocorrelated_noise_and_shuffled_tr_is_not() -> None:
    n, block = 400, 20
    by_block = _p_of_nulls(np.arange(n) // block, 1_000, seed=0)
    assert scipy.stats.kstest(by_block, "uniform").pvalue > 0.01
    by_tr = _p_of_nulls(np.arange(n), 1_000, seed=0)
    assert scipy.stats.kstest(by_tr, "uniform").pvalue < 1e-6
    assert np.mean(by_tr < 0.05) > 0.1  # the danger: twice as many false alarms as stated


def test_column_permutation_finds_signal_and_never_gives_zero() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((200, 3))
    x = y + np.array([0.5, 100.0, 1.0]) * rng.standard_normal((200, 3))
    y[:, 2] = 1.0  # constant
    p = column_permutation_p(x, y, blocks=np.arange(200) // 10, n_permutations=99, rng=rng)
    assert p[0] == 0.01
    assert p[1] > 0.01
    assert p[2] == 1.0


def test_permuted_clips_are_the_identification_of_reordered_targets() -> None:
    rng = np.random.default_rng(0)
    similarity = np.round(rng.standard_normal((9, 9)), 1)  # with ties
    own = np.arange(9)
    test = permute_units(
        score_if_own(similarity), own, n_permutations=500, rng=np.random.default_rng(1)
    )
    order = np.random.default_rng(1).permutation(9)
    direct = identification(similarity, own=order[own]).ties_half
    assert test.null[0] == pytest.approx(direct, abs=1e-12)
    observed = identification(similarity).ties_half
    assert test.p == (1 + np.sum(test.null >= observed - 1e-12)) / 501


def test_permutation_p_of_identification_is_uniform_without_signal() -> None:
    p = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        similarity = rng.standard_normal((15, 15)) + rng.standard_normal(15)  # hubs
        test = permute_units(score_if_own(similarity), np.arange(15), n_permutations=199, rng=rng)
        p.append(test.p)
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01


@given(n=st.integers(2, 41), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_phase_randomised_rows_keep_spectra_and_cross_spectra(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 3))
    other = phase_randomise(rows, rng=rng)
    before, after = np.fft.rfft(rows, axis=0), np.fft.rfft(other, axis=0)
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-9)
    np.testing.assert_allclose(
        after[:, 0] * after[:, 1].conj(), before[:, 0] * before[:, 1].conj(), atol=1e-9
    )
    np.testing.assert_allclose(other.mean(axis=0), rows.mean(axis=0), atol=1e-12)


def test_long_clips_are_cut_into_blocks_and_a_short_rest_joins_the_last() -> None:
    start = np.arange(17) * 2.0  # 34 s: three blocks of 10 s and a rest of 4 s
    samples = make(
        np.zeros((17, 1)), np.zeros((17, 1)), clip=np.full(17, "story"), start_s=start, window_s=2.0
    )
    units = block_units(samples, block_s=10.0)
    assert [int(np.sum(units == f"story#{k:05d}")) for k in range(3)] == [5, 5, 7]
    with pytest.raises(SettingError, match="positive length"):
        block_units(samples, block_s=0.0)


def test_bootstrap_error_of_identification_is_what_new_experiments_would_scatter() -> None:
    n, d, scores, errors = 40, 12, [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = rng.standard_normal((n, d))
        p = y + 2.0 * rng.standard_normal((n, d))
        similarity = p @ y.T
        own = np.arange(n)
        scores.append(identification(similarity).ties_half)
        spread = bootstrap_identification(similarity, own, n_resamples=200, rng=rng)
        assert spread.low < scores[-1] < spread.high
        errors.append(spread.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(scores), rel=0.2)


def test_bootstrap_of_a_mean_resamples_clips_not_windows() -> None:
    rng = np.random.default_rng(0)
    clips = np.repeat([f"c{k}" for k in range(30)], 10)
    values = np.repeat(rng.standard_normal(30), 10)  # windows of a clip are all the same
    spread = bootstrap_mean(values, clips, n_resamples=4_000, rng=rng)
    assert spread.standard_error == pytest.approx(values[::10].std() / np.sqrt(30), rel=0.05)
    with pytest.raises(SettingError, match="at least 2 clips"):
        bootstrap_mean(values[:10], clips[:10], n_resamples=10, rng=rng)


def _responses(
    ceiling: float, n_repetitions: int, rng: np.random.Generator, *, shape: tuple[int, int]
) -> Rows:
    """Signal and noise such that r of the mean with the signal is `ceiling`."""
    signal_var = ceiling**2
    noise_var = (1.0 - ceiling**2) * n_repetitions
    signal = np.sqrt(signal_var) * rng.standard_normal((shape[0], 1, shape[1]))
    noise = rng.standard_normal((shape[0], n_repetitions, shape[1]))
    return np.asarray(signal + np.sqrt(noise_var) * noise)


@pytest.mark.parametrize("n_repetitions", [2, 3, 4, 8])
@pytest.mark.parametrize("ceiling", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_noise_ceiling_has_no_bias(n_repetitions: int, ceiling: float) -> None:
    rng = np.random.default_rng(int(100 * ceiling) + n_repetitions)
    # 60 test clips of 10 TR each, as in ds003720; voxels of one region together.
    found = noise_ceiling(_responses(ceiling, n_repetitions, rng, shape=(600, 1_000)))
    assert abs(found.pooled() - ceiling) <= 0.02
    if ceiling >= 0.5:  # below, single voxels scatter too much for the mean of their roots
        assert abs(float(np.mean(found.correlation)) - ceiling) <= 0.02
    assert float(np.mean(found.signal_var)) == pytest.approx(ceiling**2, abs=0.01)
    single = ceiling / np.sqrt(ceiling**2 + (1.0 - ceiling**2) * n_repetitions)
    assert abs(float(found.pooled(np.arange(1_000))) - ceiling) <= 0.02
    if ceiling >= 0.5:
        assert abs(float(np.mean(found.single)) - single) <= 0.02


def test_the_ceiling_is_what_the_true_signal_reaches() -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((3_000, 1, 1))
    responses = signal + 1.5 * rng.standard_normal((3_000, 4, 1))
    reached = np.corrcoef(signal[:, 0, 0], responses.mean(axis=1)[:, 0])[0, 1]
    assert noise_ceiling(responses).correlation[0] == pytest.approx(reached, abs=0.02)


@pytest.mark.parametrize("n_repetitions", [2, 3, 4, 8])
def test_without_signal_the_ceiling_is_near_zero_and_never_nan(n_repetitions: int) -> None:
    rng = np.random.default_rng(n_repetitions)
    noise = rng.standard_normal((600, n_repetitions, 500))
    found = noise_ceiling(noise)
    assert np.isfinite(found.correlation).all()
    assert found.pooled() < 0.1
    assert abs(float(np.mean(corrected_explainable_variance(noise)))) < 0.002
    flat = noise_ceiling(np.zeros((5, n_repetitions, 2)))
    np.testing.assert_array_equal(flat.correlation, 0.0)
    np.testing.assert_array_equal(explainable_variance(np.zeros((5, n_repetitions, 2))), 0.0)


def test_explainable_variance_is_corrected_for_the_number_of_repetitions() -> None:
    rng = np.random.default_rng(0)
    responses = _responses(0.6, 3, rng, shape=(2_000, 200))
    share = 0.36 / (0.36 + 0.64 * 3)  # signal in the variance of one repetition
    assert float(np.mean(corrected_explainable_variance(responses))) == pytest.approx(
        share, abs=0.01
    )
    assert float(np.mean(explainable_variance(responses))) > share + 0.2


def test_missing_repetitions_are_left_out_of_the_ceiling() -> None:
    rng = np.random.default_rng(0)
    responses = _responses(0.7, 4, rng, shape=(4_000, 50))
    some = responses.copy()
    some[::2, 2:] = np.nan  # every second clip was heard twice, the others four times
    whole, part = noise_ceiling(responses), noise_ceiling(some)
    assert part.n_repetitions == pytest.approx(1.0 / np.mean([0.5, 0.25]))
    assert part.pooled() < whole.pooled()
    assert float(np.mean(part.noise_var)) == pytest.approx(
        float(np.mean(whole.noise_var)), rel=0.02
    )
    assert float(np.mean(part.signal_var)) == pytest.approx(0.49, abs=0.02)
    with pytest.raises(SettingError, match="Without repetitions there is no ceiling"):
        noise_ceiling(responses[:, :1])
    with pytest.raises(SettingError, match="repetitions, columns"):
        noise_ceiling(responses[:, 0])


def test_halves_hold_every_repetition_once() -> None:
    samples, _ = music(n_clips=4, n_windows=2)
    assert split_halves(samples) is None
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 3, 2)).astype(np.float32)
    x[0, 0] = np.nan  # heard twice: the second and third time
    x[1, 1:] = np.nan  # heard once
    many = make(x, samples.y, clip=samples.clip, start_s=samples.start_s)
    halves = split_halves(many)
    assert halves is not None
    even, odd = halves
    assert len(even) == len(odd) == 7
    np.testing.assert_array_equal(even.n_repetitions, [1, 2, 2, 2, 2, 2, 2])
    np.testing.assert_array_equal(odd.n_repetitions, np.ones(7))
    np.testing.assert_allclose(odd.mean_x()[1], x[2, 1], rtol=1e-6)
