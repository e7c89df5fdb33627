"""XDF as written here, read by pyxdf, the reader that everybody uses."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyxdf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import FileError, SettingError
from stream.safe_file import SafeFile
from stream.xdf import XdfStream, XdfWriter, whole_length
from stream.xdf_header import ChannelFormat

FORMATS: tuple[ChannelFormat, ...] = ("float32", "double64", "int8", "int16", "int32", "int64")
DTYPES = {"float32": "f4", "double64": "f8"}


class _Refuse(logging.Handler):
    """Turns anything that pyxdf complains about into a failure."""

    def emit(self, record: logging.LogRecord) -> None:
        pytest.fail(f"pyxdf complains: {record.getMessage()}")


@pytest.fixture
def quiet() -> Iterator[None]:
    handler = _Refuse(level=logging.WARNING)
    logging.getLogger("pyxdf").addHandler(handler)
    yield
    logging.getLogger("pyxdf").removeHandler(handler)


def load(path: Path | io.BytesIO, *, synchronise: bool = False) -> list[dict[str, Any]]:
    source = path if isinstance(path, io.BytesIO) else str(path)
    streams, _ = pyxdf.load_xdf(
        source, synchronize_clocks=synchronise, dejitter_timestamps=synchronise
    )
    return list(streams)


def numbers(kind: ChannelFormat, shape: tuple[int, int], seed: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    if kind in DTYPES:
        return rng.standard_normal(shape).astype(DTYPES[kind])
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)


@pytest.mark.usefixtures("quiet")
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(FORMATS),
    rate=st.sampled_from([0.0, 1 / 1.5, 250.0, 1000.0]),
    n_channels=st.integers(1, 9),
    sizes=st.lists(st.integers(0, 300), max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_pyxdf_reads_back_every_number_and_stamp_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    kind: ChannelFormat,
    rate: float,
    n_channels: int,
    sizes: list[int],
    seed: int,
) -> None:
    writer = XdfWriter(tmp_path_factory.mktemp("xdf") / "a.xdf")
    labels = tuple(f"ch {index} µ<&>" for index in range(n_channels))
    stream = XdfStream("Näme & <co>", "EEG", n_channels, kind, rate, labels=labels)
    number = writer.add_stream(stream)
    values = numbers(kind, (sum(sizes), n_channels), seed)
    stamps = 5000 + np.cumsum(np.random.default_rng(seed).uniform(0.001, 0.01, sum(sizes)))
    start = 0
    for size in sizes:
        writer.write_samples(number, stamps[start : start + size], values[start : start + size])
        start += size
    writer.close()

    (read,) = load(writer.path)
    assert read["info"]["name"] == ["Näme & <co>"]
    assert float(read["info"]["nominal_srate"][0]) == rate
    channels = read["info"]["desc"][0]["channels"][0]["channel"]
    assert tuple(channel["label"][0] for channel in channels) == labels
    assert read["time_series"].shape == values.shape
    if sum(sizes):
        assert read["time_series"].dtype == values.dtype
    np.testing.assert_array_equal(read["time_series"], values)
    np.testing.assert_array_equal(read["time_stamps"], stamps)
    footer = read["footer"]["info"]
    assert int(footer["sample_count"][0]) == sum(sizes)
    if sum(sizes):
        assert float(footer["first_timestamp"][0]) == stamps[0]
        assert float(footer["last_timestamp"][0]) == stamps[-1]


@pytest.mark.usefixtures("quiet")
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    texts=st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=300), min_size=2, max_size=2),
        max_size=20,
    )
)
def test_pyxdf_reads_back_every_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]]
) -> None:
    writer = XdfWriter(tmp_path_factory.mktemp("xdf") / "a.xdf")
    number = writer.add_stream(XdfStream("texts", "Markers", 2, "string"))
    stamps = np.arange(len(texts)) * 0.37
    writer.write_strings(number, stamps, texts)
    writer.close()
    (read,) = load(writer.path)
    assert read["time_series"] == texts
    np.testing.assert_array_equal(read["time_stamps"], stamps)


@pytest.mark.usefixtures("quiet")
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    offset=st.floats(-1e5, 1e5),
    drift=st.floats(-2e-4, 2e-4),
    rate=st.sampled_from([0.0, 250.0]),
)
def test_pyxdf_brings_the_stamps_onto_our_clock_by_the_offsets(
    tmp_path_factory: pytest.TempPathFactory, offset: float, drift: float, rate: float
) -> None:
    ours = 2e5 + np.arange(5000) / 250.0
    sent = (ours - offset) / (1 + drift)  # the sender's clock runs differently
    writer = XdfWriter(tmp_path_factory.mktemp("xdf") / "a.xdf")
    number = writer.add_stream(XdfStream("far", "EEG", 1, "float32", rate))
    for when, there in zip(ours[::500], sent[::500], strict=True):
        writer.write_clock_offset(number, when, when - there)
    writer.write_samples(number, sent, np.zeros((5000, 1), np.float32))
    writer.close()
    (read,) = load(writer.path, synchronise=True)
    np.testing.assert_allclose(read["time_stamps"], ours, rtol=0, atol=1e-6)


def make_file(path: Path) -> tuple[XdfWriter, list[int]]:
    """Write two streams in turn; return where each chunk of the numeric one ends."""
    writer = XdfWriter(path)
    eeg = writer.add_stream(XdfStream("eeg", "EEG", 2, "float32", 100.0))
    marks = writer.add_stream(XdfStream("marks", "Markers", 1, "string"))
    ends = []
    for index in range(6):
        stamps = (index * 20 + np.arange(20)) / 100.0
        samples = np.repeat(index * 20 + np.arange(20), 2).reshape(20, 2).astype(np.float32)
        writer.write_samples(eeg, stamps, samples)
        ends.append(writer.size)
        writer.write_strings(marks, [stamps[0]], [f"block {index}"])
        writer.write_clock_offset(eeg, stamps[0], 0.0)
        if index % 2:
            writer.boundary()
    return writer, ends


def test_a_file_cut_anywhere_is_read_up_to_the_last_whole_chunk(tmp_path: Path) -> None:
    writer, ends = make_file(tmp_path / "a.xdf")
    writer.close()
    data = writer.path.read_bytes()
    for cut in range(4, len(data) + 1, 3):
        whole = data[: whole_length(data[:cut])]
        streams = load(io.BytesIO(whole))
        eeg = [stream for stream in streams if stream["info"]["name"] == ["eeg"]]
        expected = 20 * sum(end <= cut for end in ends)
        got = len(eeg[0]["time_stamps"]) if eeg else 0
        assert got == expected
        if got:
            np.testing.assert_array_equal(eeg[0]["time_series"][:, 0], np.arange(expected))
    assert whole_length(data) == len(data)


def test_a_process_killed_in_a_write_leaves_only_whole_chunks_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replays every state in which the system calls of a writer can leave the file."""
    calls: list[tuple[int, bytes]] = []
    real = os.pwrite

    def spy(fd: int, data: bytes, position: int) -> int:
        calls.append((position, bytes(data)))
        return real(fd, data, position)

    monkeypatch.setattr(os, "pwrite", spy)
    writer, ends = make_file(tmp_path / "a.xdf")
    monkeypatch.undo()
    writer.file.close()

    image = bytearray()
    for position, data in calls:
        # The kernel gives up between two pages, so a call may be done in part: try some parts,
        # but not of the few bytes of a length, which are one copy.
        parts = {0, 1, len(data) // 2, len(data) - 1, len(data)} if len(data) > 7 else {len(data)}
        for n_done in sorted(parts):
            state = image + bytes(max(0, position + n_done - len(image)))
            state[position : position + n_done] = data[:n_done]
            if state[:4] != b"XDF:":  # not even begun
                continue
            streams = load(io.BytesIO(bytes(state)))
            eeg = [stream for stream in streams if stream["info"]["name"] == ["eeg"]]
            got = len(eeg[0]["time_stamps"]) if eeg else 0
            committed = 20 * sum(whole_end(state, end) for end in ends)
            assert got == committed
            if got:
                np.testing.assert_array_equal(eeg[0]["time_series"][:, 1], np.arange(got))
        image += bytes(max(0, position + len(data) - len(image)))
        image[position : position + len(data)] = data


def whole_end(state: bytearray, end: int) -> bool:
    """Whether the chunk that ends here is wholly in this state of the file."""
    return whole_length(bytes(state)) >= end


def test_a_file_that_stands_there_is_never_overwritten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "recording.xdf").write_text("the only copy")
    writers = [XdfWriter(tmp_path / "recording.xdf") for _ in range(2)]
    for writer in writers:
        writer.close()
    assert [writer.path.name for writer in writers] == ["recording-2.xdf", "recording-3.xdf"]
    assert (tmp_path / "recording.xdf").read_text() == "the only copy"
    assert "recording-2.xdf" in caplog.text


