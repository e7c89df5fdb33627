"""Settings: refused where they do not go together, kept in JSON without loss."""

from __future__ import annotations

import json
from typing import Any

import pytest

from calibration.simulate.settings import RegionSettings, SimulationSettings, default_regions
from models.errors import SettingError


def test_settings_come_back_from_json_as_they_were() -> None:
    settings = SimulationSettings(
        n_people=3,
        snr=0.05,
        n_runs=(4, 1),
        regions=(RegionSettings("a", 7, 0.5, 6.5, 2.0), RegionSettings("b", 3)),
    )
    assert SimulationSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_a_setting_of_another_version_is_named() -> None:
    with pytest.raises(SettingError, match="loudness"):
        SimulationSettings.from_dict({"loudness": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"modality": "meg"},
        {"timetable": "long"},
        {"embedding": "clap"},
        {"n_people": 0},
        {"seed": -1},
        {"snr": -0.1},
        {"snr": float("nan")},
        {"snr": float("inf")},
        {"clip_s": 10.0},
        {"timetable": "short", "clip_s": 0.5},
        {"n_runs": (0, 0)},
        {"n_runs": (-1, 3)},
        {"n_sessions": 19},
        {"clips_per_run": 0},
        {"latent_dim": 97},
        {"tr_s": 0.0},
        {"peak_s": 0.0},
        {"ar1": 1.0},
        {"smooth_share": 1.1},
        {"drift": -1.0},
        {"noise_percent": 0.0},
        {"modality": "eeg", "embedding": "latent"},
        {"regions": ()},
        {"regions": (RegionSettings("a"), RegionSettings("a"))},
        {"n_other_voxels": -1},
        {"n_other_voxels": 200_000},
        {"sound_format": "mp3"},
    ],
)
def test_settings_that_cannot_be_simulated_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        SimulationSettings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a", "n_voxels": 0},
        {"name": "a", "informative": 1.5},
        {"name": "a", "peak_s": 0.1},
        {"name": "a", "snr_factor": -1.0},
    ],
)
def test_regions_that_cannot_be_simulated_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        RegionSettings(**wrong)


def test_regions_have_names_of_their_own_however_many() -> None:
    regions = default_regions(n_informative=9, n_uninformative=150, n_voxels=3)
    assert len({region.name for region in regions}) == 159
    assert [region.informative for region in regions] == [1.0] * 9 + [0.0] * 150


def test_each_modality_has_its_own_timetable_by_default() -> None:
    assert SimulationSettings().schedule == "ds003720"
    assert SimulationSettings(modality="eeg").schedule == "short"
