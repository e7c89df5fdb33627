from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.bundle import load_bundle, save_bundle
from export.chains import SemanticChain
from export.convert import convert_bundle, convert_generator, reexport
from export.generator import open_generator, read_generator_card
from export.generator_files import check_generator_files
from export.generator_folder import Checks
from export.manifest import EmbeddingSpec, SoundSpec
from export.onnx_linear import linear_onnx
from export.parity import mel_correlation, relative_error, run_stream
from export.runtime import open_decoder, open_runner
from models.errors import FileError, SettingError
from tests.export.bundles import N_FEATURES, retrieval_parts
from tests.export.plain_generator import LENGTHS

CHECKS = Checks(conditions=10, streams=1)


@pytest.fixture(scope="module")
def half(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half") / "generator"
    convert_generator(plain, folder, precision="fp16", checks=CHECKS)
    return folder


def test_half_precision_runs_on_the_cpu_and_keeps_its_bounds(plain: Path, half: Path) -> None:
    card = read_generator_card(half)
    assert card.precision == "fp16"
    assert card.parity["failed"] == []
    assert 0.0 < card.parity["figures"]["half.stream.latents.relative_l2"] <= 1e-2
    assert "half.stream.cosine_change" in card.parity["figures"]
    single, other = open_generator(plain), open_generator(half)
    lengths = [*LENGTHS, *LENGTHS]
    expected, found = (np.concatenate(run_stream(g, lengths, seed=1)) for g in (single, other))
    assert mel_correlation(found, expected) > 0.99
    assert relative_error(found, expected) > 1e-6  # it is another precision indeed
    sizes = [(folder / "generator.data").stat().st_size for folder in (plain, half)]
    assert sizes[1] < 0.51 * sizes[0]


def test_what_only_scores_is_kept_as_it_was(plain: Path, half: Path) -> None:
    assert (half / "encoder.onnx").read_bytes() == (plain / "encoder.onnx").read_bytes()
    check_generator_files(half, read_generator_card(half))


def test_the_same_precision_again_gives_the_same_graphs(plain: Path, tmp_path: Path) -> None:
    reexport(plain, tmp_path / "again", precision=None, checks=CHECKS)
    for name in ("generator.data", "generator-1.onnx", "generator-golden.npy"):
        assert (tmp_path / "again" / name).read_bytes() == (plain / name).read_bytes()


def test_precision_does_not_come_back(half: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot come back"):
        convert_generator(half, tmp_path / "out", precision="fp32", checks=CHECKS)
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_a_generator_is_replaced(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    with pytest.raises(FileError, match="is there already"):
        convert_generator(plain, out, precision="fp16", checks=CHECKS)
    with pytest.raises(FileError, match="no generator or bundle"):
        convert_generator(plain, out, precision="fp16", overwrite=True, checks=CHECKS)
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "thesis.txt"]


def test_a_bundle_without_a_generator_gets_a_decoder_in_half_precision(tmp_path: Path) -> None:
    parts = retrieval_parts()
    bundle = save_bundle(tmp_path / "bundle", parts.manifest, parts.files)
    made = convert_bundle(bundle, tmp_path / "half", precision="fp16", checks=CHECKS)
    assert set(made.manifest.files) == set(bundle.manifest.files)
    assert made.digest != bundle.digest
    open_decoder(made)
    features = np.ones((1, bundle.n_features), np.float32)
    before, after = (
        open_runner(b.file("decoder.onnx")).run({"features": features}) for b in (bundle, made)
    )
    assert 0.0 < relative_error(after["embedding"], before["embedding"]) < 1e-2
    assert reexport(tmp_path / "bundle", tmp_path / "same", precision=None) is None
    assert load_bundle(tmp_path / "same").manifest.files == bundle.manifest.files


def test_a_bundle_keeps_all_but_its_generator_and_decoder(plain: Path, tmp_path: Path) -> None:
    parts = retrieval_parts()
    rng = np.random.default_rng(0)
    decoder = linear_onnx(rng.standard_normal((N_FEATURES, 512)), np.zeros(512), normalise=True)
    files: dict[str, bytes | Path] = {
        **{name: plain / name for name in read_generator_card(plain).live_files()},
        "decoder.onnx": decoder,
        "standardise.npy": parts.files["standardise.npy"],
        "note.txt": b"kept",
    }
    manifest = replace(
        parts.manifest,
        chain=SemanticChain(EmbeddingSpec("clap", 512)),
        sound=SoundSpec(16_000, 0.64),
    )
    bundle = save_bundle(tmp_path / "bundle", manifest, files)
    card = reexport(bundle.path, tmp_path / "half", precision="fp16", checks=CHECKS)
    made = load_bundle(tmp_path / "half")
    assert card is not None
    assert card.precision == "fp16"
    assert made.digest != bundle.digest
    assert set(made.manifest.files) == set(bundle.manifest.files)
    assert (made.path / "note.txt").read_bytes() == b"kept"
    assert made.manifest.files["generator.data"] != bundle.manifest.files["generator.data"]
    assert made.manifest.files["decoder.onnx"] != bundle.manifest.files["decoder.onnx"]
    assert open_generator(made.path).card.precision == "fp16"
    open_decoder(made)
