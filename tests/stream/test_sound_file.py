from __future__ import annotations

import struct
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.sound_file import SoundFileWriter, WavFile, to_pcm24


def noise(n: int, channels: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(n).uniform(-1, 1, (n, channels)).astype(np.float32)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50))
def test_samples_are_rounded_towards_zero_by_less_than_a_step(values: list[float]) -> None:
    data = to_pcm24(np.array(values, np.float32)[:, None])
    back = [int.from_bytes(data[i : i + 3], "little", signed=True) for i in range(0, len(data), 3)]
    read = np.array(back) / 2**23  # as every reader scales them
    assert (np.abs(read) <= np.abs(values)).all()
    assert np.abs(read - values).max() < 2**-22


@pytest.mark.parametrize("channels", [1, 2])
def test_the_file_is_valid_after_every_write(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.wav"
    wav = WavFile(path, sample_rate_hz=44_100, n_channels=channels)
    written = np.zeros((0, channels), np.float32)
    for n in (0, 1, 441, 3, 5000):
        wav.write(noise(n, channels))
        written = np.concatenate([written, noise(n, channels)])
        read, rate = soundfile.read(path, dtype="float64", always_2d=True)
        assert rate == 44_100
        assert np.abs(read - written).max(initial=0.0) < 2**-22
    wav.close()
    wav.close()
    with wave.open(str(path)) as other:  # a reader of another make
        assert other.getparams()[:4] == (channels, 3, 44_100, len(written))


def test_a_file_beyond_4_gib_is_rf64(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wav = WavFile(path, sample_rate_hz=48_000, n_channels=2, rf64_beyond=6000)
    wav.write(noise(1000))
    assert path.read_bytes()[:4] == b"RIFF"
    wav.write(noise(2000))
    wav.close()
    head = path.read_bytes()
    assert head[:4] == b"RF64"
    assert struct.unpack("<QQQ", head[20:44]) == (len(head) - 8, 18_000, 3000)
    read, _ = soundfile.read(path, dtype="float64")
    assert np.abs(read - np.concatenate([noise(1000), noise(2000)])).max() < 2**-22
    assert soundfile.info(path).format == "RF64"


def test_an_hour_of_silence_takes_no_room(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wav = WavFile(path, sample_rate_hz=48_000, n_channels=2)
    wav.write(noise(100))
    wav.skip(3600 * 48_000)
    wav.write(noise(100))
    wav.close()
    with soundfile.SoundFile(path) as file:
        assert file.frames == 3600 * 48_000 + 200
        assert np.abs(file.read(100) - noise(100)).max() < 2**-22
        assert not file.read(48_000).any()
        file.seek(-100, 2)
        assert np.abs(file.read(100) - noise(100)).max() < 2**-22
    if path.stat().st_blocks * 512 > 10_000_000:
        pytest.skip("this file system keeps no holes")


def test_a_writer_that_is_too_slow_keeps_the_time_right(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    writer = SoundFileWriter(path, sample_rate_hz=16_000, n_channels=1, max_waiting=3)
    go = threading.Event()
    slow = writer._wav.write

    def wait_first(block: NDArray[np.float32]) -> None:
        assert go.wait(30)
        slow(block)

    writer._wav.write = wait_first  # type: ignore[method-assign]
    block = np.full((160, 1), 0.5, np.float32)
    for _ in range(50):
        writer.put(block)
    assert writer.n_missed >= 46 * 160
    go.set()
    writer.skip(7)
    writer.close()
    read, _ = soundfile.read(path)
    assert len(read) == 50 * 160 + 7
    assert (read == 0.0).sum() == writer.n_missed + 7


def test_a_disk_that_fails_later_is_flagged_and_the_file_stays_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.wav"
    with SoundFileWriter(path, sample_rate_hz=16_000, n_channels=1) as writer:
        whole = writer._wav.write
        calls = 0

        def fails_third(block: NDArray[np.float32]) -> None:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise OSError(28, "No space left on device")
            whole(block)

        writer._wav.write = fails_third  # type: ignore[method-assign]
        for _ in range(10):
            writer.put(noise(160, 1))
    assert "the disk is full" in writer.failure
    assert calls == 3
    assert soundfile.info(path).frames == 320
    assert "The session goes on" in caplog.text
