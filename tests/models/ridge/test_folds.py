"""Folds never split a group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SettingError
from models.ridge.folds import fold_numbers, group_folds, make_folds


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), min_size=4, max_size=80),
    n_folds=st.integers(2, 6),
    together=st.booleans(),
)
def test_no_group_is_on_both_sides(labels: list[int], n_folds: int, together: bool) -> None:
    groups = np.array(labels)
    if n_folds > len(set(labels)):
        with pytest.raises(SettingError, match="folds"):
            group_folds(len(groups), n_folds, groups=groups, neighbours_together=together)
        return
    folds = group_folds(len(groups), n_folds, groups=groups, neighbours_together=together)
    held_out = np.concatenate([test for _, test in folds])
    assert sorted(held_out) == list(range(len(groups)))
    for train, test in folds:
        assert len(train) + len(test) == len(groups)
        assert len(test) > 0
        assert not set(groups[train]) & set(groups[test])


def test_without_groups_folds_are_blocks_of_time() -> None:
    folds = group_folds(10, 3)
    assert [test.tolist() for _, test in folds] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_neighbouring_groups_stay_together_in_the_order_in_which_they_come() -> None:
    groups = np.repeat(["run-9", "run-10", "run-2", "run-11"], [3, 1, 4, 2])
    fold = fold_numbers(10, 2, groups=groups, neighbours_together=True)
    np.testing.assert_array_equal(fold, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1])


def test_groups_dealt_out_by_size_make_folds_of_equal_size() -> None:
    groups = np.repeat(np.arange(6), [8, 7, 6, 3, 2, 1])
    counts = np.bincount(fold_numbers(27, 3, groups=groups))
    assert counts.tolist() == [9, 9, 9]


def test_folds_may_be_a_number_pairs_masks_or_a_splitter() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    expected = group_folds(12, 3)
    mask = [(~np.isin(np.arange(12), test), np.isin(np.arange(12), test)) for _, test in expected]
    for cv in (3, expected, iter(expected), mask, selection.KFold(3)):
        for ours, theirs in zip(make_folds(cv, 12), expected, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])


@pytest.mark.parametrize(
    ("cv", "groups", "says"),
    [
        (1, None, "2 to 6 folds"),
        (7, None, "2 to 6 folds"),
        ("five", None, "Expected cv"),
        ([], None, "at least one"),
        ([([0, 1], [])], None, "no training or no held-out"),
        ([([0, 1], [1, 2])], None, "also trains on"),
        ([([0, 1], [9])], None, "outside 0 to 5"),
        ([([0, 1, 2], [3, 4, 5])], [0, 0, 1, 1, 2, 2], "one group on both sides"),
        (2, [0, 1], "group label"),
    ],
)
def test_unusable_folds_are_refused(cv: Any, groups: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        make_folds(cv, 6, groups=groups)
