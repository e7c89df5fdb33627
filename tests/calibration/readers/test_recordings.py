from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.readers import describe, list_participants, read_dataset
from models.errors import FileError, SettingError
from stream.readers.nifti import mask_digest
from stream.recorder import Recorder
from tests.calibration.readers.layouts import AFFINE, write_image
from tests.data import shared
from tests.stream.recording_files import write_brainvision, write_edf

SFREQ_HZ = 128.0


def csv_session(path: Path, *, seconds: float = 20.0, gap: slice | None = None) -> Path:
    """Write a headband's table: two channels in microvolts and a marker every 3 s."""
    n = round(seconds * SFREQ_HZ)
    t = 1_500_000_000.0 + np.arange(n) / SFREQ_HZ
    values = np.random.default_rng(n).normal(0, 20, (n, 2))
    marker = np.zeros(n)
    onsets = np.arange(round(SFREQ_HZ), n, round(3 * SFREQ_HZ))
    marker[onsets] = np.resize([1, 2], len(onsets))
    keep = np.ones(n, bool)
    if gap is not None:
        keep[gap] = False
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.column_stack([t, values, marker])[keep]
    lines = [f"{a:.6f},{b:.4f},{c:.4f},{m:g}" for a, b, c, m in table]
    path.write_text("timestamps,TP9,TP10,Marker0\n" + "\n".join(lines) + "\n")
    return path


def test_marker_codes_become_events_of_the_given_length(tmp_path: Path) -> None:
    csv_session(tmp_path / "headband" / "one.csv")
    csv_session(tmp_path / "headband" / "two.csv", seconds=21.0)
    dataset = read_dataset(
        tmp_path / "headband", event_duration_s=1.5, marker_labels={"1": "low", "2": "high"}
    )
    assert dataset.participants == ("headband",)
    assert dataset.channels == ("TP9", "TP10")
    assert dataset.unit == "V"
    assert [run.session for run in dataset.runs] == ["one", "two"]
    events = dataset.runs[0].events
    np.testing.assert_allclose([e.onset_s for e in events], np.arange(1, 20, 3), atol=1e-3)
    assert {e.duration_s for e in events} == {1.5}
    assert [(e.stimulus, e.label) for e in events[:2]] == [("1", "low"), ("2", "high")]
    only = read_dataset(tmp_path / "headband", marker_labels={"2": "high"}).runs[0].events
    assert {e.stimulus for e in only} == {"2"}
    # Until the next one; the last as long as those before it, not to the end.
    until = read_dataset(tmp_path / "headband").runs[1].events
    np.testing.assert_allclose([e.duration_s for e in until[:-1]], 3.0, atol=1e-3)
    assert until[-1].duration_s <= 3.0 + 1e-3


def test_stimuli_come_from_a_table(tmp_path: Path) -> None:
    csv_session(tmp_path / "p" / "one.csv")
    (tmp_path / "a.wav").write_bytes(b"")
    table = tmp_path / "sounds.csv"
    table.write_text(
        "id,file,start_s,duration_s,label,caption\n1,a.wav,0.5,3,low,a low hum\n2,,,,high,\n"
    )
    dataset = read_dataset(tmp_path / "p", stimuli=table)
    one = dataset.stimuli["1"]
    assert (one.path, one.start_s, one.duration_s) == (tmp_path / "a.wav", 0.5, 3.0)
    assert (one.label, one.captions) == ("low", ("a low hum",))
    assert {e.label for e in dataset.runs[0].events} == {"low", "high"}


def test_short_gaps_are_filled_and_long_ones_cut_the_run(tmp_path: Path) -> None:
    csv_session(tmp_path / "short" / "a.csv", gap=slice(700, 706))
    whole = read_dataset(tmp_path / "short")
    assert len(whole.runs) == 1
    assert len(whole.runs[0].signal) == round(20 * SFREQ_HZ)
    left, right = whole.runs[0].signal[699], whole.runs[0].signal[706]
    np.testing.assert_allclose(whole.runs[0].signal[702], left + (right - left) * 3 / 7, rtol=1e-4)

    csv_session(tmp_path / "long" / "a.csv", gap=slice(700, 1000))
    runs = read_dataset(tmp_path / "long").runs
    assert [run.session for run in runs] == ["a", "a"]
    assert [run.run for run in runs] == ["piece-1", "piece-2"]
    assert [len(run.signal) for run in runs] == [700, 1560]
    # The event at 4 s reaches into the second piece, which starts at 1000 / 128 s: its marker at
    # 7 s was lost.
    assert runs[1].events[0].onset_s == pytest.approx(4.0 - 1000 / SFREQ_HZ, abs=0.01)
    assert runs[1].stamps_s[0] == 0.0


def test_missing_values_count_as_gaps(tmp_path: Path) -> None:
    path = csv_session(tmp_path / "p" / "a.csv")
    lines = path.read_text().splitlines()
    for row in (500, 501):
        fields = lines[row].split(",")
        lines[row] = ",".join([fields[0], "", *fields[2:]])
    path.write_text("\n".join(lines) + "\n")
    run = read_dataset(tmp_path / "p").runs[0]
    assert np.isfinite(run.signal).all()


