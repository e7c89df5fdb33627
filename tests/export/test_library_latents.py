from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.bundle import Bundle, save_bundle
from export.library import Library
from export.library_latents import LibraryLatents, frames_of_sound, latents_file
from export.npy import write_npy
from models.errors import BundleError, SettingError
from tests.export.bundles import retrieval_parts

PER_FRAME = 100  # the sounds have 300 to 304 samples
LATENT = (2, 3)


def frames() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(4)
    return [rng.standard_normal((3, *LATENT)).astype(np.float32) for _ in range(5)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    parts = retrieval_parts()
    folder: Path = tmp_path_factory.mktemp("latents") / "b"
    files = {**parts.files, "good.npy": latents_file(frames())}
    whole = np.concatenate(frames())
    whole[4, 0, 0] = np.nan
    files |= {"nan.npy": write_npy(whole), "short.npy": latents_file(frames()[:4])}
    files["double.npy"] = write_npy(np.concatenate(frames()).astype(np.float64))
    return save_bundle(folder, parts.manifest, files)


def opened(bundle: Bundle, name: str, latent: tuple[int, ...] = LATENT) -> LibraryLatents:
    items = Library(bundle).items
    return LibraryLatents(bundle, name, items=items, latent=latent, samples_per_frame=PER_FRAME)


def test_a_sound_has_its_whole_frames_and_one_at_least() -> None:
    counts = [frames_of_sound(n, samples_per_frame=640) for n in (1, 639, 640, 1279, 1280)]
    assert counts == [1, 1, 1, 1, 2]


@given(item=st.integers(0, 4), position=st.integers(0, 1000), n=st.integers(0, 20))
def test_a_sound_repeats_for_as_long_as_it_is_wanted(
    bundle: Bundle, item: int, position: int, n: int
) -> None:
    latents = opened(bundle, "good.npy")
    assert len(latents) == 5
    read = latents.read(item, position, n)
    assert read.shape == (n, *LATENT)
    for k in range(n):
        assert np.array_equal(read[k], frames()[item][(position + k) % 3])


def test_a_sound_that_is_not_there_is_refused(bundle: Bundle) -> None:
    for item in (-1, 5):
        with pytest.raises(SettingError, match="sounds 0 to 4"):
            opened(bundle, "good.npy").read(item, 0, 1)


@pytest.mark.parametrize(
    ("name", "latent", "words"),
    [
        ("short.npy", LATENT, "should have shape"),
        ("nan.npy", LATENT, "not finite"),
        ("double.npy", LATENT, "float32"),
        ("good.npy", (6,), "float32"),
        ("good.npy", (3, 2), "should have shape"),
    ],
)
def test_latents_that_do_not_fit_are_refused(
    bundle: Bundle, name: str, latent: tuple[int, ...], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        opened(bundle, name, latent)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [np.zeros((0, 2))],
        [np.zeros((1, 2)), np.zeros((1, 3))],
        [np.full((1, 2), np.inf)],
    ],
)
def test_only_whole_finite_latents_are_written(wrong: list[NDArray[np.float64]]) -> None:
    with pytest.raises(SettingError):
        latents_file(wrong)