def test_a_large_volume_is_one_sample_and_long_runs_are_split(tmp_path: Path) -> None:
    writer = XdfWriter(tmp_path / "a.xdf")
    bold = writer.add_stream(XdfStream("bold", "BOLD", 65_000, "float32", 1 / 1.5))
    fast = writer.add_stream(XdfStream("fast", "EEG", 1, "float32", 1000.0))
    volumes = np.random.default_rng(0).random((3, 65_000), dtype=np.float32)
    writer.write_samples(bold, [0.0, 1.5, 3.0], volumes)
    writer.write_samples(fast, np.arange(200_000) / 1e3, np.arange(200_000, dtype=np.float32))
    writer.close()
    first, second = load(writer.path)
    np.testing.assert_array_equal(first["time_series"], volumes)
    np.testing.assert_array_equal(second["time_series"][:, 0], np.arange(200_000))


def test_the_senders_own_description_is_kept(tmp_path: Path) -> None:
    desc = (
        "<desc><channels><channel><label>Cz</label><unit>microvolts</unit></channel></channels>"
        "<cap><name>Ünïcap</name></cap></desc>"
    )
    for text in (desc, f'<?xml version="1.0"?><info><name>x</name>{desc}</info>'):
        writer = XdfWriter(tmp_path / "a.xdf")
        writer.add_stream(
            XdfStream("x", "EEG", 1, labels=("other",), desc_xml=text, can_drop_samples=True)
        )
        writer.close()
        (read,) = load(writer.path)
        found = read["info"]["desc"][0]
        assert found["channels"][0]["channel"][0]["label"] == ["Cz"]
        assert found["cap"][0]["name"] == ["Ünïcap"]
        assert found["synchronization"][0]["can_drop_samples"] == ["true"]


