from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.bundle import save_bundle
from export.library import Library, LibrarySound, library_files
from export.manifest import LibraryFiles
from export.npy import read_npy, write_npy
from models.errors import BundleError, SettingError
from tests.export.bundles import DIM, RATE, direct_parts, retrieval_parts


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    parts = retrieval_parts()
    bundle = save_bundle(tmp_path_factory.mktemp("l") / "b", parts.manifest, parts.files)
    return Library(bundle)


def tone(n: int = 500) -> Any:
    return np.sin(np.arange(n) * 0.1, dtype=np.float32) * np.float32(0.5)


def test_sounds_come_back_to_half_a_step_of_16_bits(library: Library) -> None:
    rng = np.random.default_rng(0)
    for i in range(5):
        expected = rng.uniform(-0.5, 0.5, 300 + i).astype(np.float32)
        # int16 / 32768 on reading against rint(x * 32767) on writing: half a step plus x / 32768.
        np.testing.assert_allclose(library.sound(i), expected, atol=1.1 / 32768)
        assert library.sound(i).shape == (300 + i,)


def test_a_large_library_is_read_sound_by_sound(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [library.sound(i).copy() for i in range(5)]
    monkeypatch.setattr(library, "_pcm", None)
    for i in (3, 0, 4, 1, 2):
        np.testing.assert_array_equal(library.sound(i), expected[i])


def test_what_comes_back_is_read_only(library: Library) -> None:
    assert not library.sound(0).flags.writeable
    assert not library.embeddings.flags.writeable


def test_sounds_are_found_by_name_then_by_label(library: Library) -> None:
    assert library.find("s3") == (3,)
    assert library.find("b") == (1, 3)
    assert library.find("") == ()
    assert library.find("violin") == ()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 5))
def test_nearest_equals_float64_cosine(library: Library, seed: int, k: int) -> None:
    query = np.random.default_rng(seed).standard_normal(DIM) * 3.0
    indices, cosines = library.nearest(query, k=k)
    every = library.embeddings.astype(np.float64) @ (query / np.linalg.norm(query))
    np.testing.assert_array_equal(indices, np.argsort(-every, kind="stable")[:k])
    np.testing.assert_allclose(cosines, np.sort(every)[::-1][:k], atol=1e-6)


def test_of_equal_embeddings_the_first_wins_wherever_they_lie(tmp_path: Path) -> None:
    parts = retrieval_parts()
    rng = np.random.default_rng(3)
    vectors = np.tile(rng.standard_normal(DIM), (41, 1))
    vectors[:7] = -vectors[:7]
    sounds = [LibrarySound(f"s{i}", tone()) for i in range(41)]
    files = library_files(sounds, vectors, sample_rate_hz=RATE)
    bundle = save_bundle(tmp_path / "b", parts.manifest, {**parts.files, **files})
    indices, _ = Library(bundle).nearest(vectors[9], k=41)
    np.testing.assert_array_equal(indices, [*range(7, 41), *range(7)])


@pytest.mark.parametrize(
    "query", [np.zeros(DIM), np.ones(DIM + 1), np.full(DIM, np.nan), np.full(DIM, np.inf)]
)
def test_a_query_that_cannot_be_is_refused(library: Library, query: Any) -> None:
    with pytest.raises(SettingError):
        library.nearest(query)


def test_k_is_checked(library: Library) -> None:
    for k in (0, 6):
        with pytest.raises(SettingError, match="k must"):
            library.nearest(np.ones(DIM), k=k)


def test_wav_libraries_hold_the_same_sound(tmp_path: Path) -> None:
    sounds = [LibrarySound("a", tone())]
    names = LibraryFiles(audio="library.wav")
    files = library_files(sounds, np.ones((1, DIM)), sample_rate_hz=RATE, names=names)
    assert files["library.wav"][:4] == b"RIFF"


@pytest.mark.parametrize(
    ("sounds", "vectors"),
    [
        ([], np.ones((0, 3))),
        ([LibrarySound("a", tone())], np.ones((2, 3))),
        ([LibrarySound("a", tone())], np.zeros((1, 3))),
        ([LibrarySound("a", tone()), LibrarySound("a", tone())], np.ones((2, 3))),
        ([LibrarySound("", tone())], np.ones((1, 3))),
        ([LibrarySound("a", tone(0))], np.ones((1, 3))),
        ([LibrarySound("a", np.full(9, np.nan, np.float32))], np.ones((1, 3))),
    ],
)
def test_a_library_that_cannot_be_is_not_written(sounds: Any, vectors: Any) -> None:
    with pytest.raises(SettingError):
        library_files(sounds, vectors, sample_rate_hz=RATE)


def _json(files: dict[str, Any], **changes: Any) -> dict[str, bytes]:
    values = json.loads(files["library.json"])
    values.update(changes)
    return {"library.json": json.dumps(values).encode()}


def _items(files: dict[str, Any], **changes: Any) -> dict[str, bytes]:
    items = json.loads(files["library.json"])["items"]
    items[2].update(changes)
    return _json(files, items=items)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files: _json(files, schema=2), "schema"),
        (lambda files: _json(files, sample_rate_hz=8000), "8000 Hz"),
        (lambda files: _json(files, items=[]), "1 to"),
        (lambda files: _items(files, start=-1), "start"),
        (lambda files: _items(files, n_samples=0), "0 long"),
        (lambda files: _items(files, n_samples=10**9), "ends at"),
        (lambda files: _items(files, name="s0"), "different"),
        (lambda files: _items(files, start="0"), "whole number"),
        (lambda files: {"library.flac": b"no sound"}, "sound file"),
        (lambda files: {"library.npy": write_npy(np.ones((5, DIM), "<f4"))}, "unit"),
        (lambda files: {"library.npy": write_npy(np.full((5, DIM), np.nan, "<f4"))}, "unit"),
        (lambda files: {"library.npy": write_npy(np.eye(DIM, dtype="<f4"))}, "shape"),
        (lambda files: {"library.npy": write_npy(np.eye(DIM))}, "float32"),
    ],
)
def test_a_library_that_does_not_fit_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    parts = retrieval_parts()
    with pytest.raises(BundleError, match=words):
        save_bundle(tmp_path / "b", parts.manifest, {**parts.files, **change(parts.files)})


def test_a_direct_bundle_has_no_library(tmp_path: Path) -> None:
    parts = direct_parts()
    bundle = save_bundle(tmp_path / "b", parts.manifest, parts.files)
    with pytest.raises(BundleError, match="no library"):
        Library(bundle)


def test_an_array_file_cannot_claim_more_than_it_has() -> None:
    data = write_npy(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="claims"):
        read_npy(data.replace(b"(3, 4)", b"(9, 9)"), dtype=np.dtype("<f8"), ndim=2)
    huge = data.replace(b"(3, 4), }   ", b"(10**9, 4), }")
    with pytest.raises(ValueError, match=r".+"):
        read_npy(huge, dtype=np.dtype("<f8"), ndim=2)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_array_or_refused(data: bytes) -> None:
    for content in (data, b"\x93NUMPY\x01\x00" + data):
        with pytest.raises(ValueError, match=r".*"):
            read_npy(content, dtype=np.dtype("<f8"), ndim=2)
