"""Settings of a calibration are refused by name before any work, and written without places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibration.config import (
    CalibrationSettings,
    DataSettings,
    GeneratorChoice,
    load_calibration_settings,
    settings_to_json,
)
from models.errors import FileError, SettingError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[decoder]\nalphas = []", "decoder.alphas"),
        ("[decoder]\nalphas = [-1.0]", "decoder.alphas"),
        ("[decoder]\nalphas = [nan]", "decoder.alphas"),
        ("[decoder]\nn_folds = 1", "decoder.n_folds"),
        ("[decoder]\nn_selected = 0", "decoder.n_selected"),
        ("[decoder]\nn_rois = 0", "decoder.n_rois"),
        ("[decoder]\nthresholds = [1.5]", "decoder.thresholds"),
        ("[decoder]\nkind = 'forest'", "decoder.kind"),
        ("[evaluation]\nn_permutations = 0", "n_permutations"),
        ("[evaluation]\nn_bootstrap = 1", "n_bootstrap"),
        ("[evaluation]\nn_shuffled = -1", "n_shuffled"),
        ("[evaluation]\nn_folds = 1", "evaluation.n_folds"),
        ("[evaluation]\nseed = -1", "evaluation.seed"),
        ("[evaluation]\nseed = 1.5", "evaluation.seed"),
        ("[evaluation]\nfamily = 'clips'", "evaluation.family"),
        ("[lag]\nfixed_s = inf", "lag.fixed_s"),
        ("[lag]\nto_s = nan", "lag.to_s"),
        ("[library]\nmax_s = 0.0", "library.max_s"),
        ("[library]\ncrossfade_s = -1.0", "library.crossfade_s"),
        ("[target]\nstretch = 'song'", "target.stretch"),
        ("windows = 'some'", "windows"),
        ("[generator]\nchain = 'direct'", "generator.chain"),
        ("[generator]\nstrength = 0.0", "generator.strength"),
        ("[generator]\nscored_strengths = [1.5]", "generator.strength"),
        ("[generator]\nsteps = 0", "generator.steps"),
        ("[generator]\nseed = -1", "generator.seed"),
        ("[generator]\nscored_clips = 2", "generator.scored_clips"),
        ("[generator]\nscored_s = 0.5", "generator.scored_s"),
        ("[generator]\nn_shuffled = -1", "generator.n_shuffled"),
        ("[decoder]\nn_fold = 3", "Did you mean 'n_folds'"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(SettingError, match=name):
        load_calibration_settings(path)


def test_two_kinds_of_features_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[features.tr_mean]\n[features.psd]\n")
    with pytest.raises(SettingError, match="one table"):
        _ = load_calibration_settings(path).features.chosen


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no-such"):
        load_calibration_settings(tmp_path / "no-such.toml")


def test_the_target_of_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[target]\nkind = 'class'\nstretch = 'window'\n")
    target = load_calibration_settings(path, target="mel").target
    assert (target.kind, target.stretch) == ("mel", "window")


def test_a_generator_is_steered_by_its_own_encoder_unless_another_embedding_is_named() -> None:
    choice = GeneratorChoice(folder=Path("default"))
    assert choice.target(None) == "generator:default"
    assert choice.target("clap:laion/clap") == "clap:laion/clap"
    assert GeneratorChoice().target(None) is None
    assert GeneratorChoice().target("class") == "class"
    with pytest.raises(SettingError, match="takes an embedding of sounds"):
        choice.target("class")


def test_the_json_is_strict_and_says_nothing_of_where_files_lay() -> None:
    settings = CalibrationSettings(
        data=DataSettings(mask=Path("/home/somebody/secret/mask.nii.gz"), labels=(Path("/a/b"),))
    )
    text = json.dumps(settings_to_json(settings), allow_nan=False)
    assert "mask.nii.gz" in text
    assert "secret" not in text


def test_only_what_was_given_is_handed_to_the_reader() -> None:
    assert DataSettings(tr_s=2.0, roi=("a",)).options() == {"tr_s": 2.0, "roi": ("a",)}
