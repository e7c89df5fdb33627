from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.manifest import (
    FileEntry,
    Manifest,
    RetrievalChain,
    SemanticChain,
    check_manifest,
    manifest_from_json,
    manifest_to_json,
    plain_file_name,
)
from export.strict_json import parse_object
from models.errors import BundleError, SettingError
from models.spec import BandPowerSpec, InputSpec, PsdSpec, SampleSpec, StandardiseSpec, TrMeanSpec
from tests.export.bundles import (
    coarse_to_fine_parts,
    direct_parts,
    retrieval_parts,
    semantic_parts,
)


def manifest(parts: Any = None) -> Manifest:
    parts = parts or retrieval_parts()
    made: Manifest = replace(
        parts.manifest, files={name: FileEntry("0" * 64, 1) for name in parts.files}
    )
    return made


def changed(path: str, value: Any, parts: Any = None) -> bytes:
    """Return the manifest's text with one entry, given by its dotted path, set to `value`."""
    values = json.loads(manifest_to_json(manifest(parts)))
    *folders, last = path.split(".")
    place = values
    for name in folders:
        place = place[name]
    place[last] = value
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    "features",
    [
        PsdSpec(fmax_hz=40.0),
        BandPowerSpec(PsdSpec(method="periodogram", window_s=0.5)),
        SampleSpec(),
    ],
)
def test_every_feature_specification_comes_back(features: Any) -> None:
    made = replace(manifest(direct_parts()), features=features)
    assert manifest_from_json(manifest_to_json(made)) == made


