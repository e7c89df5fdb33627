from __future__ import annotations

import pytest
import torch

from models.nets.full.loaders import load_full_generator
from models.nets.full.random_weights import random_generator, save_checkpoint
from tests.models.nets.full.tiny import noise, tiny_generator


def test_the_seed_decides_all_weights() -> None:
    first, again, other = (tiny_generator("musicldm", seed=seed) for seed in (1, 1, 2))
    tensors = again.state_dict()
    assert all(torch.equal(tensors[name], value) for name, value in first.state_dict().items())
    a, b = (g.denoiser.unet.conv_in.weight for g in (first, other))
    assert not torch.equal(a, b)


def test_outputs_are_of_the_order_of_one_where_the_classes_own_weights_whisper() -> None:
    generator = tiny_generator("musicldm", seed=3)
    with torch.inference_mode():
        mel = generator.mel(noise(generator, 16))
        sound = generator.sound(mel)
    assert 0.3 < float(mel.std()) < 3.0
    assert 0.1 < float(sound.std()) < 0.9


@pytest.mark.slow
def test_a_generator_of_true_size_is_saved_and_loaded_as_published(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    psutil = pytest.importorskip("psutil")
    if psutil.virtual_memory().available < 5e9:
        pytest.skip("needs 3 GB of memory and leaves 2 GB to others")
    folder = tmp_path_factory.mktemp("true-size")
    generator = random_generator("musicldm").to(torch.bfloat16)  # half the file
    save_checkpoint(generator, folder)
    expected = float(generator.denoiser.unet.conv_in.weight.float().sum())
    del generator
    loaded = load_full_generator(str(folder), "musicldm", dtype=torch.bfloat16).generator
    assert float(loaded.denoiser.unet.conv_in.weight.float().sum()) == expected
    assert sum(weight.numel() for weight in loaded.denoiser.parameters()) == 185_036_552
    for file in folder.rglob("*.safetensors"):
        file.unlink()  # half a gigabyte that nobody needs any more