@pytest.mark.usefixtures("quiet")
def test_lost_samples_do_not_bend_the_stamps_around_them(tmp_path: Path) -> None:
    stamps = np.concatenate([np.arange(1000), np.arange(1900, 3000)]) / 1000.0  # 0.9 s missing
    writer = XdfWriter(tmp_path / "a.xdf")
    number = writer.add_stream(XdfStream("x", "EEG", 1, "float32", 1000.0, can_drop_samples=True))
    writer.write_clock_offset(number, 0.0, 0.0)
    writer.write_samples(number, stamps, np.zeros((2100, 1), np.float32))
    writer.close()
    (read,) = load(writer.path, synchronise=True)
    np.testing.assert_allclose(read["time_stamps"], stamps, rtol=0, atol=1e-9)


def test_characters_that_xml_forbids_do_not_break_the_header(tmp_path: Path) -> None:
    writer = XdfWriter(tmp_path / "a.xdf")
    writer.add_stream(XdfStream("bell\x07 \x00\ud800", "EEG", 1, desc_xml="<desc><oops>"))
    writer.close()
    (read,) = load(writer.path)
    assert read["info"]["name"][0].startswith("bell")


def test_what_does_not_fit_the_stream_is_refused(tmp_path: Path) -> None:
    writer = XdfWriter(tmp_path / "a.xdf")
    whole = writer.add_stream(XdfStream("ints", "EEG", 2, "int16"))
    text = writer.add_stream(XdfStream("text", "Markers", 1, "string"))
    size = writer.size
    with pytest.raises(SettingError, match=r"takes \(3, 2\)"):
        writer.write_samples(whole, [0.0, 1.0, 2.0], np.zeros((3, 5), np.int16))
    with pytest.raises(SettingError, match="float64 does not fit"):
        writer.write_samples(whole, [0.0], np.zeros((1, 2)))
    with pytest.raises(SettingError, match="holds text"):
        writer.write_samples(text, [0.0], np.zeros((1, 1)))
    with pytest.raises(SettingError, match="takes 1 text"):
        writer.write_strings(text, [0.0], [("a", "b")])
    with pytest.raises(SettingError, match="2 channels but 1 labels"):
        XdfStream("x", "EEG", 2, labels=("one",))
    with pytest.raises(SettingError, match="at least 1 channel"):
        XdfStream("x", "EEG", 0)
    assert writer.size == size
    writer.close()


def test_a_folder_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="the folder is not there"):
        XdfWriter(tmp_path / "nowhere" / "a.xdf")


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    file = SafeFile(tmp_path / "a.bin")
    file.append(b"x" * 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(FileError, match="largest size"):
            file.append(b"y" * 1000, head=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.path.read_bytes() == b"x" * 1000
    file.append(b"z" * 1000, head=3)
    file.close()
    file.close()
    assert file.path.read_bytes() == b"x" * 1000 + b"z" * 1000
