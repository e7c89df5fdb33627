"""Weights from files: what the original program computes comes out, or an error says why."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from calibration.embedders.choice import make_embedder
from calibration.embedders.clap import ClapEmbedder, small_random_clap
from calibration.embedders.speech import small_random_speech
from models.errors import FileError, SettingError
from models.frontends.audiomae import AudioMaeFbank
from models.nets.audiomae import AudioMaeConfig, AudioMaeEncoder

SOUND = (0.1 * np.random.default_rng(0).standard_normal(2 * 48_000)).astype(np.float32)
SPEECH = SOUND[:24_321]


def save_clap(folder: Path, *, fused: bool = False, fmin: float = 50.0) -> Path:
    made = small_random_clap(fused=fused, seed=3)
    made._model.save_pretrained(folder)
    made._tokenizer.save_pretrained(folder)
    transformers.ClapFeatureExtractor(
        frequency_min=fmin, truncation="fusion" if fused else "rand_trunc"
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("fused", "fmin"), [(False, 50.0), (False, 0.0), (True, 50.0)])
def test_clap_from_a_folder_is_what_transformers_computes(
    fused: bool, fmin: float, tmp_path: Path
) -> None:
    folder = save_clap(tmp_path / "clap", fused=fused, fmin=fmin)
    (folder / "README.md").write_text("---\ntags: [audio]\nlicense: apache-2.0\n---\nA card.\n")
    embedder: Any = make_embedder(f"clap:{folder}")
    assert embedder.licence == "apache-2.0 (its model card)"
    model: Any = transformers.ClapModel.from_pretrained(folder)
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    inputs = extractor(SOUND, sampling_rate=48_000, return_tensors="pt")
    inputs["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)  # it is drawn at random there
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        ["rain", "a dog barks twice"], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        sound = model.get_audio_features(**inputs).pooler_output.numpy()
        text = model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output.numpy()
    np.testing.assert_allclose(embedder.embed(SOUND, 48_000), sound[0], atol=1e-5)
    np.testing.assert_allclose(embedder.embed_texts(["rain", "a dog barks twice"]), text, atol=1e-5)
    assert embedder.embed_texts([]).shape == (0, 512)


def test_clap_averages_fixed_stretches_of_a_long_sound() -> None:
    embedder = make_embedder("clap-small-random")
    assert isinstance(embedder, ClapEmbedder)
    sound = (0.1 * np.random.default_rng(1).standard_normal(25 * 48_000)).astype(np.float32)
    sound *= np.linspace(0.1, 1.0, len(sound), dtype=np.float32)
    rows = embedder.embed_windows(sound, 48_000, [0.0, 7.5, 15.0], [10.0, 17.5, 25.0])
    mean = rows.mean(axis=0)
    row = embedder.embed(sound, 48_000)
    np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_array_equal(row, embedder.embed(sound, 48_000))


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_speech_models_from_a_folder_are_what_transformers_computes(
    kind: Any, tmp_path: Path
) -> None:
    small_random_speech(kind, seed=2)._model.save_pretrained(tmp_path)
    make_extractor: Any = transformers.Wav2Vec2FeatureExtractor
    extractor = make_extractor(do_normalize=True)
    inputs = extractor(SPEECH, sampling_rate=16_000, return_tensors="pt")["input_values"]
    model: Any = transformers.AutoModel.from_pretrained(tmp_path)
    with torch.inference_mode():
        layers = model(inputs, output_hidden_states=True).hidden_states
    for n_layers in (1, 2):
        expected = torch.stack(layers[-n_layers:]).mean(dim=(0, 2))[0].numpy()
        embedder = make_embedder(f"{kind}:{tmp_path}", n_layers=n_layers)
        np.testing.assert_allclose(
            embedder.embed(SPEECH, 16_000), expected / np.linalg.norm(expected), atol=1e-5
        )
    with pytest.raises(SettingError, match="1 to 3, got 4"):
        make_embedder(f"{kind}:{tmp_path}", n_layers=4)
    with pytest.raises(SettingError, match="at least 25 ms"):
        embedder.embed(SPEECH[:300], 16_000)


def test_another_model_or_half_a_model_is_refused(tmp_path: Path) -> None:
    speech = tmp_path / "hubert"
    small_random_speech("hubert")._model.save_pretrained(speech)
    with pytest.raises(FileError, match=r"'hubert', not 'clap'"):
        make_embedder(f"clap:{speech}")
    with pytest.raises(FileError, match=r"'hubert', not 'wav2vec2'"):
        make_embedder(f"wav2vec2:{speech}")
    clap = save_clap(tmp_path / "clap")
    weights = load_file(clap / "model.safetensors")
    del weights["audio_projection.linear1.weight"]
    save_file(weights, clap / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FileError, match=r"lacks 1 weights.*audio_projection.linear1.weight"):
        make_embedder(f"clap:{clap}")
    (clap / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(FileError, match="can be loaded"):
        make_embedder(f"clap:{clap}")
    (clap / "config.json").unlink()
    with pytest.raises(FileError, match=r"no config\.json"):
        make_embedder(f"clap:{clap}")


def test_weights_that_are_not_here_are_not_fetched_without_being_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import socket

    def no_network(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    for kind in ("clap", "hubert", "audiomae"):
        with pytest.raises(FileError, match=r"--download \(licence of the weights: see its model"):
            make_embedder(f"{kind}:hearback/there-is-no-such-model")
    with pytest.raises(FileError, match="no such folder or file"):
        make_embedder("clap:/there/is/no/such/folder")


def test_the_digest_follows_the_weights(tmp_path: Path) -> None:
    small_random_speech("hubert", seed=0)._model.save_pretrained(tmp_path)
    before = make_embedder(f"hubert:{tmp_path}").settings()
    small_random_speech("hubert", seed=1)._model.save_pretrained(tmp_path)
    assert make_embedder(f"hubert:{tmp_path}").settings() != before


def tokens_by_pytorch(model: AudioMaeEncoder, mel: NDArray[np.float32], last: int) -> Any:
    """Compute the encoder with PyTorch's own transformer layer, patch by patch."""
    dim, state = model.config.dim, model.state_dict()
    patches = torch.from_numpy(AudioMaeFbank.patches(mel))
    x = patches @ state["patch_embed.proj.weight"].reshape(dim, 256).T
    x = x + state["patch_embed.proj.bias"] + state["pos_embed"][0, 1:]
    x = torch.cat([state["cls_token"][0] + state["pos_embed"][0, :1], x])[None]
    norm = torch.nn.LayerNorm(dim, eps=1e-6)
    norm.load_state_dict({k.removeprefix("norm."): v for k, v in state.items() if k[:5] == "norm."})
    kept = []
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    for i in range(model.config.depth):
        layer = torch.nn.TransformerEncoderLayer(
            dim, model.config.n_heads, 4 * dim, dropout=0.0, activation="gelu",
            layer_norm_eps=1e-6, batch_first=True, norm_first=True,
        )  # fmt: skip
        layer.load_state_dict(
            {
                theirs + part: state[f"blocks.{i}.{ours}{part}"]
                for theirs, ours in names.items()
                for part in ("weight", "bias")
            }
        )
        x = layer.eval()(x)
        kept.append(norm(x))
    return torch.stack(kept[-last:]).mean(dim=0)[0]


