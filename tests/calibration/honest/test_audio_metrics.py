from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.honest.audio_metrics import (
    frechet_distance,
    frechet_report,
    kl_divergence,
    mel_pcc,
    mel_psnr,
    pairwise_identification,
    top_n_agreement,
    two_choice_sequence,
)
from models.errors import SettingError


def _frechet_by_eigenvalues(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """tr sqrt(S1 S2) from the eigenvalues of the symmetric sqrt(S1) S2 sqrt(S1)."""
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = scipy.linalg.eigh(s1)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    trace = np.sum(np.sqrt(np.maximum(scipy.linalg.eigvalsh(root @ s2 @ root), 0.0)))
    means = a.mean(axis=0) - b.mean(axis=0)
    return float(means @ means + np.trace(s1) + np.trace(s2) - 2.0 * trace)


@pytest.mark.parametrize(
    ("n", "m", "d"), [(200, 150, 10), (40, 60, 90), (30, 200, 64), (200, 30, 64), (5, 5, 5)]
)
def test_frechet_distance_is_the_eigenvalue_form_also_when_rank_deficient(
    n: int, m: int, d: int
) -> None:
    rng = np.random.default_rng(n + m + d)
    mix = rng.standard_normal((d, d))
    a, b = rng.standard_normal((n, d)) @ mix, 0.7 * rng.standard_normal((m, d)) @ mix + 0.3
    assert frechet_distance(a, b) == pytest.approx(_frechet_by_eigenvalues(a, b), rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)


def test_frechet_distance_is_the_matrix_square_root_form() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((300, 12)), 1.5 * rng.standard_normal((250, 12)) + 0.2
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(s1 @ s2))
    means = a.mean(axis=0) - b.mean(axis=0)
    expected = means @ means + np.trace(s1 + s2 - 2.0 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_same_sounds_have_no_distance() -> None:
    a = np.random.default_rng(0).standard_normal((60, 200))
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0.0, abs=1e-6)


def test_the_extrapolated_distance_is_less_biased_than_the_plain_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((300, 40)), rng.standard_normal((300, 40))  # truly the same
    report = frechet_report(a, b, rng=rng)
    assert report.distance > 2.0
    assert abs(report.infinite) < 0.3 * report.distance
    assert report.floor > report.distance  # half of the sounds: twice the bias
    assert (report.n_true, report.n_made) == (300, 300)


def test_frechet_distance_refuses_what_it_cannot_compare() -> None:
    a = np.ones((4, 3))
    with pytest.raises(SettingError, match="one width"):
        frechet_distance(a, np.ones((4, 2)))
    with pytest.raises(SettingError, match="at least 2 rows"):
        frechet_distance(a[:1], a)
    with pytest.raises(SettingError, match="1 that are not finite"):
        frechet_distance(np.array([[1.0, np.nan], [0.0, 1.0]]), np.ones((4, 2)))
    with pytest.raises(SettingError, match="4 sounds"):
        frechet_report(a[:3], a, rng=np.random.default_rng(0))


def test_mel_scores_by_hand() -> None:
    true = np.array([[0.0, 1.0], [2.0, 3.0]])
    made = np.array([[0.0, 2.0], [4.0, 6.0]])
    assert mel_pcc(true, made) == pytest.approx(1.0, abs=1e-12)
    assert mel_pcc(true, np.full((2, 2), 7.0)) == 0.0
    # squared errors 0, 1, 4, 9: mean 3.5; 10 log10(16 / 3.5)
    assert mel_psnr(true, made, data_range=4.0) == pytest.approx(10.0 * math.log10(16.0 / 3.5))
    assert mel_psnr(true, true, data_range=4.0) == math.inf
    with pytest.raises(SettingError, match="same two-dimensional shape"):
        mel_psnr(true, made[:1], data_range=4.0)
    with pytest.raises(SettingError, match="above 0"):
        mel_psnr(true, made, data_range=0.0)


def test_kl_of_softmax_by_hand() -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    expected = 0.5 * math.log(2.0) - 0.25 * math.log(2.0)
    found = kl_divergence(np.log(p)[None], np.log(q)[None] + 3.0, epsilon=0.0)
    assert found == pytest.approx(expected, abs=1e-12)
    assert kl_divergence(np.log(p)[None], np.log(p)[None]) == pytest.approx(0.0, abs=1e-12)


def test_kl_of_sigmoid_by_hand() -> None:
    # Probabilities .8 and .5 of one class, .5 and .5 of another.
    a, b = np.array([[math.log(4.0), 0.0]]), np.zeros((1, 2))
    expected = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    found = kl_divergence(a, b, kind="sigmoid", epsilon=0.0)
    assert found == pytest.approx(expected, abs=1e-12)


def test_kl_stays_finite_for_certain_classes() -> None:
    a, b = np.array([[900.0, -900.0]]), np.array([[-900.0, 900.0]])
    for kind in ("softmax", "sigmoid"):
        assert np.isfinite(kl_divergence(a, b, kind=kind))


def test_top_n_agreement_by_hand() -> None:
    a = np.array([[0.9, 0.8, 0.1, 0.0], [0.9, 0.8, 0.1, 0.0]])
    b = np.array([[0.9, 0.1, 0.8, 0.0], [0.9, 0.8, 0.1, 0.0]])
    # First pair shares one of three classes, the second both of two.
    assert top_n_agreement(a, b, classes=range(4), n=2) == pytest.approx((1 / 3 + 1) / 2)
    assert top_n_agreement(a, b, classes=[1, 2], n=1) == 0.5
    assert top_n_agreement(a, b, classes=[1, 2], n=2) == 1.0
    with pytest.raises(SettingError, match="Top 3 needs"):
        top_n_agreement(a, b, classes=[1, 2], n=3)


def test_pairwise_identification_leaves_dead_candidates_out() -> None:
    rng = np.random.default_rng(0)
    p, c = rng.standard_normal((3, 8)), rng.standard_normal((6, 8))
    r = np.array([[np.corrcoef(x, y)[0, 1] for y in c] for x in p])
    expected = [np.mean([r[i, i] > r[i, j] for j in range(6) if j != i]) for i in range(3)]
    np.testing.assert_allclose(pairwise_identification(p, c), expected)
    c[4] = np.nan
    c[5] = 1.0
    kept = [np.mean([r[i, i] > r[i, j] for j in range(4) if j != i]) for i in range(3)]
    np.testing.assert_allclose(pairwise_identification(p, c), kept)
    p[1] = 0.0
    assert np.isnan(pairwise_identification(p, c)[1])
    with pytest.raises(SettingError, match="a target for every prediction"):
        pairwise_identification(c, p)


@given(half=st.integers(1, 40), catch=st.integers(0, 5), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_listener_who_always_answers_first_scores_half(half: int, catch: int, seed: int) -> None:
    position, is_catch = two_choice_sequence(
        2 * half, n_catch=2 * catch, rng=np.random.default_rng(seed)
    )
    again, _ = two_choice_sequence(2 * half, n_catch=2 * catch, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(position, again)
    assert np.mean(position[~is_catch] == 0) == 0.5
    assert int(is_catch.sum()) == 2 * catch
    if catch:
        assert np.mean(position[is_catch] == 0) == 0.5


def test_an_odd_number_of_trials_cannot_be_balanced() -> None:
    with pytest.raises(SettingError, match="even number of trials"):
        two_choice_sequence(7, rng=np.random.default_rng(0))
