from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.data.dataset import Stimulus
from calibration.readers.events import (
    Presented,
    choose_markers,
    marker_events,
    table_events,
    timed,
)
from calibration.readers.options import ReadOptions, part_of, wanted
from calibration.readers.stimuli import StimulusFiles
from models.errors import FileError, SettingError
from stream.recordings import RecordedMarkers
from tests.calibration.readers.layouts import events_text, write_sound


def markers(*pairs: tuple[float, str], name: str = "m") -> RecordedMarkers:
    return RecordedMarkers(name, np.array([t for t, _ in pairs]), tuple(x for _, x in pairs))


def read(series: RecordedMarkers, options: ReadOptions | None = None) -> list[tuple[object, ...]]:
    events, _ = marker_events(
        series, options or ReadOptions(), StimulusFiles(), start_s=100.0, stop_s=160.0
    )
    return [(e.onset_s, e.duration_s, e.stimulus, e.label) for e in events]


def test_texts_are_stimulus_and_class_and_last_until_the_next() -> None:
    assert read(markers((110, "a"), (120, "b"), (125, "a"))) == [
        (10, 10, "a", "a"),
        (20, 5, "b", "b"),
        (25, 10, "a", "a"),  # as long as the longest before it, not to the end of the recording
    ]
    assert read(markers((110, "a"))) == [(10, 50, "a", "a")]
    assert read(markers((110, "a"), (112, "b")), ReadOptions(event_duration_s=0.5)) == [
        (10, 0.5, "a", "a"),
        (12, 0.5, "b", "b"),
    ]


def test_json_demo_and_paired_markers_are_understood() -> None:
    series = markers(
        (101, json.dumps({"stimulus": "s1", "label": "rain", "duration_s": 3})),
        (105, json.dumps({"id": "s2", "class": "wind"})),
        (107, json.dumps({"event": "stop"})),
        (110, "piano piano-00003"),
        (113, "block-start"),
        (119, "block-end"),
        (130, "{no json"),
    )
    assert read(series)[:5] == [
        (1, 3, "s1", "rain"),
        (5, 2, "s2", "wind"),
        (10, 3, "piano-00003", "piano"),
        (13, 6, "block", "block"),
        (30, 6, "{no json", "{no json"),
    ]
    # An end without a beginning is a text like any other.
    assert read(markers((110, "week-end"))) == [(10, 50, "week-end", "week-end")]


def test_only_markers_in_the_map_count() -> None:
    options = ReadOptions(marker_labels={"7": "tone", "piano": "music"}, event_duration_s=1.0)
    series = markers((101, "7"), (102, "space bar"), (103, "piano piano-00001"))
    assert [(e[2], e[3]) for e in read(series, options)] == [
        ("7", "tone"),
        ("piano-00001", "music"),
    ]


def test_our_own_events_are_no_stimuli_and_several_series_need_a_word() -> None:
    ours = markers((1, '{"kind": "gap"}'), name="hearback events")
    a, b = markers((1, "x"), name="a"), markers((1, "y"), name="b")
    assert choose_markers([ours], ReadOptions(), what="r") is None
    assert choose_markers([ours, a], ReadOptions(), what="r") is a
    assert choose_markers([a, b], ReadOptions(markers="b"), what="r") is b
    with pytest.raises(SettingError, match="r has 2 series of markers: 'a'"):
        choose_markers([a, b], ReadOptions(), what="r")
    with pytest.raises(SettingError, match="no markers named 'c'; it has 'a', 'b'"):
        choose_markers([a, b], ReadOptions(markers="c"), what="r")


@given(
    st.lists(
        st.tuples(st.floats(0, 90), st.one_of(st.just(float("nan")), st.floats(0, 9))), max_size=12
    )
)
def test_events_are_in_order_and_of_positive_length(rows: list[tuple[float, float]]) -> None:
    presented = [Presented(onset, length, Stimulus("x")) for onset, length in rows]
    events, stimuli = timed(presented, ReadOptions(), stop_s=100.0)
    assert [e.onset_s for e in events] == sorted(onset for onset, _ in rows)
    assert all(e.duration_s > 0 for e in events)
    assert set(stimuli) == {e.stimulus for e in events}
    given_lengths = sorted(length for _, length in rows if length > 0)
    assert set(given_lengths) <= {e.duration_s for e in events}


def table(path: Path, header: str, *rows: tuple[object, ...]) -> Path:
    path.write_text(events_text(header, rows))
    return path


