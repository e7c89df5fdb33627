from __future__ import annotations

import pytest
import torch
from torch import nn

from models.errors import FileError, SettingError
from models.nets.full.manifest import (
    check_published,
    check_tensors,
    digest,
    layout_of,
    published_layouts,
    summaries,
)
from models.nets.full.networks import build_on_meta
from models.nets.full.published import FAMILIES, VAE, VOCODER, FamilyName, Network


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("musicldm", 185_036_552),
        ("audioldm2", 346_943_496),
        ("audioldm2-speech", 261_926_536),
    ],
)
def test_denoisers_have_the_published_number_of_parameters(
    family: FamilyName, expected: int
) -> None:
    assert _count(build_on_meta(FAMILIES[family].unet)) == expected


def test_mel_decoder_and_vocoder_have_the_published_number_of_parameters() -> None:
    vae = build_on_meta(VAE)
    decoder = vae.get_submodule("decoder")
    # 33.0 M are the decoder alone; the convolution before it has 72 more, the encoder the rest.
    assert _count(decoder) == 32_981_505
    assert _count(vae.get_submodule("post_quant_conv")) == 72
    assert _count(vae) == 55_376_873
    assert _count(build_on_meta(VOCODER)) == 55_264_897


def test_installed_libraries_build_the_stored_layouts() -> None:
    assert summaries() == published_layouts()


def test_digest_sees_names_and_shapes_and_no_order() -> None:
    layout = {"a.weight": (2, 3), "b.weight": (4,)}
    assert digest(layout) == digest(dict(reversed(layout.items())))
    assert digest(layout) != digest({**layout, "b.weight": (2, 2)})
    assert digest(layout) != digest({"a.weight": (2, 3), "c.weight": (4,)})


def test_wrong_tensors_are_named_with_what_was_expected_and_came() -> None:
    expected = {"a": (2, 3), "b": (4,), "c": ()}
    with pytest.raises(FileError) as caught:
        check_tensors({"a": (3, 2), "c": (), "d": (1,)}, expected, where="unet.safetensors")
    said = str(caught.value)
    assert "unet.safetensors" in said
    assert "a: expected (2, 3), got (3, 2)" in said
    assert "b: expected (4,), got none" in said
    assert "d: expected none, got (1,)" in said
    assert "of 3 tensors 3 differ" in said


def test_only_the_first_of_many_wrong_tensors_are_named() -> None:
    with pytest.raises(FileError, match="and 95 more"):
        check_tensors({}, {f"w{i:03}": (1,) for i in range(100)}, where="x")


def test_another_size_is_not_the_published_one() -> None:
    other = Network(VOCODER.class_name, {**VOCODER.config, "upsample_initial_channel": 512})
    with pytest.raises(SettingError) as caught:
        check_published("vocoder", layout_of(build_on_meta(other)))
    assert "conv_pre: expected 2 tensors of 459,776 values, got 2 tensors of 229,888" in str(
        caught.value
    )


def test_no_network_keeps_anything_beside_its_tensors() -> None:
    # A buffer outside the file would stay without storage after loading.
    for network in (*(family.unet for family in FAMILIES.values()), VAE, VOCODER):
        module = build_on_meta(network)
        stored = set(module.state_dict())
        assert {name for name, _ in module.named_buffers()} <= stored
        assert all(value.device == torch.device("meta") for value in module.state_dict().values())
