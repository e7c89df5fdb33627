from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.nets.codec import from_log
from models.nets.samplers import SamplerName, secants, uniform_times
from models.nets.stretch import (
    PREFIX,
    GeneratorNets,
    StretchGraph,
    TorchGenerator,
    small_spec,
)
from models.stretch import GeneratorInput
from tests.export.shallow import shallow_nets

HELD = 2
LENGTHS = (1, 3, 5)


@pytest.fixture(scope="module")
def nets() -> GeneratorNets:
    return shallow_nets()


@pytest.fixture(scope="module")
def generator(nets: GeneratorNets) -> TorchGenerator:
    return TorchGenerator(nets, steps=2, stretches=LENGTHS, held=HELD)


def _noise(generator: TorchGenerator, n_frames: int, seed: int = 0) -> NDArray[np.float32]:
    shape = generator.noise_shape(n_frames)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _unit(seed: int = 0) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(512).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


@given(lengths=st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=6))
@settings(max_examples=8, deadline=None)
def test_a_start_kept_as_it_is_sounds_as_codec_and_vocoder_make_it_in_any_stretches(
    lengths: list[int], nets: GeneratorNets, generator: TorchGenerator
) -> None:
    total = sum(lengths)
    latents = np.random.default_rng(3).standard_normal((total + HELD, 32)).astype(np.float32)
    state, sounds, at = generator.initial_state(), [], 0
    for n in lengths:
        start = latents[at : at + n + HELD]
        given_ = GeneratorInput(start=start, strength=0.0)
        sound, state = generator.stretch(given_, state, _noise(generator, n, at), n_frames=n)
        sounds.append(sound)
        at += n
    with torch.no_grad():
        silence = nets.codec.silence.expand(1, 25, -1)
        whole = torch.cat([silence, torch.from_numpy(latents[None, :total])], dim=1)
        mel = nets.codec.scaled_mel(whole * nets.codec.spread + nets.codec.centre)
        blocks, _ = nets.vocoder.step(mel, nets.vocoder.initial_state())
    expected = blocks.flatten(1)[0, 25 * 640 :].numpy()
    assert float(np.abs(expected).max()) > 0.01
    error = np.linalg.norm(np.concatenate(sounds) - expected) / np.linalg.norm(expected)
    assert float(error) < 1e-4
    known = min(total, PREFIX)
    np.testing.assert_allclose(
        state["prefix"][0, -known:], latents[total - known : total], atol=1e-5
    )
    assert state["begun"].item() == 1.0


