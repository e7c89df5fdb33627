"""A recorded signal as messages, and the choice of a signal."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import FileError, SettingError
from stream.faults import FaultPlan, parse_faults
from stream.messages import Chunk, Gap, GapReason
from stream.recordings import (
    RecordedSignal,
    Recording,
    Segment,
    read_recording,
    recording_events,
)
from stream.source_info import BoldInfo


def a_signal(gaps: list[tuple[int, int]], n: int = 60, **other: object) -> RecordedSignal:
    """`gaps`: (row, samples missing before it)."""
    index = np.arange(n)
    bounds = [0, *(row for row, _ in gaps), n]
    segments = []
    for start, stop in itertools.pairwise(bounds):
        index[start:] += dict(gaps).get(start, 0)
        segments.append(Segment(start, stop, int(index[start])))
    rng = np.random.default_rng(1)
    signal = RecordedSignal(
        "x",
        "EEG",
        ("a", "b"),
        "V",
        1.0,
        50.0,
        rng.normal(size=(n, 2)).astype(np.float32),
        3.0 + index / 50.0,
        tuple(segments),
    )
    return replace(signal, **other)  # type: ignore[arg-type]


@given(
    rows=st.lists(st.integers(1, 59), unique=True, max_size=4),
    lost=st.lists(st.integers(1, 500), min_size=4, max_size=4),
    chunk=st.integers(1, 70),
)
def test_chunks_and_gaps_account_for_every_sample(
    rows: list[int], lost: list[int], chunk: int
) -> None:
    signal = a_signal(list(zip(sorted(rows), lost, strict=False)))
    events = list(recording_events(signal, chunk))
    chunks = [e for e in events if isinstance(e, Chunk)]
    gaps = [e for e in events if isinstance(e, Gap)]
    assert np.array_equal(np.concatenate([c.samples for c in chunks]), signal.samples)
    assert np.array_equal(np.concatenate([c.stamps for c in chunks]), signal.stamps)
    assert sum(len(c.stamps) for c in chunks) + sum(g.n_lost for g in gaps) == signal.n_sent
    expected, segment = 0, 0
    for event in events:
        assert event.first == expected
        if isinstance(event, Gap):
            assert event.reason is GapReason.DROPPED
            expected += event.n_lost
            segment += 1
        else:
            assert event.segment == segment
            assert len(event.stamps) <= chunk
            expected = event.stop
    for gap in gaps:
        assert gap.t_stop - gap.t_start == pytest.approx(gap.n_lost / 50.0)


def test_chunks_are_views_that_cannot_be_written() -> None:
    signal = a_signal([])
    signal.samples.flags.writeable = False
    chunk = next(iter(recording_events(signal, 8)))
    assert isinstance(chunk, Chunk)
    assert chunk.samples.base is not None
    assert not chunk.samples.flags.writeable


def test_drop_and_duplicate_show_as_gaps() -> None:
    plan = parse_faults("drop:at=0.2,n=5;duplicate:at=0.6,n=3")
    events = list(recording_events(a_signal([]), 10, faults=plan))
    gaps = [e for e in events if isinstance(e, Gap)]
    assert [(g.reason, g.first, g.n_lost, g.n_extra) for g in gaps] == [
        (GapReason.DROPPED, 10, 5, 0),
        (GapReason.DUPLICATE, 30, 0, 3),
    ]
    assert sum(len(e.stamps) for e in events if isinstance(e, Chunk)) == 55


def test_samples_that_are_not_finite_are_kept_and_named() -> None:
    signal = a_signal([])
    samples = signal.samples.copy()
    samples[12:14, 1] = np.nan
    samples[40] = np.inf
    events = list(recording_events(replace(signal, samples=samples), 10))
    gaps = [e for e in events if isinstance(e, Gap)]
    assert [(g.reason, g.first, g.n_lost, g.n_extra) for g in gaps] == [
        (GapReason.INVALID, 12, 0, 2),
        (GapReason.INVALID, 40, 0, 1),
    ]
    chunks = np.concatenate([e.samples for e in events if isinstance(e, Chunk)])
    assert np.array_equal(chunks, samples, equal_nan=True)


def test_a_volume_can_be_had_one_tr_after_its_stamp() -> None:
    bold = BoldInfo((2, 1, 1), np.eye(4), 2.5)
    events = list(recording_events(a_signal([], bold=bold), 1))
    assert all(
        e.arrived == pytest.approx(e.stamps[0] + 2.5) for e in events if isinstance(e, Chunk)
    )


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(SettingError, match="at least 1"):
        list(recording_events(a_signal([]), 0, faults=FaultPlan()))


def a_recording() -> Recording:
    eeg, bold = a_signal([], name="Muse"), a_signal([], name="Muse", type="ACC")
    return Recording(Path("x.xdf"), "XDF", (bold, eeg))


def test_eeg_is_chosen_without_a_wish_and_type_or_index_choose_among_one_name() -> None:
    recording = a_recording()
    assert recording.choose().type == "EEG"
    assert recording.choose(kind="acc").type == "ACC"
    assert recording.choose(index=1).type == "EEG"
    with pytest.raises(SettingError, match="0: 'Muse' \\(ACC, 2 channels\\)"):
        recording.choose(name="Muse")
    with pytest.raises(SettingError, match="No signal with type 'PPG'"):
        recording.choose(kind="PPG")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"/annex/objects/SHA256E-s12--abc.edf\n", "git-annex pointer"),
        (
            b"../../.git/annex/objects/Zz/Qq/SHA256E-s1--a.edf/SHA256E-s1--a.edf",
            "git-annex pointer",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ],
)
def test_content_that_was_not_fetched_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    for ending in (".edf", ".xdf", ".nii.gz", ".csv", ".vhdr", ".fif", ".set"):
        path = tmp_path / f"rec{ending}"
        path.write_bytes(content)
        with pytest.raises(FileError, match=said):
            read_recording(path)


def test_broken_links_missing_files_and_strange_kinds_are_named(tmp_path: Path) -> None:
    link = tmp_path / "rec.edf"
    link.symlink_to(tmp_path / ".git" / "annex" / "objects" / "x")
    with pytest.raises(FileError, match="datalad get"):
        read_recording(link)
    with pytest.raises(FileError, match="No recording at"):
        read_recording(tmp_path / "nothing.edf")
    other = tmp_path / "rec.docx"
    other.write_text("x")
    with pytest.raises(FileError, match=r"expected \.xdf"):
        read_recording(other)


def test_channels_are_chosen_by_label_or_number(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [f"{k / 100},{k},{2 * k},{3 * k}" for k in range(300)]
    path.write_text("\n".join(["timestamps,A,B,C", *rows]))
    signal = read_recording(path, channels=["C", "0"]).choose()
    assert signal.labels == ("C", "A")
    assert signal.samples[5] == pytest.approx([15e-6, 5e-6])
    with pytest.raises(SettingError, match="no channel 'D'; it has A, B, C"):
        read_recording(path, channels=["D"])
