from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.honest.splits import (
    FAMILIES,
    Family,
    given_split,
    make_splits,
    run_groups,
    song_of,
    trial_of,
)
from models.errors import SettingError
from tests.calibration.honest.toy import make, music, people_and_songs

_HONEST: tuple[Family, ...] = ("clip", "run", "session", "person", "song", "both")


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "given"])
def test_every_window_is_tested_exactly_once(family: Family) -> None:
    samples = people_and_songs(seed=0, n_people=4, n_songs=5, n_chunks=6)
    splits = make_splits(samples, family, n_folds=3)
    tested = np.concatenate([split.test for split in splits])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(samples)))
    for split in splits:
        assert not set(split.train) & set(split.test)
        assert len(split.train)
        assert split.family == family
        assert split.leaky == (family in ("segment", "random-chunk"))
        assert split.leaky == split.why.startswith("Leaky")


@pytest.mark.parametrize("family", _HONEST)
def test_no_group_is_on_both_sides(family: Family) -> None:
    samples = people_and_songs(seed=0, n_people=4, n_songs=5, n_chunks=6)
    columns = {
        "clip": [samples.clip],
        "run": [run_groups(samples)],
        "session": [run_groups(samples, sessions=True)],
        "person": [samples.person],
        "song": [song_of(samples)],
        "both": [samples.person, song_of(samples)],
    }[family]
    for split in make_splits(samples, family, n_folds=3):
        for column in columns:
            assert not set(column[split.train]) & set(column[split.test])


def test_random_chunks_put_every_trial_on_both_sides_and_say_so() -> None:
    samples = people_and_songs(seed=0, n_people=3, n_songs=3, n_chunks=20)
    trial = trial_of(samples)
    for family in ("random-chunk", "segment"):
        split = make_splits(samples, family, n_folds=4)[0]
        assert set(trial[split.test]) <= set(trial[split.train])
        assert split.describe()["leaky"] is True


def test_segments_are_contiguous_and_training_keeps_clear_of_them() -> None:
    n = 20
    start = np.arange(n) * 1.0
    samples = make(  # windows of 2.5 s every second: neighbours overlap
        np.zeros((n, 2)), np.zeros((n, 2)), clip=np.full(n, "a"), start_s=start, window_s=2.5
    )
    for split in make_splits(samples, "segment", n_folds=4):
        assert np.all(np.diff(split.test) == 1)
        low, high = start[split.test].min(), start[split.test].max() + 2.5
        assert np.all((start[split.train] + 2.5 <= low) | (start[split.train] >= high))


def test_repetitions_in_several_runs_keep_these_runs_on_one_side() -> None:
    n = 6
    run = np.array(
        [["r1", "r2"], ["r1", "r2"], ["r2", "r3"], ["r4", "r5"], ["r4", "r5"], ["r6", "r6"]]
    )
    samples = make(
        np.random.default_rng(0).standard_normal((n, 2, 3)),
        np.zeros((n, 2)),
        clip=np.array(list("abcdef")),
        run=run,
    )
    groups = run_groups(samples)
    assert len(set(groups[:3])) == 1
    assert len(set(groups[3:5])) == 1
    assert len(set(groups)) == 3
    for split in make_splits(samples, "run", n_folds=3):
        runs = [set(run[rows].ravel()) for rows in (split.train, split.test)]
        assert not runs[0] & runs[1]


def test_a_missing_repetition_ties_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((2, 2, 3))
    x[0, 1] = np.nan
    samples = make(
        x, np.zeros((2, 2)), clip=np.array(["a", "b"]), run=np.array([["r1", "r2"], ["r2", "r3"]])
    )
    assert len(set(run_groups(samples))) == 2


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("person", "at least 2 people, got 1 \\('p1'\\)"),
        ("session", "at least 2 sessions"),
        ("both", "at least 2 people"),
        ("nonsense", "Unknown split 'nonsense'"),
        ("given", "Unknown split"),
    ],
)
def test_an_impossible_split_is_refused_with_the_reason(family: str, said: str) -> None:
    samples, _ = music(n_clips=4)
    with pytest.raises(SettingError, match=said):
        make_splits(samples, family)  # type: ignore[arg-type]


def test_one_clip_or_single_windows_cannot_be_divided() -> None:
    one = make(np.zeros((3, 2)), np.zeros((3, 2)), clip=np.full(3, "a"))
    with pytest.raises(SettingError, match="at least 2 clips, got 1"):
        make_splits(one, "clip")
    single = make(np.zeros((3, 2)), np.zeros((3, 2)), clip=np.array(["a", "b", "c"]))
    with pytest.raises(SettingError, match="at least 2 windows, got 1 window in each"):
        make_splits(single, "segment")
    with pytest.raises(SettingError, match="at least 2 folds"):
        make_splits(single, "clip", n_folds=1)
    with pytest.raises(SettingError, match="at least 2 windows"):
        make_splits(single.take(np.array([0])), "clip")


def test_people_who_heard_only_their_own_songs_cannot_be_held_out_with_them() -> None:
    samples = make(
        np.zeros((4, 2)),
        np.zeros((4, 2)),
        clip=np.array(["a", "b", "a", "b"]),
        person=np.array(["p1", "p1", "p2", "p2"]),
    )
    keep = samples.take(np.array([0, 3, 2]))  # p1: a; p2: b and a
    with pytest.raises(SettingError, match="who heard other songs"):
        make_splits(keep, "both")


def test_a_given_split_leaks_if_a_person_heard_a_clip_on_both_sides() -> None:
    samples, _ = music(n_clips=4, n_windows=3)
    clean = given_split(samples, samples.clip == "c001")
    assert not clean.leaky
    assert clean.held_out == ("c001",)
    half = np.arange(len(samples)) % 3 == 0
    leaky = given_split(samples, half)
    assert leaky.leaky
    assert "'p1/c000' among them" in leaky.why
    with pytest.raises(SettingError, match="both training and test"):
        given_split(samples, np.ones(len(samples), bool))


def test_without_a_seed_neighbours_in_time_stay_together_and_a_seed_repeats() -> None:
    samples, _ = music(n_clips=20, n_windows=2)
    held = [split.held_out for split in make_splits(samples, "clip", n_folds=4)]
    assert held[0] == ("c000", "c001", "c002", "c003", "c004")
    dealt = [split.held_out for split in make_splits(samples, "clip", n_folds=4, seed=1)]
    again = [split.held_out for split in make_splits(samples, "clip", n_folds=4, seed=1)]
    assert dealt == again
    assert dealt != held


@given(seed=st.integers(0, 1000), n_folds=st.integers(2, 12))
@settings(max_examples=20, deadline=None)
def test_folds_are_about_equally_large(seed: int, n_folds: int) -> None:
    samples, _ = music(n_clips=11, n_windows=2)
    sizes = [len(split.test) for split in make_splits(samples, "clip", n_folds=n_folds, seed=seed)]
    assert len(sizes) == min(n_folds, 11)
    assert max(sizes) - min(sizes) <= 2  # one clip of two windows
