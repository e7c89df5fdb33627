"""The timetables: the published order, and what each promises."""

from __future__ import annotations

import csv
from collections import Counter
from itertools import pairwise

import pytest

from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import (
    DS003720_GENRES,
    DS003720_TEST,
    DS003720_TRAINING,
    GENRE_CLASSES,
    plan_runs,
)
from calibration.stimuli import LABELS
from tests.data import shared


def test_the_published_counts_are_met() -> None:
    runs = plan_runs(SimulationSettings())
    train = [run for run in runs if run.part == "train"]
    test = [run for run in runs if run.part == "test"]
    assert (len(train), len(test)) == (12, 6)
    assert all(len(run.presentations) == 41 for run in runs)
    assert all(run.n_volumes(1.5) == 410 for run in runs)
    used = Counter(i.clip for run in train for i in run.presentations if not i.dummy)
    assert len(used) == 480
    assert set(used.values()) == {1}
    assert set(Counter(clip.label for clip in used).values()) == {48}
    heard = Counter(i.clip for run in test for i in run.presentations if not i.dummy)
    assert len(heard) == 60
    assert set(heard.values()) == {4}
    assert not set(heard) & set(used)


def test_the_first_row_repeats_what_the_published_runs_repeat() -> None:
    runs = plan_runs(SimulationSettings())
    train = [run for run in runs if run.part == "train"]
    for k, run in enumerate(train):
        assert run.presentations[0].dummy
        assert run.presentations[0].clip == train[k - 1].presentations[-1].clip
    for run in (run for run in runs if run.part == "test"):
        assert run.presentations[0].clip == run.presentations[-1].clip
        cycle = [item.clip for item in run.presentations[1:11]]
        assert [item.clip for item in run.presentations[1:]] == cycle * 4


@pytest.mark.data
def test_the_constants_are_those_of_the_real_events_files() -> None:
    folder = shared("meta_ds003720_music_genre_fmri")
    for person in range(1, 6):
        for task, orders in (("Training", DS003720_TRAINING), ("Test", DS003720_TEST)):
            for number, order in enumerate(orders, start=1):
                name = f"sub-{person:03d}_task-{task}_run-{number:02d}_events.tsv"
                with (folder / f"sub-{person:03d}" / "func" / name).open() as file:
                    rows = list(csv.DictReader(file, delimiter="\t"))
                genres = [DS003720_GENRES[int(c)] for c in order]
                if task == "Test":
                    genres *= 4
                assert [row["genre"].strip("'") for row in rows[1:]] == genres
                assert [float(row["onset"]) for row in rows] == [15.0 * k for k in range(41)]
                if task == "Training":
                    before = orders[number - 2][-1]
                    assert rows[0]["genre"].strip("'") == DS003720_GENRES[int(before)]
                else:
                    assert rows[0] | {"onset": ""} == rows[-1] | {"onset": ""}


def test_more_and_fewer_runs_keep_the_order_and_never_share_clips() -> None:
    long = plan_runs(SimulationSettings(n_runs=(30, 7)))
    used = Counter(
        i.clip for run in long if run.part == "train" for i in run.presentations if not i.dummy
    )
    assert len(used) == 30 * 40
    labels = [i.clip.label for i in long[12].presentations[1:]]
    assert labels == [i.clip.label for i in long[0].presentations[1:]]
    short = plan_runs(SimulationSettings(n_runs=(2, 0)))
    assert short[0].presentations[0].clip == short[1].presentations[-1].clip


def test_the_short_timetable_repeats_its_test_clips_in_one_cycle_and_rests_at_the_end() -> None:
    settings = SimulationSettings(timetable="short", n_test_clips=5, repetitions=3, clips_per_run=7)
    runs = plan_runs(settings)
    for run in runs:
        last = run.presentations[-1]
        assert run.duration_s == last.onset_s + last.clip.duration_s + 9.0
        labels = [item.clip.label for item in run.presentations]
        assert all(a != b for a, b in pairwise(labels))
        clips = [item.clip for item in run.presentations]
        assert clips == clips[:5] * 3 if run.part == "test" else len(set(clips)) == 7


def test_songs_are_heard_once_in_runs_of_their_own() -> None:
    runs = plan_runs(SimulationSettings(modality="eeg", timetable="songs"))
    assert len(runs) == 10
    assert {len(run.presentations) for run in runs} == {1}
    assert {run.part for run in runs} == {""}


def test_sessions_share_the_runs_and_names_are_unique_within_one() -> None:
    runs = plan_runs(SimulationSettings(n_sessions=3))
    assert {run.session for run in runs} == {"ses-01", "ses-02", "ses-03"}
    assert len({(run.session, run.run) for run in runs}) == 18
    assert {run.session for run in plan_runs(SimulationSettings())} == {""}


def test_sounds_of_two_seeds_differ() -> None:
    a, b = (plan_runs(SimulationSettings(seed=seed))[0].clips for seed in (0, 1))
    assert {c.id for c in a} == {c.id for c in b}
    assert not {c.seed for c in a} & {c.seed for c in b}


def test_each_genre_stands_for_a_class_of_its_own() -> None:
    assert len(set(GENRE_CLASSES)) == len(DS003720_GENRES) == 10
    assert set(GENRE_CLASSES) <= set(LABELS)