def test_recordings_of_other_channels_or_rates_are_one_sentence(tmp_path: Path) -> None:
    first = csv_session(tmp_path / "p" / "a.csv")
    second = csv_session(tmp_path / "p" / "b.csv")
    second.write_text(second.read_text().replace("TP10", "Fz", 1))
    with pytest.raises(FileError, match=r"b.csv has other channels than a.csv .* Fz, TP10"):
        read_dataset(tmp_path / "p")
    assert read_dataset(tmp_path / "p", channels=["TP9"]).channels == ("TP9",)
    lines = first.read_text().splitlines()
    second.write_text("\n".join([lines[0], *lines[1::2]]) + "\n")
    with pytest.raises(FileError, match=r"b.csv runs at 64 Hz, a.csv at 128 Hz"):
        read_dataset(tmp_path / "p")


def test_names_and_folders_tell_participants(tmp_path: Path) -> None:
    for name in (
        "sub-P1_ses-1_task-hear_run-001",
        "sub-P1_ses-2_task-hear_run-001",
        "sub-P2_run-1",
    ):
        csv_session(tmp_path / "lab" / f"{name}.csv")
    assert list_participants(tmp_path / "lab") == ("sub-P1", "sub-P2")
    runs = read_dataset(tmp_path / "lab", participant="P1", sessions="2").runs
    assert [run.key for run in runs] == ["sub-P1/ses-2/task-hear_run-001"]
    csv_session(tmp_path / "tree" / "anna" / "day1" / "test_a.csv")
    csv_session(tmp_path / "tree" / "ben" / "day1" / "training_a.csv")
    both = read_dataset(tmp_path / "tree").runs
    assert [(r.participant, r.session, r.part) for r in both] == [
        ("anna", "day1/test_a", "test"),
        ("ben", "day1/training_a", "train"),
    ]
    alone = read_dataset(tmp_path / "tree" / "ben" / "day1" / "training_a.csv", participant="B")
    assert alone.participants == ("B",)


def session(
    folder: Path,
    texts: list[tuple[float, str]],
    *,
    values: NDArray[np.float32] | None = None,
    bold: str = "",
) -> Path:
    """Record a session as `hearback record` does: a signal, markers and our own events."""
    failures: list[str] = []
    with Recorder(folder, on_failure=failures.append) as recorder:
        if values is None:
            values = np.random.default_rng(3).normal(0, 2e-5, (2_000, 2)).astype(np.float32)
            number = recorder.add_stream(
                "cap", "EEG", 2, labels=("C3", "C4"), sfreq_hz=SFREQ_HZ, units=("V", "V")
            )
            step = 1 / SFREQ_HZ
        else:
            step = 1.5
            number = recorder.add_stream(
                "scanner", "BOLD", values.shape[1], sfreq_hz=1 / step, desc_xml=bold
            )
        markers = recorder.add_stream("sounds", "Markers", 1, channel_format="string")
        recorder.write(number, 50.0 + step * np.arange(len(values)), values)
        for stamp, text in texts:
            recorder.write_text(markers, stamp, text)
        recorder.event({"kind": "note", "text": "not a stimulus"})
    assert not failures
    return folder


TEXTS = [
    (51.0, json.dumps({"stimulus": "rain-00001", "label": "rain", "duration_s": 2.0})),
    (54.0, "piano piano-00007"),
    (57.0, json.dumps({"event": "stop", "stimulus": "piano-00007"})),
    (58.0, "noise-begin"),
    (59.5, "noise-end"),
    (61.0, "key press"),
]


def test_our_session_folders_are_sessions(tmp_path: Path) -> None:
    session(tmp_path / "anna" / "monday", TEXTS)
    session(tmp_path / "anna" / "tuesday", TEXTS[:2])
    dataset = read_dataset(tmp_path / "anna", ignore_labels=["key press"])
    assert [(r.participant, r.session) for r in dataset.runs] == [
        ("anna", "monday"),
        ("anna", "tuesday"),
    ]
    events = [(e.onset_s, e.duration_s, e.stimulus, e.label) for e in dataset.runs[0].events]
    assert [e[2:] for e in events] == [
        ("rain-00001", "rain"),
        ("piano-00007", "piano"),
        ("noise", "noise"),
    ]
    np.testing.assert_allclose([e[:2] for e in events], [(1, 2), (4, 3), (8, 1.5)], atol=1e-6)
    lone = read_dataset(tmp_path / "anna" / "monday", participant="A")
    assert lone.runs[0].key == "A/monday"
    assert lone.channels == ("C3", "C4")


