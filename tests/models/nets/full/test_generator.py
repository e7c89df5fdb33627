from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.errors import SettingError
from models.nets.full.generator import Condition, FullGenerator
from models.nets.full.graph import SoundGraph
from models.nets.full.published import FamilyName
from models.nets.full.sampler import ping_pong
from tests.models.nets.full.tiny import NAMES, noise, tiny_generator

Generators = dict[FamilyName, FullGenerator]


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.inference_mode():
        yield


def _condition(generator: FullGenerator, seed: int = 2) -> Condition:
    return generator.random_condition(torch.Generator().manual_seed(seed))


def _zeros(condition: Condition) -> Condition:
    parts = {name: getattr(condition, name) for name in ("vector", "tokens", "text")}
    return Condition(**{k: torch.zeros_like(v) for k, v in parts.items() if v is not None})


@pytest.mark.parametrize("family", NAMES)
def test_mel_and_sound_have_their_shapes_and_sizes(
    family: FamilyName, generators: Generators
) -> None:
    generator = generators[family]
    mel, sound = generator(_condition(generator), [noise(generator, 16)], n_steps=2)
    assert mel.shape == (1, 64, 64)
    assert sound.shape == (1, 64 * 160)
    assert sound.dtype == torch.float32
    assert 0.1 < float(mel.std()) < 10.0
    assert 0.02 < float(sound.std()) < 0.9


@pytest.mark.parametrize("family", NAMES)
def test_the_same_noise_gives_the_same_sound_and_each_input_matters(
    family: FamilyName, generators: Generators
) -> None:
    generator = generators[family]
    condition, other = _condition(generator), _condition(generator, seed=3)
    first = generator.latents(condition, [noise(generator, 8)], n_steps=2)
    again = generator.latents(condition, [noise(generator, 8)], n_steps=2)
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    otherwise = generator.latents(condition, [noise(generator, 8, seed=9)], n_steps=2)
    assert not torch.allclose(otherwise, first)
    for name in generator.family.conditions:
        parts = {part: getattr(condition, part) for part in generator.family.conditions}
        changed = Condition(**{**parts, name: getattr(other, name)})
        found = generator.latents(changed, [noise(generator, 8)], n_steps=2)
        assert float((found - first).abs().max()) > 1e-4


def test_one_step_is_the_network_asked_once(generators: Generators) -> None:
    generator = generators["musicldm"]
    condition, x = _condition(generator), noise(generator, 8)
    assert condition.vector is not None
    unet = generator.denoiser.unet
    v = unet(x, 999, encoder_hidden_states=None, class_labels=condition.vector).sample
    level = generator.schedule.level(999)
    found = generator.latents(condition, [x], n_steps=1)
    torch.testing.assert_close(found, level.alpha * x - level.sigma * v)


def test_tokens_and_text_go_where_the_released_pipeline_puts_them(generators: Generators) -> None:
    generator = generators["audioldm2"]
    condition, x = _condition(generator), noise(generator, 8)
    v = generator.denoiser.unet(
        x,
        999,
        encoder_hidden_states=condition.tokens,
        encoder_hidden_states_1=condition.text,
        encoder_attention_mask_1=torch.ones(1, 32),
    ).sample
    level = generator.schedule.level(999)
    found = generator.latents(condition, [x], n_steps=1)
    torch.testing.assert_close(found, level.alpha * x - level.sigma * v, rtol=1e-4, atol=1e-5)


def test_guidance_of_one_is_none_and_more_leads_away(generators: Generators) -> None:
    generator = generators["musicldm"]
    condition, x = _condition(generator), [noise(generator, 8)]
    free = _zeros(condition)
    plain = generator.latents(condition, x, n_steps=1)
    unled = generator.latents(free, x, n_steps=1)
    led = generator.latents(condition, x, n_steps=1, guidance=2.0, unconditional=free)
    torch.testing.assert_close(led, unled + 2.0 * (plain - unled), rtol=1e-4, atol=1e-5)
    with pytest.raises(SettingError, match="unconditional"):
        generator.latents(condition, x, n_steps=1, guidance=2.0)


def test_a_start_is_kept_the_more_the_smaller_the_strength(generators: Generators) -> None:
    generator = generators["musicldm"]
    condition, x = _condition(generator), noise(generator, 8)
    start = noise(generator, 8, seed=5)
    far = [
        float(
            (generator.latents(condition, [x], n_steps=4, start=start, strength=s) - start).norm()
        )
        for s in (0.02, 0.3, 0.9)
    ]
    assert far == sorted(far)
    assert far[0] < 0.3 * float(start.norm())
    with pytest.raises(SettingError, match="begins from a sound"):
        generator.latents(condition, [x], n_steps=4, strength=0.5)


def test_a_mel_encodes_to_latents_of_its_length(generators: Generators) -> None:
    generator = generators["musicldm"]
    mel = generator.mel(noise(generator, 8))
    latents = generator.encode(mel)
    assert latents.shape == generator.latent_shape(8)
    expected = generator.decoder.vae.encode(mel[:, None]).latent_dist.mean
    scale = generator.decoder.vae.config.scaling_factor
    torch.testing.assert_close(latents, scale * expected)


