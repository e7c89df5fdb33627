from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.generator import golden_input
from models.errors import SettingError
from models.nets.full.generator import Condition, FullGenerator
from models.nets.full.published import FamilyName
from models.nets.full.stretches import FullTorchGenerator
from models.stretch import GeneratorInput
from tests.models.nets.full.tiny import NAMES

Generators = dict[FamilyName, FullGenerator]


def _text(family: FamilyName) -> NDArray[np.float32] | None:
    if family != "audioldm2":
        return None
    return np.random.default_rng(0).standard_normal((1, 7, 1024)).astype(np.float32)


def _made(generator: FullGenerator, family: FamilyName, **options: object) -> FullTorchGenerator:
    given: dict[str, object] = {"steps": 2, "stretches": (8, 16), "prefix": 8, **options}
    return FullTorchGenerator(generator, name="it", text=_text(family), **given)  # type: ignore[arg-type]


def _noise(generator: FullTorchGenerator, n_frames: int, seed: int = 0) -> NDArray[np.float32]:
    shape = generator.noise_shape(n_frames)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("family", NAMES)
def test_stretches_are_those_of_the_full_generator(
    family: FamilyName, generators: Generators
) -> None:
    full = generators[family]
    generator = _made(full, family)
    given = golden_input(generator.spec)
    text = _text(family)
    parts = {"vector": given.vector, "tokens": given.tokens, "text": None}
    condition = Condition(
        **{k: torch.from_numpy(v)[None] for k, v in parts.items() if v is not None},
        **({} if text is None else {"text": torch.from_numpy(text)}),
    )
    state, reference = generator.initial_state(), full.initial_state(n_prefix=8)
    for seed, n_frames in enumerate((8, 16, 8)):
        noise = _noise(generator, n_frames, seed)
        sound, state = generator.stretch(given, state, noise, n_frames=n_frames)
        with torch.no_grad():
            expected = full.stretch(condition, reference, [torch.from_numpy(noise[0])], n_steps=2)
        reference = expected.state
        assert float(expected.sound.std()) > 0.02
        np.testing.assert_allclose(sound, expected.sound[0].numpy(), atol=1e-5)


def test_a_start_is_kept_the_more_the_smaller_the_strength(generators: Generators) -> None:
    generator = _made(generators["musicldm"], "musicldm", stretches=(8,), steps=4)
    assert generator.spec.latent == (8, 16)
    vector = golden_input(generator.spec).vector
    start = np.random.default_rng(5).standard_normal((8, 8, 16)).astype(np.float32)
    far = []
    for strength in (0.02, 0.3, 0.9):
        given = GeneratorInput(vector=vector, start=start, strength=strength)
        state = generator.initial_state()
        _, after = generator.stretch(given, state, _noise(generator, 8), n_frames=8)
        made = after["latents"][0].transpose(1, 0, 2)
        far.append(float(np.linalg.norm(made - start)))
    assert far == sorted(far)
    assert far[0] < 0.3 * float(np.linalg.norm(start))


def test_the_levels_are_those_of_the_schedule(generators: Generators) -> None:
    generator = _made(generators["musicldm"], "musicldm", stretches=(8,), steps=4)
    graph = generator.graphs[8]
    for strength in (1.0, 0.75, 0.5, 0.1):
        times = torch.linspace(1.0 - strength, 1.0, 5)
        found = graph._levels(times)  # type: ignore[attr-defined]
        schedule = generators["musicldm"].schedule
        for a, b in zip(found, schedule.levels(4, strength=strength), strict=True):
            assert int(a.timestep) == b.timestep
            assert float(a.alpha) == pytest.approx(b.alpha, rel=1e-5)
            assert float(a.sigma) == pytest.approx(b.sigma, rel=1e-5, abs=1e-7)


def test_the_text_goes_with_the_family_that_has_one(generators: Generators) -> None:
    with pytest.raises(SettingError, match="needs the context of a text"):
        FullTorchGenerator(generators["audioldm2"], name="it", stretches=(8,), prefix=8)
    text = np.zeros((1, 7, 1024), np.float32)
    with pytest.raises(SettingError, match="takes no text"):
        FullTorchGenerator(generators["musicldm"], name="it", stretches=(8,), prefix=8, text=text)
    with pytest.raises(SettingError, match="multiple of 8"):
        FullTorchGenerator(generators["musicldm"], name="it", stretches=(4,), prefix=8)
    with pytest.raises(SettingError, match="fade"):
        _made(generators["musicldm"], "musicldm", fade=100_000)