def test_streamed_volumes_keep_the_digest_of_their_mask(tmp_path: Path) -> None:
    mask = np.zeros((3, 2, 2), bool)
    mask[0, :, 1] = mask[2, 1, 0] = True
    values = np.random.default_rng(2).uniform(900, 1100, (20, 3)).astype(np.float32)
    affine = " ".join(f"{value:g}" for value in AFFINE.ravel())
    described = (
        f"<desc><bold><shape>3 2 2</shape><affine>{affine}</affine><tr_s>1.5</tr_s>"
        f"<mask_sha256>{mask_digest(mask)}</mask_sha256><order>C</order></bold></desc>"
    )
    folder = session(tmp_path / "scan", [(53.0, "rock")], values=values, bold=described)
    dataset = read_dataset(folder, event_duration_s=15.0)
    assert dataset.modality == "bold"
    assert dataset.space is not None
    assert dataset.space.mask_sha256 == mask_digest(mask)
    assert not dataset.space.mask.any()  # the stream says which mask it was, not the mask
    np.testing.assert_array_equal(dataset.runs[0].signal, values)
    assert dataset.runs[0].tr_s == pytest.approx(1.5)
    assert dataset.runs[0].events[0].onset_s == pytest.approx(3.0)

    path = write_image(tmp_path / "mask.nii.gz", mask.astype(np.uint8))
    labels = write_image(tmp_path / "a1.nii.gz", (mask * [[[0, 7]]]).astype(np.int16))
    space = read_dataset(folder, mask=path, labels=labels).space
    assert space is not None
    np.testing.assert_array_equal(space.rois["a1"], [0, 1])
    other = write_image(tmp_path / "other.nii.gz", np.ones((3, 2, 2), np.uint8))
    with pytest.raises(FileError, match=r"other.nii.gz \(12 voxels\) is not the one with which"):
        read_dataset(folder, mask=other)


def test_edf_and_brainvision_are_read_with_their_markers(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(-900, 900, (6, 2, 100)).astype(np.int16)
    path = tmp_path / "edf" / "s1.edf"
    path.parent.mkdir()
    write_edf(path, counts, range(6), events=[(0, 0.5, "A"), (3, 3.5, "B")])
    dataset = read_dataset(path.parent)
    assert [(e.onset_s, e.label) for e in dataset.runs[0].events] == [(0.5, "A"), (3.5, "B")]
    (tmp_path / "bv").mkdir()
    write_brainvision(
        tmp_path / "bv",
        counts[0].T.repeat(3, axis=0),
        sfreq_hz=100.0,
        markers=["Stimulus,S  1,51,1,0", "Stimulus,S  2,151,1,0"],
    )
    dataset = read_dataset(tmp_path / "bv", marker_labels={"Stimulus/S  1": "tone"})
    assert [(e.onset_s, e.label) for e in dataset.runs[0].events] == [(0.5, "tone")]


def test_nothing_said_of_what_was_presented_is_one_sentence(tmp_path: Path) -> None:
    path = csv_session(tmp_path / "p" / "a.csv")
    path.write_text(path.read_text().replace("Marker0", "Right AUX"))
    with pytest.raises(FileError, match=r"nothing says what was presented.*a.csv has no markers"):
        read_dataset(path)
    path.unlink()
    with pytest.raises(FileError, match="holds no recording"):
        read_dataset(tmp_path, format="recordings")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "duration_s", "counts"),
    [
        ("eeg_ssaep", 3.0, [(11, 21), (18, 15), (16, 17), (17, 16)]),
        ("eeg_auditory_oddball", 0.2, [(143, 53), (139, 60), (142, 53), (149, 48)]),
    ],
)
def test_real_headband_sessions(
    name: str, duration_s: float, counts: list[tuple[int, int]]
) -> None:
    dataset = read_dataset(shared(name), event_duration_s=duration_s)
    assert len(dataset.runs) == 4
    assert dataset.channels == ("TP9", "AF7", "AF8", "TP10", "Right AUX")
    for run, (ones, twos) in zip(dataset.runs, counts, strict=True):
        codes = [event.stimulus for event in run.events]
        assert (codes.count("1"), codes.count("2")) == (ones, twos)
        assert run.signal.shape == (30732, 5)
    assert describe(dataset)["sfreq_hz"] == 256.0


@pytest.mark.data
def test_real_xdf_and_physionet() -> None:
    unicorn = shared("xdf/unicorn_rest")
    dataset = read_dataset(
        unicorn / "sub-4_closed.xdf",
        marker_labels={"resting-state-eyes-closed": "closed"},
        unit="uV",
    )
    (event,) = dataset.runs[0].events
    assert event.duration_s == pytest.approx(121.0, abs=2.0)
    assert event.label == "closed"
    with pytest.raises(FileError, match="holds no signal with samples"):
        read_dataset(unicorn / "sub-1_markers-only.xdf")
    with pytest.raises(FileError, match="nothing says what was presented"):
        read_dataset(shared("xdf/muse/sub-P003.xdf"))
    resets = read_dataset(shared("xdf/example-files/clock_resets.xdf"), unit="uV")
    assert len(resets.runs) == 2
    physionet = read_dataset(shared("eeg_physionet_s001"), ignore_labels=["T0"])
    assert len(physionet.channels) == 64
    assert {e.label for run in physionet.runs for e in run.events} == {"T1", "T2"}
    with pytest.raises(SettingError, match=r"test.edf has 2 series of markers.*markers=NAME"):
        read_dataset(shared("eeg_formats/edf"))
    assert read_dataset(shared("eeg_formats/edf"), markers="test-markers").runs[0].events