@pytest.mark.parametrize(("sampler", "moment"), [("euler", 0.0), ("secants", -3.0)])
def test_one_step_from_noise_is_the_network_asked_once(
    sampler: SamplerName, moment: float, nets: GeneratorNets
) -> None:
    graph = StretchGraph(nets, n_frames=3, steps=1, held=HELD, sampler=sampler, probes=True).eval()
    inputs = dict(zip(graph.input_names, graph.example(), strict=True))
    inputs["vector"] = torch.from_numpy(_unit())[None]
    inputs["noise"] = torch.randn(graph.noise_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs = dict(zip(graph.output_names, graph(*inputs.values()), strict=True))
        x = torch.cat([torch.zeros(1, PREFIX, 32), inputs["noise"][0]], dim=1)
        velocity = nets.denoiser(
            x,
            torch.full((1,), moment),
            condition=inputs["vector"],
            tokens=torch.zeros(1, PREFIX + 5, 768),
            clean=nets.codec.silence.expand(1, PREFIX + 5, -1),  # heard before the first stretch
            known=PREFIX,
        )
    assert float(velocity.std()) > 0.1
    torch.testing.assert_close(outputs["probe.made"], (x + velocity)[:, -5:])
    torch.testing.assert_close(outputs["probe.velocity"], velocity[:, -5:])
    # Nothing was held back before the first stretch, so nothing is blended.
    torch.testing.assert_close(outputs["probe.latents"], outputs["probe.made"][:, :3])
    torch.testing.assert_close(outputs["next.held"], outputs["probe.made"][:, 3:])
    mel = nets.codec.scaled_mel(outputs["probe.latents"])
    assert mel.shape == outputs["probe.mel"].shape


def test_frames_held_back_are_blended_with_rising_shares(nets: GeneratorNets) -> None:
    graph = StretchGraph(nets, n_frames=3, steps=1, held=HELD, probes=True).eval()
    inputs = dict(zip(graph.input_names, graph.example(), strict=True))
    inputs["state.begun"] = torch.ones(1, 1)
    inputs["state.held"] = torch.randn(1, HELD, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        outputs = dict(zip(graph.output_names, graph(*inputs.values()), strict=True))
    made, new = outputs["probe.made"], outputs["probe.latents"]
    for place, share in enumerate((1 / 3, 2 / 3)):
        expected = share * made[:, place] + (1 - share) * inputs["state.held"][:, place]
        torch.testing.assert_close(new[:, place], expected)
    torch.testing.assert_close(new[:, HELD:], made[:, HELD:3])


@pytest.mark.parametrize(("sampler", "draws"), [("secants", 1), ("ping_pong", 2)])
def test_frames_held_back_are_made_again_of_the_same_noise(
    sampler: SamplerName, draws: int, nets: GeneratorNets
) -> None:
    generator = TorchGenerator(nets, steps=2, stretches=LENGTHS, held=HELD, sampler=sampler)
    first, second = (_noise(generator, n, seed=n) for n in (5, 3))
    assert len(first) == draws
    _, state = generator.stretch(
        GeneratorInput(vector=_unit()), generator.initial_state(), first, n_frames=5
    )
    np.testing.assert_array_equal(state["noise"], first[:, :, 5:])
    expected, after = generator.stretch(GeneratorInput(vector=_unit()), state, second, n_frames=3)
    np.testing.assert_array_equal(after["noise"], second[:, :, 3:])
    # What is given for these frames is not heard; what is given for the others is.
    for place, heard in ((HELD - 1, False), (HELD, True)):
        other = second.copy()
        other[:, :, place] += 1.0
        sound, _ = generator.stretch(GeneratorInput(vector=_unit()), state, other, n_frames=3)
        assert np.array_equal(sound, expected) != heard


def test_a_stretch_shorter_than_what_is_held_passes_its_noise_on(nets: GeneratorNets) -> None:
    generator = TorchGenerator(nets, steps=1, stretches=LENGTHS, held=HELD, sampler="euler")
    first, second = (_noise(generator, 1, seed=seed) for seed in (1, 2))
    _, state = generator.stretch(GeneratorInput(), generator.initial_state(), first, n_frames=1)
    _, state = generator.stretch(GeneratorInput(), state, second, n_frames=1)
    np.testing.assert_array_equal(state["noise"][0, 0, 0], first[0, 0, 2])
    np.testing.assert_array_equal(state["noise"][0, 0, 1], second[0, 0, 2])


def test_every_input_is_heard_and_none_is_changed(generator: TorchGenerator) -> None:
    state = generator.initial_state()
    _, state = generator.stretch(GeneratorInput(), state, _noise(generator, 5), n_frames=5)
    before = {name: value.copy() for name, value in state.items()}
    tokens = np.random.default_rng(1).standard_normal((8, 768)).astype(np.float32)
    start = np.random.default_rng(2).standard_normal((3 + HELD, 32)).astype(np.float32)
    first, _ = generator.stretch(
        GeneratorInput(vector=_unit()), state, _noise(generator, 3), n_frames=3
    )
    others = [
        (GeneratorInput(vector=_unit(1)), _noise(generator, 3)),
        (GeneratorInput(vector=_unit(), tokens=tokens), _noise(generator, 3)),
        (GeneratorInput(vector=_unit(), start=start, strength=0.5), _noise(generator, 3)),
        (GeneratorInput(vector=_unit()), _noise(generator, 3, seed=1)),
    ]
    for given_, noise in others:
        sound, _ = generator.stretch(given_, state, noise, n_frames=3)
        assert float(np.abs(sound - first).max()) > 1e-4
    again, _ = generator.stretch(
        GeneratorInput(vector=_unit()), state, _noise(generator, 3), n_frames=3
    )
    np.testing.assert_array_equal(again, first)
    for name, value in before.items():
        np.testing.assert_array_equal(state[name], value)


def test_guidance_leads_away_from_no_condition(nets: GeneratorNets) -> None:
    sounds = []
    for guidance in (1.0, 3.0):
        generator = TorchGenerator(
            nets, steps=1, stretches=(3,), held=HELD, sampler="euler", guidance=guidance
        )
        assert generator.noise_shape(3)[0] == 1
        free, led = (
            generator.stretch(
                GeneratorInput(vector=vector),
                generator.initial_state(),
                _noise(generator, 3),
                n_frames=3,
            )[1]["prefix"]
            for vector in (None, _unit())
        )
        sounds.append((free, led))
    (free, plain), (unled, led) = sounds
    np.testing.assert_allclose(free, unled, atol=1e-6)
    np.testing.assert_allclose(led - free, 3.0 * (plain - free), atol=1e-4)


@pytest.mark.parametrize("steps", [2, 4])
def test_steps_on_secants_are_those_of_the_sampler(steps: int, nets: GeneratorNets) -> None:
    graph = StretchGraph(nets, n_frames=3, steps=steps, held=HELD, probes=True).eval()
    inputs = dict(zip(graph.input_names, graph.example(), strict=True))
    inputs["vector"] = torch.from_numpy(_unit())[None]
    inputs["noise"] = torch.randn(graph.noise_shape, generator=torch.Generator().manual_seed(1))

    def velocity(x: torch.Tensor, moment: float) -> torch.Tensor:
        made: torch.Tensor = nets.denoiser(
            torch.cat([torch.zeros(1, PREFIX, 32), x], dim=1),
            torch.full((1,), moment),
            condition=inputs["vector"],
            tokens=torch.zeros(1, PREFIX + 5, 768),
            clean=nets.codec.silence.expand(1, PREFIX + 5, -1),
            known=PREFIX,
        )
        return made[:, PREFIX:]

    with torch.no_grad():
        outputs = dict(zip(graph.output_names, graph(*inputs.values()), strict=True))
        expected = secants(velocity, inputs["noise"][0], uniform_times(steps))
    torch.testing.assert_close(outputs["probe.made"], expected, atol=1e-5, rtol=1e-5)


def test_silent_frames_are_exact_silence(nets: GeneratorNets) -> None:
    quiet = shallow_nets()
    with torch.no_grad():
        quiet.codec.decoder.leave.weight.zero_()
        quiet.codec.decoder.leave.bias.fill_(-0.01)
    generator = TorchGenerator(quiet, steps=1, stretches=(3,), held=HELD)
    state = generator.initial_state()
    for seed in range(3):
        sound, state = generator.stretch(
            GeneratorInput(vector=_unit()), state, _noise(generator, 3, seed), n_frames=3
        )
        assert not sound.any()
    assert float(from_log(torch.tensor(np.log(1e-5)))) == pytest.approx(0.0, abs=1e-6)


def test_what_does_not_fit_is_refused(nets: GeneratorNets, generator: TorchGenerator) -> None:
    with pytest.raises(SettingError, match="at most 63 frames"):
        small_spec("tiny", steps=1, stretches=(60,), held=4)
    with pytest.raises(SettingError, match="stretches of 1, 3, 5"):
        generator.noise_shape(2)
    with pytest.raises(SettingError, match="another generator"):
        generator.stretch(GeneratorInput(), {}, _noise(generator, 1), n_frames=1)
