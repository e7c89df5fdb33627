from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.generator import golden_input
from models.errors import SettingError
from models.nets.full.generator import Condition, FullGenerator
from models.nets.full.loaders import _as_published, load_full_generator
from models.nets.full.manifest import check_published, layout_of
from models.nets.full.networks import build_on_meta
from models.nets.full.prefix import has_room, make_room, padded, told
from models.nets.full.published import FAMILIES, FamilyName, Network
from models.nets.full.random_weights import save_checkpoint
from models.nets.full.stretches import FullTorchGenerator
from tests.models.nets.full.tiny import NAMES, noise, with_room

Generators = dict[FamilyName, FullGenerator]


def _stretches(generator: FullGenerator, **options: object) -> list[np.ndarray]:
    text = None
    if generator.family.name == "audioldm2":
        text = np.random.default_rng(0).standard_normal((1, 7, 1024)).astype(np.float32)
    around = FullTorchGenerator(generator, name="it", steps=2, stretches=(8,), prefix=8, text=text)
    given, state, made = golden_input(around.spec), around.initial_state(), []
    for seed in range(3):
        shape = around.noise_shape(8)
        drawn = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        sound, state = around.stretch(given, state, drawn, n_frames=8)
        made.append(sound)
    return made


@pytest.mark.parametrize("family", NAMES)
def test_room_for_a_beginning_changes_nothing_before_it_is_used(
    family: FamilyName, generators: Generators
) -> None:
    plain = generators[family]
    roomy = with_room(plain)
    assert (plain.prefixed, roomy.prefixed) == (False, True)
    assert plain.denoiser.unet.conv_in.in_channels == 8  # it stays as it is
    assert make_room(roomy.denoiser.unet) is roomy.denoiser.unet
    condition = plain.random_condition(torch.Generator().manual_seed(0))
    parts = [getattr(condition, name) for name in plain.family.conditions]
    x, clean = noise(plain, 16), noise(plain, 16, seed=2)
    known = (torch.arange(16) < 8).float()[None, None, :, None]
    with torch.no_grad():
        expected = plain.denoiser(x, torch.tensor(400), *parts)
        untold = roomy.denoiser(x, torch.tensor(400), *parts)
        found = roomy.denoiser(told(x, clean, known), torch.tensor(400), *parts)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(untold, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    for a, b in zip(_stretches(roomy), _stretches(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_only_what_is_known_is_told(generators: Generators) -> None:
    generator = generators["musicldm"]
    x, clean = noise(generator, 16), noise(generator, 16, seed=2)
    known = (torch.arange(16) < 8).float()[None, None, :, None]
    made = told(x, clean, known)
    assert made.shape == (1, 17, 16, 16)
    assert torch.equal(made[:, :8], x)
    assert torch.equal(made[:, 8:16, :8], clean[:, :, :8])
    assert float(made[:, 8:16, 8:].abs().max()) == 0.0
    assert made[0, 16, :, 0].tolist() == [1.0] * 8 + [0.0] * 8
    roomy = with_room(generator)
    nothing = told(x, clean, torch.zeros_like(known))
    assert torch.equal(padded(roomy.denoiser.unet, x), nothing)


def test_the_first_stretch_knows_of_no_beginning_and_the_next_ones_do(
    generators: Generators,
) -> None:
    plain = generators["musicldm"]
    before, after = _stretches(plain), _stretches(with_room(plain, heard=0.3))
    np.testing.assert_allclose(after[0], before[0], rtol=0, atol=1e-6)
    assert float(np.abs(after[1] - before[1]).max()) > 1e-3


def test_a_stretch_of_the_generator_is_that_of_the_graph_with_a_beginning(
    generators: Generators,
) -> None:
    full = with_room(generators["musicldm"], heard=0.3)
    around = FullTorchGenerator(full, name="it", steps=2, stretches=(8,), prefix=8)
    given = golden_input(around.spec)
    assert given.vector is not None
    condition = Condition(vector=torch.from_numpy(given.vector)[None])
    state, reference = around.initial_state(), full.initial_state(n_prefix=8)
    for seed in range(3):
        drawn = np.random.default_rng(seed).standard_normal(around.noise_shape(8))
        sound, state = around.stretch(given, state, drawn.astype(np.float32), n_frames=8)
        with torch.no_grad():
            draws = [torch.from_numpy(drawn[0].astype(np.float32))]
            expected = full.stretch(condition, reference, draws, n_steps=2)
        reference = expected.state
        np.testing.assert_allclose(sound, expected.sound[0].numpy(), atol=1e-5)


def test_a_checkpoint_with_room_is_saved_and_loads_again(
    generators: Generators, tmp_path: Path
) -> None:
    roomy = with_room(generators["musicldm"], heard=0.3)
    save_checkpoint(roomy, tmp_path)
    loaded = load_full_generator(str(tmp_path), "musicldm", published=False).generator
    assert loaded.prefixed
    for name, value in roomy.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize("family", NAMES)
def test_the_published_layout_with_room_is_known_as_published(family: FamilyName) -> None:
    network = FAMILIES[family].unet
    roomy = build_on_meta(Network(network.class_name, {**network.config, "in_channels": 17}))
    assert has_room(roomy)
    layout = layout_of(roomy)
    check_published(f"unet:{family}", _as_published(roomy, layout))
    with pytest.raises(SettingError, match="conv_in: expected 2 tensors"):
        check_published(f"unet:{family}", layout)
    other = build_on_meta(Network(network.class_name, {**network.config, "in_channels": 16}))
    assert not has_room(other)
    with pytest.raises(SettingError, match="is not the published"):
        check_published(f"unet:{family}", _as_published(other, layout_of(other)))