@pytest.mark.parametrize("last", [1, 3])
def test_audiomae_is_a_vision_transformer_over_time_major_patches(last: int) -> None:
    torch.manual_seed(0)
    model = AudioMaeEncoder(AudioMaeConfig(dim=32, depth=4, n_heads=4)).eval()
    mel = AudioMaeFbank()(SPEECH)
    with torch.inference_mode():
        ours = model(torch.from_numpy(mel)[None], last_blocks=last)[0]
        theirs = tokens_by_pytorch(model, mel, last)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-5)


def audiomae_state(**changes: Any) -> dict[str, Any]:
    """All published names and shapes; an expanded zero takes no room in a file."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in AudioMaeEncoder().state_dict().items()}
    assert sum(shape.numel() for shape in shapes.values()) == 85_648_128
    assert shapes["pos_embed"] == (1, 513, 768)
    assert shapes["patch_embed.proj.weight"] == (768, 1, 16, 16)
    assert shapes["blocks.11.attn.qkv.weight"] == (2304, 768)
    state: dict[str, Any] = {
        key: torch.full((1,), 1e-3 * (1 + i % 7)).expand(shape)
        for i, (key, shape) in enumerate(shapes.items())
    }
    state["pos_embed"] = torch.linspace(-1, 1, 513 * 768).reshape(1, 513, 768)
    state.update(changes)
    return {key: value for key, value in state.items() if value is not None}


def test_audiomae_loads_the_published_layout_only_whole(tmp_path: Path) -> None:
    file = tmp_path / "pretrained.pth"
    options = argparse.Namespace(lr=1e-4, name="audiomae")  # as the published file has it
    decoder = {"decoder_embed.weight": torch.zeros(2, 2), "mask_token": torch.zeros(1, 1, 512)}
    torch.save({"model": audiomae_state(**decoder), "args": options, "epoch": 32}, file)
    embedder = make_embedder(f"audiomae:{file}", last_blocks=3)
    assert embedder.dim == 768
    assert embedder.embed(SPEECH, 16_000).shape == (768,)
    torch.save({f"encoder.{key}": value for key, value in audiomae_state().items()}, file)
    again = make_embedder(f"audiomae:{tmp_path}", last_blocks=3)
    np.testing.assert_array_equal(again.embed(SPEECH, 16_000), embedder.embed(SPEECH, 16_000))
    for changes, words in (
        ({"blocks.3.attn.qkv.bias": None}, "lacks blocks.3.attn.qkv.bias"),
        ({"cls_token": torch.zeros(1, 1, 1024)}, r"cls_token is \(1, 1, 1024\) instead of"),
        ({"blocks.12.norm1.weight": torch.zeros(768)}, "does not know: blocks.12"),
    ):
        torch.save({"model": audiomae_state(**changes)}, file)
        with pytest.raises(FileError, match=words):
            make_embedder(f"audiomae:{file}")


class _Trap:
    def __init__(self, sprung: Path) -> None:
        self._sprung = sprung

    def __reduce__(self) -> Any:
        return (Path.touch, (self._sprung,))


def test_a_file_of_weights_cannot_run_anything(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"model": {"cls_token": _Trap(tmp_path / "sprung")}}, file)
    with pytest.raises(FileError, match="read safely"):
        make_embedder(f"audiomae:{file}")
    assert not (tmp_path / "sprung").exists()
    file.write_bytes(b"no weights at all")
    with pytest.raises(FileError, match="read safely"):
        make_embedder(f"audiomae:{file}")
    torch.save([1, 2, 3], file)
    with pytest.raises(FileError, match="no table of weights"):
        make_embedder(f"audiomae:{file}")
    file.unlink()
    with pytest.raises(FileError, match="holds no weights"):
        make_embedder(f"audiomae:{tmp_path}")
