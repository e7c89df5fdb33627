from __future__ import annotations

import pytest

from models.errors import FileError, SettingError
from models.nets.full.networks import build_on_meta, checked_config
from models.nets.full.published import VAE, VOCODER, Network


def test_an_unknown_entry_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(FileError, match=r"'latent_channel'.*'latent_channels'"):
        checked_config("AutoencoderKL", {"latent_channel": 8}, where="vae/config.json")


def test_a_configuration_of_another_class_is_refused() -> None:
    with pytest.raises(FileError, match=r"describes a UNet1DModel, expected a AutoencoderKL"):
        checked_config("AutoencoderKL", {"_class_name": "UNet1DModel"}, where="vae/config.json")
    with pytest.raises(FileError, match=r"describes a SpeechT5Model"):
        checked_config("SpeechT5HifiGan", {"architectures": ["SpeechT5Model"]}, where="x")


def test_remarks_of_the_libraries_are_left_out() -> None:
    said = {**VOCODER.config, "architectures": ["SpeechT5HifiGan"], "model_type": "hifigan"}
    said |= {"torch_dtype": "float32", "transformers_version": "4.30.2"}
    assert checked_config("SpeechT5HifiGan", said, where="x") == VOCODER.config


def test_a_configuration_that_cannot_be_built_is_refused() -> None:
    wrong = Network("AutoencoderKL", {**VAE.config, "up_block_types": ["UpDecoderBlock9D"] * 3})
    with pytest.raises(SettingError, match="No AutoencoderKL can be built"):
        build_on_meta(wrong)