def test_wrong_conditions_are_refused(generators: Generators) -> None:
    music, full = generators["musicldm"], generators["audioldm2"]
    unit = torch.nn.functional.normalize(torch.ones(1, 512))
    torch.testing.assert_close(music.checked(Condition(vector=unit)).vector, unit)
    with pytest.raises(SettingError, match="vector is missing"):
        music.checked(Condition(tokens=torch.zeros(1, 8, 768)))
    with pytest.raises(SettingError, match=r"shape \(any, 512\), got \(1, 511\)"):
        music.checked(Condition(vector=unit[:, 1:]))
    with pytest.raises(SettingError, match="length 1"):
        music.checked(Condition(vector=2.0 * unit))
    with pytest.raises(SettingError, match="length 1"):
        music.checked(Condition(vector=0.0 * unit))
    assert music.checked(Condition(vector=0.0 * unit), free=True).vector is not None
    with pytest.raises(SettingError, match="not finite"):
        music.checked(Condition(vector=unit * torch.nan))
    with pytest.raises(SettingError, match=r"tokens of shape \(any, 8, 768\), got \(1, 9, 768\)"):
        full.checked(Condition(tokens=torch.zeros(1, 9, 768), text=torch.zeros(1, 3, 1024)))
    with pytest.raises(SettingError, match=r"\(any, 512, 768\)"):
        generators["audioldm2-speech"].checked(Condition(tokens=torch.zeros(1, 8, 768)))


@pytest.mark.parametrize("n_frames", [0, 7, 12])
def test_lengths_that_the_network_cannot_halve_are_refused(
    n_frames: int, generators: Generators
) -> None:
    with pytest.raises(SettingError, match="multiple of 8 latent frames"):
        generators["musicldm"].latent_shape(n_frames)


def test_stretches_follow_one_another_without_a_step(generators: Generators) -> None:
    generator = generators["musicldm"]
    condition, n_prefix, n_new, fade = _condition(generator), 8, 8, 320
    state = generator.initial_state(n_prefix=n_prefix, fade=fade)
    sounds: list[Tensor] = []
    for number in range(4):
        x = noise(generator, n_prefix + n_new, seed=number)
        before = state
        sound, mel, state = generator.stretch(condition, state, [x], n_steps=2)
        assert sound.shape == (1, n_new * 640)
        assert mel.shape == (1, 4 * (n_prefix + n_new), 64)
        if number:
            # What was known came through the sampler as it was.
            seen = generator.latents(
                condition,
                [x],
                n_steps=2,
                known=torch.cat([before.latents, torch.zeros_like(x[:, :, n_prefix:])], dim=2),
                known_mask=(torch.arange(n_prefix + n_new) < n_prefix).float()[None, None, :, None],
            )
            torch.testing.assert_close(seen[:, :, :n_prefix], before.latents, rtol=0, atol=0)
        sounds.append(sound)
    assert state.n_known == n_prefix
    whole = torch.cat(sounds, dim=1)[0]
    steps = whole.diff().abs()
    joins = torch.arange(1, 4) * n_new * 640
    # The fade makes the join itself no larger a step than those around it.
    assert float(steps[joins - 1].max()) <= float(steps.max())
    assert float(whole[0].abs()) < 1e-6


def test_a_stretch_repeats_exactly_from_its_state(generators: Generators) -> None:
    generator = generators["audioldm2"]
    condition = _condition(generator)
    state = generator.stretch(
        condition, generator.initial_state(n_prefix=8), [noise(generator, 16)], n_steps=1
    ).state
    held = state.latents.clone(), state.tail.clone()
    first, second = (
        generator.stretch(condition, state, [noise(generator, 16, seed=4)], n_steps=1)
        for _ in range(2)
    )
    torch.testing.assert_close(first.sound, second.sound, rtol=0, atol=0)
    torch.testing.assert_close(state.latents, held[0], rtol=0, atol=0)
    torch.testing.assert_close(state.tail, held[1], rtol=0, atol=0)


def test_states_and_noises_that_do_not_fit_are_refused(generators: Generators) -> None:
    generator = generators["musicldm"]
    with pytest.raises(SettingError, match="fade"):
        generator.initial_state(n_prefix=1, fade=641)
    state = generator.initial_state(n_prefix=8)
    with pytest.raises(SettingError, match="prefix of 8 frames"):
        generator.stretch(_condition(generator), state, [noise(generator, 8)], n_steps=1)


@pytest.mark.parametrize("family", NAMES)
def test_the_graph_gives_what_the_generator_gives(
    family: FamilyName, generators: Generators
) -> None:
    generator = generators[family]
    condition, x = _condition(generator), noise(generator, 8)
    parts = [getattr(condition, name) for name in generator.family.conditions]
    _, expected = generator(condition, [x], n_steps=2)
    found = SoundGraph(generator, n_steps=2)(x, *parts)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(SettingError, match="tensors, got"):
        SoundGraph(generator, n_steps=2)(x)


def test_the_graph_takes_guidance_and_fresh_noise(generators: Generators) -> None:
    generator = generators["audioldm2"]
    condition, noises = _condition(generator), [noise(generator, 8, seed=s) for s in (1, 2)]
    free = _zeros(condition)
    parts = [getattr(c, name) for c in (condition, free) for name in generator.family.conditions]
    graph = SoundGraph(generator, n_steps=2, n_noises=2, guidance=2.0, sampler=ping_pong)
    latents = generator.latents(
        condition, noises, n_steps=2, guidance=2.0, unconditional=free, sampler=ping_pong
    )
    expected = generator.sound(generator.mel(latents))
    torch.testing.assert_close(graph(*noises, *parts), expected, rtol=0, atol=0)


def test_half_precision_computes_in_its_own_and_samples_in_single() -> None:
    generator = tiny_generator("musicldm")
    condition, x = _condition(generator), noise(generator, 8)
    expected = generator.latents(condition, [x], n_steps=2)
    generator.to(torch.bfloat16)
    found = generator.latents(generator.checked(condition), [x], n_steps=2)
    sound = generator.sound(generator.mel(found))
    assert found.dtype == sound.dtype == torch.float32
    assert float((found - expected).norm() / expected.norm()) < 0.1
