from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.scores import (
    area_under_curve,
    correlations,
    identification,
    null_scores,
    permutation_p,
    permute_blocks,
    shuffled_identification,
)
from models.errors import SettingError


def test_identification_is_the_printed_formula() -> None:
    c = np.random.default_rng(0).standard_normal((7, 7))
    expected = np.mean([np.mean([c[i, i] > c[i, j] for j in range(7) if j != i]) for i in range(7)])
    result = identification(c)
    assert result.strict == pytest.approx(expected, abs=1e-15)
    assert result.ties_half == pytest.approx(expected, abs=1e-15)


def test_ties_lose_when_strict_and_count_half_otherwise() -> None:
    result = identification(np.zeros((5, 5)))
    assert result.strict == 0.0
    assert result.ties_half == 0.5


def test_own_columns_and_candidates_choose_what_is_held_against_a_prediction() -> None:
    c = np.random.default_rng(0).standard_normal((4, 9))
    own = np.array([2, 0, 8, 2])
    candidates = np.random.default_rng(1).random((4, 9)) < 0.6
    candidates[:, :2] = True
    expected = [
        np.mean([c[i, own[i]] > c[i, j] for j in range(9) if j != own[i] and candidates[i, j]])
        for i in range(4)
    ]
    result = identification(c, own=own, candidates=candidates)
    np.testing.assert_allclose(result.each, expected)
    assert result.strict == pytest.approx(np.mean(expected))
    lonely = candidates.copy()
    lonely[3] = False
    with pytest.raises(SettingError, match="1 of 4 have none"):
        identification(c, own=own, candidates=lonely)


def test_identification_refuses_what_it_cannot_score() -> None:
    with pytest.raises(SettingError, match="square"):
        identification(np.zeros((3, 4)))
    with pytest.raises(SettingError, match="with 1 NaN"):
        identification(np.array([[1.0, np.nan], [0.0, 1.0]]))


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 100.0), offset=st.floats(-50.0, 50.0))
@settings(max_examples=25, deadline=None)
def test_identification_ignores_order_scale_and_offset(
    seed: int, scale: float, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    p, t = rng.standard_normal((6, 20)), rng.standard_normal((6, 20))
    order = rng.permutation(20)
    plain = identification(correlations(p, t))
    changed = identification(correlations(scale * p[:, order] + offset, t[:, order]))
    assert plain.ties_half == changed.ties_half


def test_correlations_equal_numpy_and_a_constant_row_correlates_with_nothing() -> None:
    rng = np.random.default_rng(1)
    p, t = rng.standard_normal((4, 9)), rng.standard_normal((5, 9))
    np.testing.assert_allclose(correlations(p, t), np.corrcoef(p, t)[:4, 4:], atol=1e-12)
    p[2] = 3.0
    assert np.all(correlations(p, t)[2] == 0.0)


def test_shuffled_identification_is_centred_on_chance_and_equals_the_direct_way() -> None:
    c = np.random.default_rng(2).standard_normal((12, 12))
    null = shuffled_identification(c, n_permutations=2000, seed=3)
    assert abs(null.mean() - 0.5) < 4 * null.std() / np.sqrt(2000)
    order = np.random.default_rng(3).permutation(12)
    # Prediction i against target order[i]: the same as reordering the columns.
    assert null[0] == pytest.approx(identification(c[:, order]).ties_half, abs=1e-12)


def test_permutation_p_is_never_zero() -> None:
    assert permutation_p(2.0, [0.0, 1.0, 1.5]) == 0.25
    assert permutation_p(1.0, [0.0, 1.0, 1.5]) == 0.75


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_auc_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, 30).astype(float)
    positive = np.arange(30) < rng.integers(1, 30)
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a in scores[positive]
        for b in scores[~positive]
    ]
    assert area_under_curve(scores, positive) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_needs_both_classes() -> None:
    with pytest.raises(SettingError, match="both classes"):
        area_under_curve(np.zeros(3), np.ones(3, bool))


def test_blocks_move_whole_and_only_within_their_session() -> None:
    groups = np.repeat([4, 7, 5, 9], 3)
    within = np.repeat([0, 0, 1, 1], 3)
    for seed in range(10):
        order = permute_blocks(groups, rng=np.random.default_rng(seed), within=within)
        assert sorted(order) == list(range(12))
        assert np.all(order.reshape(4, 3) == order.reshape(4, 3)[:, :1] + np.arange(3))
        assert set(order[:6]) == set(range(6))


def test_shuffling_neighbouring_rows_one_by_one_makes_too_narrow_a_null() -> None:
    # Scores that are constant within a clip: a null of single rows is far narrower than it is.
    rng = np.random.default_rng(0)
    x, y = (np.repeat(rng.standard_normal(20), 10) for _ in range(2))

    def score(order: np.ndarray) -> float:
        return float(np.corrcoef(x[order], y)[0, 1])

    clips = null_scores(score, np.repeat(np.arange(20), 10), n_permutations=300, seed=1)
    rows = null_scores(score, np.arange(200), n_permutations=300, seed=1)
    assert clips.std() > 2.0 * rows.std()
