from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.errors import FileError, SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.loaders import find_checkpoint, load_full_generator
from models.nets.full.published import FamilyName
from models.nets.full.random_weights import save_checkpoint
from tests.models.nets.full.tiny import NAMES, noise, tiny_generator

_UNET = "unet/diffusion_pytorch_model.safetensors"
_VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(generators: dict[FamilyName, FullGenerator], tmp_path: Path) -> Path:
    save_checkpoint(generators["musicldm"], tmp_path)
    return tmp_path


def _change(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def _assert_same(found: FullGenerator, expected: FullGenerator) -> None:
    tensors = found.state_dict()
    assert all(torch.equal(tensors[name], value) for name, value in expected.state_dict().items())


def _pickled(file: Path) -> None:
    name = "pytorch_model.bin" if file.stem == "model" else f"{file.stem}.bin"
    torch.save(load_file(file), file.with_name(name))
    file.unlink()


@pytest.mark.parametrize("family", NAMES)
def test_a_saved_generator_loads_as_the_same(
    family: FamilyName, generators: dict[FamilyName, FullGenerator], tmp_path: Path
) -> None:
    generator = generators[family]
    save_checkpoint(generator, tmp_path)
    loaded = load_full_generator(str(tmp_path), family, published=False).generator
    condition = generator.random_condition(torch.Generator().manual_seed(2))
    noises = [noise(generator, 8)]
    with torch.inference_mode():
        expected = generator(condition, noises, n_steps=2)
        found = loaded(condition, noises, n_steps=2)
    for ours, theirs in zip(found, expected, strict=True):
        # The same weights elsewhere in memory: some processors add up in another order then.
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    _assert_same(loaded, generator)
    assert loaded.schedule == generator.schedule
    assert not loaded.training
    assert not any(value.is_meta for value in loaded.state_dict().values())


def test_pickles_of_tensors_load_too(
    folder: Path, generators: dict[FamilyName, FullGenerator]
) -> None:
    for file in list(folder.rglob("*.safetensors")):
        _pickled(file)
    loaded = load_full_generator(str(folder), "musicldm", published=False).generator
    _assert_same(loaded, generators["musicldm"])


def test_a_pickle_of_anything_else_is_never_run(folder: Path) -> None:
    (folder / _UNET).unlink()
    torch.save({"conv_in.weight": Path("x")}, (folder / _UNET).with_suffix(".bin"))
    with pytest.raises(FileError, match="cannot be read as weights"):
        load_full_generator(str(folder), "musicldm", published=False)


def test_old_names_of_the_attention_of_autoencoders_are_understood(
    folder: Path, generators: dict[FamilyName, FullGenerator]
) -> None:
    new_to_old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(folder / _VAE)
    for new, old in new_to_old.items():
        tensors = {name.replace(f".{new}.", f".{old}."): v for name, v in tensors.items()}
    assert any(".query." in name for name in tensors)
    save_file(tensors, folder / _VAE)
    loaded = load_full_generator(str(folder), "musicldm", published=False).generator
    _assert_same(loaded, generators["musicldm"])


def test_another_size_than_the_published_is_refused(folder: Path) -> None:
    with pytest.raises(
        SettingError, match=r"not the published unet:musicldm (?s:.*)published=False"
    ):
        load_full_generator(str(folder), "musicldm")


def test_another_family_is_refused(folder: Path) -> None:
    with pytest.raises(FileError, match="describes a UNet2DConditionModel, expected a AudioLDM2"):
        load_full_generator(str(folder), "audioldm2", published=False)


def test_missing_surplus_and_misshapen_tensors_are_named(folder: Path) -> None:
    tensors = load_file(folder / _UNET)
    tensors["conv_in.bias"] = torch.zeros(7)
    del tensors["conv_out.bias"]
    tensors["surplus"] = torch.zeros(1)
    save_file(tensors, folder / _UNET)
    with pytest.raises(FileError) as caught:
        load_full_generator(str(folder), "musicldm", published=False)
    said = str(caught.value)
    assert "conv_in.bias: expected (32,), got (7,)" in said
    assert "conv_out.bias: expected (8,), got none" in said
    assert "surplus: expected none, got (1,)" in said


def test_a_damaged_file_is_refused(folder: Path) -> None:
    whole = (folder / _VAE).read_bytes()
    (folder / _VAE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="cannot be read as weights"):
        load_full_generator(str(folder), "musicldm", published=False)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"beta_schedule": "linear"}, "scaled_linear"),
        ({"prediction_type": "flow"}, "prediction type 'flow'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"beta_begin": 0.1}, "beta_begin"),
        ({"beta_start": "low"}, "no number"),
        ({"beta_start": 0.5}, "beta_start <= beta_end"),
    ],
)
def test_a_scheduler_of_another_kind_is_refused(
    folder: Path, entries: dict[str, Any], said: str
) -> None:
    _change(folder / "scheduler" / "scheduler_config.json", **entries)
    with pytest.raises(FileError, match=said):
        load_full_generator(str(folder), "musicldm", published=False)


@pytest.mark.parametrize("gone", ["unet/config.json", _VAE, "scheduler/scheduler_config.json"])
def test_a_folder_that_is_not_whole_is_refused(folder: Path, gone: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(FileError, match=gone.split("/")[0]):
        load_full_generator(str(folder), "musicldm", published=False)


def test_what_the_scheduler_predicts_is_read(tmp_path: Path) -> None:
    save_checkpoint(tiny_generator("musicldm", prediction="epsilon"), tmp_path)
    loaded = load_full_generator(str(tmp_path), "musicldm", published=False)
    assert loaded.generator.schedule.prediction == "epsilon"


def test_the_licence_is_shown(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    (folder / "LICENSE").write_text("the text")
    with caplog.at_level(logging.INFO):
        loaded = load_full_generator(str(folder), "musicldm", published=False)
    assert "not for commercial use" in loaded.licence
    assert "its model card says cc-by-nc-4.0" in loaded.licence
    assert str(folder / "LICENSE") in loaded.licence
    assert loaded.licence in caplog.text


def test_a_hub_id_is_not_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileError, match=r"--download.*CC BY-NC-SA"):
        find_checkpoint("somebody/no-such-checkpoint-here", "musicldm", download=False)


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is no folder"):
        find_checkpoint(str(tmp_path / "none" / "there"), "musicldm", download=True)


def test_families_and_devices_that_do_not_exist_are_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match="Did you mean 'musicldm'"):
        load_full_generator(str(folder), "musicldn")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="no device 'gpu9'"):
        load_full_generator(str(folder), "musicldm", device="gpu9")
