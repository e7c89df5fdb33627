from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.nets.codec import FRAMES_PER_LATENT, N_MELS
from models.nets.sizes import LATENT, make_codec, make_vocoder
from models.nets.streaming import Streamed

_FRAMES = 40


def _networks() -> Iterator[tuple[str, Streamed, int]]:
    torch.manual_seed(0)
    codec = make_codec("tiny")
    yield "encoder", codec.encoder, FRAMES_PER_LATENT * N_MELS
    yield "decoder", codec.decoder, LATENT
    yield "vocoder", make_vocoder("tiny"), N_MELS


_NETWORKS = {name: (network, inputs) for name, network, inputs in _networks()}


def _sound(inputs: int, seed: int = 0) -> Tensor:
    return torch.rand(2, _FRAMES, inputs, generator=torch.Generator().manual_seed(seed)) * 2.0


@pytest.mark.parametrize("name", _NETWORKS)
@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, _FRAMES), max_size=6))
def test_pieces_of_any_length_give_what_the_whole_gives(name: str, cuts: list[int]) -> None:
    network, inputs = _NETWORKS[name]
    x = _sound(inputs)
    with torch.no_grad():
        whole = network(x)
        state, out = network.initial_state(2), []
        edges = [0, *sorted({cut for cut in cuts if 0 < cut < _FRAMES}), _FRAMES]
        for first, stop in pairwise(edges):
            y, state = network.step(x[:, first:stop], state)
            out.append(y)
        if network.lookahead:
            y, state = network.step(torch.zeros(2, network.lookahead, inputs), state)
            out.append(y)
    late = torch.cat(out, dim=1)[:, network.lookahead :]
    scale = float(whole.abs().max())
    assert float((late - whole).abs().max()) <= 1e-5 * scale


@pytest.mark.parametrize("name", _NETWORKS)
def test_no_output_depends_on_what_lies_beyond_the_lookahead(name: str) -> None:
    network, inputs = _NETWORKS[name]
    x, changed = _sound(inputs), _sound(inputs)
    moment = 20
    changed[:, moment:] = _sound(inputs, seed=1)[:, moment:]
    with torch.no_grad():
        difference = (network(x) - network(changed)).abs().amax(dim=(0, 2))
    assert float(difference[: moment - network.lookahead].max()) == 0.0
    assert float(difference[moment]) > 0.0


def test_a_silent_mel_gives_exact_silence_after_a_sound() -> None:
    vocoder, inputs = _NETWORKS["vocoder"]
    x = _sound(inputs)
    x[:, 10:] = 0.0
    with torch.no_grad():
        sound = vocoder(x)
    assert float(sound[:, :10].abs().max()) > 0.0
    assert float(sound[:, 13:].abs().max()) == 0.0
