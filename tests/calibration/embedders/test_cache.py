"""The cache gives what the embedder gives, whatever happened to its files."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calibration.embedders.cache import EmbeddingCache
from calibration.embedders.choice import make_embedder
from models.errors import FileError

RATE = 16_000
SOUND = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npy"))


def test_an_entry_is_computed_once_and_comes_back_as_it_was(tmp_path: Path) -> None:
    embedder = make_embedder("mel-statistics")
    cache = EmbeddingCache(tmp_path)
    first = cache.embed(embedder, SOUND, sample_rate_hz=RATE)
    again = EmbeddingCache(tmp_path).embed(embedder, SOUND, sample_rate_hz=RATE)
    np.testing.assert_array_equal(first, embedder.embed(SOUND, RATE))
    np.testing.assert_array_equal(first, again)
    assert cache.n_misses == 1
    assert len(files(tmp_path)) == 1
    # An entry is an ordinary .npy file for any reader.
    np.testing.assert_array_equal(np.load(files(tmp_path)[0], allow_pickle=False)[0], first)
    assert cache.size_bytes() == files(tmp_path)[0].stat().st_size


def test_windows_come_back_as_they_were(tmp_path: Path) -> None:
    embedder = make_embedder("log-mel")
    cache = EmbeddingCache(tmp_path)
    rows = [
        cache.embed_windows(
            embedder, SOUND, sample_rate_hz=RATE, starts_s=[0.0, 0.25], stops_s=[0.5, 1.0]
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], embedder.embed_windows(SOUND, RATE, [0, 0.25], [0.5, 1]))
    assert (cache.n_hits, cache.n_misses) == (1, 1)


def test_whatever_changes_the_vector_changes_the_entry(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    plain = make_embedder("mel-statistics")
    fitted = make_embedder("mel-statistics", sounds=[SOUND, SOUND[::2].copy()])
    louder = SOUND.copy()
    louder[7] *= np.float32(1.0001)
    for embedder, sound, rate in [
        (plain, SOUND, RATE),
        (fitted, SOUND, RATE),
        (plain, louder, RATE),
        (plain, SOUND, 22_050),
        (make_embedder("log-mel"), SOUND, RATE),
        (make_embedder("log-mel", n_parts=2), SOUND, RATE),
    ]:
        cache.embed(embedder, sound, sample_rate_hz=rate)
    cache.embed_windows(plain, SOUND, sample_rate_hz=RATE, starts_s=[0], stops_s=[1])
    cache.embed_windows(plain, SOUND, sample_rate_hz=RATE, starts_s=[0], stops_s=[0.9])
    assert cache.n_hits == 0
    assert len(files(tmp_path)) == 8
    cache.embed(make_embedder("mel-statistics", batch_size=3), SOUND, sample_rate_hz=RATE)
    assert cache.n_hits == 1


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "no array", "another shape"])
def test_a_damaged_entry_is_made_again(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embedder = make_embedder("log-mel")
    expected = EmbeddingCache(tmp_path).embed(embedder, SOUND, sample_rate_hz=RATE)
    path = files(tmp_path)[0]
    stored = bytearray(path.read_bytes())
    if damage == "cut":
        stored = stored[:200]
    elif damage == "changed":
        stored[150] ^= 1
    elif damage == "empty":
        stored = bytearray()
    elif damage == "no array":
        stored = bytearray(b"pickle" * 50)
    else:
        other = EmbeddingCache(tmp_path / "other")
        other.embed(make_embedder("log-mel", n_parts=2), SOUND, sample_rate_hz=RATE)
        stored = bytearray(files(tmp_path / "other")[0].read_bytes())
    path.write_bytes(stored)
    cache = EmbeddingCache(tmp_path)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(cache.embed(embedder, SOUND, sample_rate_hz=RATE), expected)
    assert cache.n_misses == 1
    assert "made again" in caplog.text
    cache.embed(embedder, SOUND, sample_rate_hz=RATE)
    assert cache.n_hits == 1


_FILL = """
import sys
import numpy as np
from pathlib import Path
from calibration.embedders.cache import EmbeddingCache
from calibration.embedders.choice import make_embedder

cache, embedder = EmbeddingCache(Path(sys.argv[1])), make_embedder("log-mel")
rng = np.random.default_rng(1)
sys.stdin.readline()
for _ in range(40):
    sound = 0.1 * rng.standard_normal(2000)
    cache.embed(embedder, sound, sample_rate_hz=16000)
"""


def test_two_processes_fill_one_folder(tmp_path: Path) -> None:
    fillers = [
        subprocess.Popen(
            [sys.executable, "-c", _FILL, str(tmp_path)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[3],
            text=True,
        )
        for _ in range(2)
    ]
    for filler in fillers:
        _, said = filler.communicate("go\n", timeout=60)
        assert filler.returncode == 0, said
        assert "damaged" not in said
    assert len(files(tmp_path)) == 40
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    cache = EmbeddingCache(tmp_path)
    rng, embedder = np.random.default_rng(1), make_embedder("log-mel")
    for _ in range(40):
        sound = 0.1 * rng.standard_normal(2000)
        np.testing.assert_array_equal(
            cache.embed(embedder, sound, sample_rate_hz=RATE), embedder.embed(sound, RATE)
        )
    assert cache.n_misses == 0


def test_a_folder_that_cannot_be_made_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be made"):
        EmbeddingCache(tmp_path / "file" / "cache")


def test_a_folder_that_cannot_be_written_costs_only_the_saving(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EmbeddingCache(tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("a file where the folder was")
    row = cache.embed(make_embedder("log-mel"), SOUND, sample_rate_hz=RATE)
    np.testing.assert_array_equal(row, make_embedder("log-mel").embed(SOUND, RATE))
    assert "could not be cached" in caplog.text
