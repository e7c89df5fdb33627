from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.sounds.procedural import CLASSES
from calibration.stimuli import Factors
from calibration.training.material import Material, class_names, factor_values
from models.errors import FileError
from tests.calibration.training.derived_run import RUN, derived_run


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return derived_run(tmp_path_factory.mktemp("run"))


def test_classes_of_the_library_are_all_named_and_others_come_after_those_that_are_there() -> None:
    assert class_names([CLASSES[3], ""]) == CLASSES
    named = class_names([CLASSES[3], "zither", "", "air raid"])
    assert named == (CLASSES[3], "air raid", "zither")


def test_factors_are_octaves_and_decibels_about_zero() -> None:
    def factors(**values: float) -> Factors:
        known = {
            "pitch_hz": 440.0,
            "tempo_bpm": 120.0,
            "brightness_hz": 1000.0,
            "loudness_dbfs": -27.0,
            "density_hz": 4.0,
        }
        return Factors(**{**known, **values})

    low, high = factor_values(factors()), factor_values(factors(pitch_hz=880.0))
    assert high[0] - low[0] == pytest.approx(1.0 / 1.6)  # an octave, of spreads
    assert np.array_equal(low[1:], high[1:])
    unknown = factor_values(factors(pitch_hz=float("nan"), tempo_bpm=0.0))
    assert np.isnan(unknown[:2]).all()
    assert np.isfinite(unknown[2:]).all()
    quiet = [factor_values(factors(loudness_dbfs=level))[3] for level in (-200.0, -60.0)]
    assert quiet[0] == quiet[1]


def test_nothing_is_trained_on_what_is_held_out(material: Material) -> None:
    assert list(material.held_out) == [13, 14]
    assert material.n_train == 13
    assert material.n_blends == 2


def test_a_derived_array_counts_when_it_is_done(material: Material) -> None:
    filled = material.derive("other", (3, 2))
    filled[:2] = 1.0
    filled.flush()
    with pytest.raises(FileError, match="Run the stage before"):
        material.derived("other")
    more = material.derive("other", (3, 2), again=False)
    more[2:] = 2.0
    more.flush()
    material.derive_done("other")
    assert material.derived("other")[:, 0].tolist() == [1.0, 1.0, 2.0]


def test_a_damaged_array_is_told(tmp_path: Path) -> None:
    material = derived_run(tmp_path)
    (tmp_path / "derived" / "latents.npy").write_bytes(b"nothing")
    with pytest.raises(FileError, match="missing or damaged"):
        material.derived("latents")
    assert RUN.sounds.clips == len(material.clips)