@pytest.mark.parametrize("parts", [semantic_parts(), coarse_to_fine_parts()])
def test_a_chain_with_a_generator_comes_back(parts: Any) -> None:
    made = manifest(parts)
    assert manifest_from_json(manifest_to_json(made)) == made


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("chain.generator", "other.json", "must be 'generator.json'"),
        ("chain.embedding.dim", 400, "embeddings of 512"),
        ("chain.seed", -1, r"chain\.seed"),
        ("chain.seed", 1.5, "whole number"),
        ("chain.start.strength", 1.01, r"chain\.start\.strength"),
        ("chain.start.strength", None, "a number"),
        ("chain.start.latents", "absent.npy", r"chain\.start\.latents.*not in its files"),
        ("chain.start.library.audio", "a.flac", r"chain\.start\.library\.audio.*not in"),
        ("chain.start.latents", "library.npy", "are both 'library.npy'"),
        ("chain.start", {}, "lacks the entry 'strength'"),
        ("chain.start", 3, "an object"),
        ("chain.decoder", "absent.onnx", "not in its files"),
        ("chain.crossfade_s", 0.1, "unknown entry"),
    ],
)
def test_an_entry_of_a_semantic_chain_is_held_to_its_range(
    path: str, value: Any, words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        manifest_from_json(changed(path, value, semantic_parts()))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("chain.tokens.steps", 0, r"chain\.tokens\.steps"),
        ("chain.tokens.steps", 20_000, r"chain\.tokens\.steps"),
        ("chain.tokens.dim", 512, "tokens of 768"),
        ("chain.tokens", None, "an object"),
        ("chain.acoustic", "absent.onnx", "not in its files"),
        ("chain.acoustic", "decoder.onnx", "are both 'decoder.onnx'"),
    ],
)
def test_an_entry_of_a_coarse_to_fine_chain_is_held_to_its_range(
    path: str, value: Any, words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        manifest_from_json(changed(path, value, coarse_to_fine_parts()))


def test_a_semantic_chain_without_a_start_needs_no_library() -> None:
    text = changed("chain.start", None, semantic_parts())
    chain = manifest_from_json(text).chain
    assert isinstance(chain, SemanticChain)
    assert chain.start is None


def test_a_bold_manifest_comes_back() -> None:
    made = replace(
        manifest(),
        input=InputSpec("bold", 2000, 1 / 1.5, unit="a.u.", mask_sha256="a" * 64),
        features=TrMeanSpec(),
    )
    assert manifest_from_json(manifest_to_json(made)) == made


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("lagg_s", 1.0, "Did you mean 'lag_s'"),
        ("features.windows_s", 1.0, "Did you mean 'window_s'"),
        ("chain.decodr", "x", "Did you mean 'decoder'"),
        ("schema", 2, "Update hearback"),
        ("schema", "1", "whole number"),
        ("schema", True, "whole number"),
        ("modality", "bold", "modality"),
        ("input.n_channels", 3.0, "whole number"),
        ("input.n_channels", True, "whole number"),
        ("input.n_channels", 0, r"input\.n_channels"),
        ("input.n_channels", 4, "names 3 channels"),
        ("input.channels", ["Fz", "Fz", "Pz"], "twice"),
        ("input.channels", "Fz", "a list"),
        ("input.sfreq_hz", "250", "a number"),
        ("input.sfreq_hz", -1.0, r"input\.sfreq_hz"),
        ("input.sfreq_hz", "inf", "a number"),
        ("input.modality", "meg", "one of"),
        ("input.mask_sha256", "xyz", "hexadecimal"),
        ("features.kind", "wavelet", "one of"),
        ("features", {"kind": "tr_mean"}, "do not go with"),
        ("features.overlap", 1.0, r"features\.overlap"),
        ("features.segment_s", 5.0, r"features\.segment_s"),
        ("features.log10", 1, "true or false"),
        ("standardise.clip", -1.0, r"standardise\.clip"),
        ("standardise.mode", "none ", "one of"),
        ("lag_s", 1e9, "lag_s"),
        ("lag_s", None, "a number"),
        ("sound.sample_rate_hz", 10**7, r"sound\.sample_rate_hz"),
        ("sound.block_s", 0, r"sound\.block_s"),
        ("chain.kind", "other", "one of"),
        ("chain.embedding.dim", 0, r"chain\.embedding\.dim"),
        ("chain.decoder", "absent.onnx", "not in its files"),
        ("chain.library.audio", "absent.flac", "not in its files"),
        ("created", "yesterday", "ISO 8601"),
        ("name", "", "1 to 200"),
        ("name", "bell\u0007", "printable"),
        ("scores.deep", [[[[[[[[[[[[[1]]]]]]]]]]]]], "levels deep"),
        ("software.numpy", 2, "printable text"),
        ("files.x", {"sha256": "0" * 64, "bytes": 1}, "plain file name"),
        ("files", [], "an object"),
    ],
)
def test_an_entry_that_cannot_be_is_refused_by_name(path: str, value: Any, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        manifest_from_json(changed(path, value))


def test_a_bundle_without_the_newer_entries_is_read_and_means_the_same() -> None:
    made = replace(
        manifest(),
        input=InputSpec(modality="bold", n_channels=3, sfreq_hz=0.5, unit="a.u."),
        features=TrMeanSpec(),
        standardise=StandardiseSpec(prior_n=20.0),
    )
    values = json.loads(manifest_to_json(made))
    del values["standardise"]["forget_n"], values["standardise"]["learn"]
    del values["features"]["n_delays"]
    assert manifest_from_json(json.dumps(values).encode()) == made


@pytest.mark.parametrize(
    ("entry", "value"), [("forget_n", 0.5), ("forget_n", -1.0), ("learn", "std"), ("learn", 1)]
)
def test_what_is_forgotten_and_learned_is_held_to_its_range(entry: str, value: Any) -> None:
    with pytest.raises(BundleError, match=entry):
        manifest_from_json(changed(f"standardise.{entry}", value))


def test_a_missing_entry_is_named() -> None:
    values = json.loads(manifest_to_json(manifest()))
    del values["participant"]
    with pytest.raises(BundleError, match="lacks the entry 'participant'"):
        manifest_from_json(json.dumps(values).encode())


def test_a_mel_front_end_that_cannot_be_is_refused() -> None:
    with pytest.raises(BundleError, match="fmax_hz"):
        manifest_from_json(changed("chain.mel.fmax_hz", 9_000.0, direct_parts()))
    with pytest.raises(BundleError, match="n_mels"):
        manifest_from_json(changed("chain.mel.n_mels", 10**8, direct_parts()))


def test_mel_and_sound_have_one_rate() -> None:
    with pytest.raises(BundleError, match="sample_rate_hz is 16000"):
        manifest_from_json(changed("sound.sample_rate_hz", 48_000, direct_parts()))


def test_a_vocoder_that_is_not_known_is_refused() -> None:
    with pytest.raises(BundleError, match=r"chain\.vocoder\.kind.*'onnx'"):
        manifest_from_json(changed("chain.vocoder.kind", "onnx", direct_parts()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"a": "' + b"x" * 5_000 + b'"}',
        b'{"a": 99999999999999999999}',
        b'{"a": [' + b"0," * 250_000 + b"0]}",
        b"{} trailing",
        b" " * 5_000_000,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_json_that_is_not_strict_or_not_bounded_is_refused(data: bytes) -> None:
    with pytest.raises(SettingError):
        parse_object(data, "it", max_bytes=4_000_000)
    with pytest.raises(BundleError):
        manifest_from_json(data)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    path=st.sampled_from(
        (
            "name input features standardise chain sound lag_s scores files input.channels "
            "chain.library chain.embedding software schema created"
        ).split()
    ),
    value=_JSON,
)
def test_whatever_stands_in_a_manifest_it_is_read_or_refused(path: str, value: Any) -> None:
    try:
        made = manifest_from_json(changed(path, value))
    except BundleError:
        return
    assert manifest_from_json(manifest_to_json(made)) == made


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        manifest_from_json(data)


def test_names_of_files_are_plain() -> None:
    for name in ("decoder.onnx", "decoder.onnx.data", "a-b_c.npy", "README.md"):
        assert plain_file_name(name)
    for name in ("", "a", "a.py", "nul.txt", "x" * 99 + ".npy", "manifest.json", "Manifest.JSON"):
        assert not plain_file_name(name)


def test_two_names_that_one_disk_could_mix_up_are_refused() -> None:
    made = manifest()
    both = replace(made, files={**made.files, "Decoder.onnx": made.files["decoder.onnx"]})
    with pytest.raises(SettingError, match="upper and lower case"):
        check_manifest(both)


def test_a_chain_knows_its_kind() -> None:
    assert isinstance(manifest().chain, RetrievalChain)
    assert manifest().modality == "eeg"