def test_a_table_names_excerpts_of_sound_files(tmp_path: Path) -> None:
    write_sound(tmp_path / "stimuli" / "a" / "one.wav", 0.1)
    path = table(
        tmp_path / "e.tsv",
        "onset duration trial_type stim_file stim_start stim_end caption",
        (0, 5, "rock", "stimuli/a/one.wav", 2.5, 7.5, "loud guitars"),
        (5, 5, "rock", "a/one.wav", 7.5, 12.5, "n/a"),
        (10, 5, "dummy", "a/one.wav", 0, 5, "n/a"),
    )
    files = StimulusFiles(tmp_path / "stimuli")
    events, stimuli = table_events(path, ReadOptions(), files, stop_s=15)
    assert [e.stimulus for e in events] == ["a/one@2.5-7.5", "a/one@7.5-12.5"]
    first = stimuli["a/one@2.5-7.5"]
    assert first.path == tmp_path / "stimuli" / "a" / "one.wav"
    assert (first.start_s, first.duration_s, first.captions) == (2.5, 5.0, ("loud guitars",))
    assert not files.lost()


def test_columns_are_chosen_and_dummies_left_out(tmp_path: Path) -> None:
    path = table(
        tmp_path / "e.tsv",
        "onset duration trial_type mood stimulus dummy",
        (0, 5, "rock", "sad", "x1", 1),
        (5, 5, "rock", "sad", "x1", 0),
        (10, 5, "pop", "happy", "x2", 0),
        ("n/a", 5, "pop", "happy", "x2", 0),
    )
    files = StimulusFiles()
    events, _ = table_events(path, ReadOptions(), files, stop_s=15)
    assert [(e.stimulus, e.label) for e in events] == [("x1", "rock"), ("x2", "pop")]
    options = ReadOptions(label_column="mood", stimulus_column="trial_type")
    events, _ = table_events(path, options, files, stop_s=15)
    assert [(e.stimulus, e.label) for e in events] == [("rock", "sad"), ("pop", "happy")]
    options = ReadOptions(ignore_labels=("pop",))
    assert len(table_events(path, options, files, stop_s=15)[0]) == 1


@pytest.mark.parametrize(
    ("header", "row", "sentence"),
    [
        ("start duration", (1, 2), "has no column 'onset'; it has start, duration"),
        ("onset duration trial_type", ("soon", 2, "a"), "row 2: onset 'soon' is no number"),
        ("onset duration trial_type", (1, -2, "a"), "row 2: duration is -2"),
        ("onset duration stim_file start end", (1, 2, "a.wav", 5, 3), "an excerpt from 5 to 3 s"),
    ],
)
def test_a_table_that_says_nonsense_is_one_sentence(
    tmp_path: Path, header: str, row: tuple[object, ...], sentence: str
) -> None:
    path = table(tmp_path / "e.tsv", header, row)
    with pytest.raises(FileError, match=sentence):
        table_events(path, ReadOptions(), StimulusFiles(), stop_s=9)


def test_sounds_are_found_by_path_name_or_stem_but_not_by_a_name_of_two(tmp_path: Path) -> None:
    for name in ("a/one.wav", "b/one.wav", "b/two.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    files = StimulusFiles(tmp_path)
    assert files.file("a/one.wav") == tmp_path / "a" / "one.wav"
    assert files.file("stimuli/b/one.wav") == tmp_path / "b" / "one.wav"
    assert files.file("two") == files.file("two.flac") == tmp_path / "b" / "two.flac"
    assert files.file("one") is None
    files.stimulus("one")
    assert "1 stimuli have no sound" in files.lost()[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,file\nx,a.wav\n", "needs the column 'id'"),
        ("id,file\nx,none.wav\n", r"names 1 sound files that are not there \(none.wav\)"),
        ("id,start_s\nx,-1\n", "start_s is '-1', expected seconds"),
        ("id,label\nx,a\nx,b\n", "row 3: the id 'x' comes twice"),
    ],
)
def test_a_stimulus_table_that_does_not_fit_is_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(FileError, match=sentence):
        StimulusFiles(tmp_path / "t.csv")
    with pytest.raises(FileError, match="No stimuli at"):
        StimulusFiles(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Training", "train"),
        ("task-Test_run-01", "test"),
        ("VGGishishTrain", "train"),
        ("VGGishishAttentionTest", "test"),
        ("latest", ""),
        ("trainee", ""),
        ("run-1", ""),
    ],
)
def test_names_say_what_a_run_is_for(name: str, part: str) -> None:
    assert part_of(name) == part


def test_numbers_and_full_names_are_one_wish() -> None:
    assert wanted("sub-01", ("1",), key="sub")
    assert wanted("01", ("run-1",), key="run")
    assert not wanted("sub-01", ("10",), key="sub")
    assert wanted("anything", None)
