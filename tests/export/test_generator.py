from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.generator import golden_input, golden_noise, open_generator, read_generator_card
from export.generator_files import (
    GeneratorCard,
    card_to_json,
    check_generator_files,
    file_entry,
)
from export.npy import write_npy
from export.parity import relative_error, run_stream
from export.runtime import has_provider
from models.errors import BundleError, DeviceError, SettingError
from models.stretch import GeneratorInput
from tests.export.plain_generator import LENGTHS, SPEC, PlainGenerator

_SAME_MODULE = HealthCheck.function_scoped_fixture


def _copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def _rewrite(folder: Path, **changes: object) -> GeneratorCard:
    """Write the card again, with the digests of the files as they are now."""
    card = read_generator_card(folder)
    files = {name: file_entry(folder / name, file.role) for name, file in card.files.items()}
    card = dataclasses.replace(card, **{"files": files, **changes})  # type: ignore[arg-type]
    (folder / "generator.json").write_bytes(card_to_json(card))
    return card


@given(lengths=st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=9), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None, suppress_health_check=[_SAME_MODULE])
def test_streams_are_those_of_the_reference_in_any_sequence_of_lengths(
    lengths: list[int], seed: int, plain: Path
) -> None:
    generator = open_generator(plain)
    found = np.concatenate(run_stream(generator, lengths, seed=seed))
    expected = np.concatenate(run_stream(PlainGenerator(), lengths, seed=seed))
    assert float(np.abs(expected).max()) > 0.01
    assert relative_error(found, expected) < 1e-5


def test_a_state_belongs_to_its_stream_and_is_not_written_to(plain: Path) -> None:
    generator = open_generator(plain)
    given_ = golden_input(generator.spec)
    noise = golden_noise(generator.noise_shape(3))
    _, state = generator.stretch(given_, generator.initial_state(), noise, n_frames=3)
    held = {name: value.copy() for name, value in state.items()}
    first, _ = generator.stretch(given_, state, noise, n_frames=3)
    generator.stretch(given_, generator.initial_state(), 2.0 * noise, n_frames=3)
    again, _ = generator.stretch(given_, state, noise, n_frames=3)
    np.testing.assert_array_equal(again, first)
    for name, value in held.items():
        np.testing.assert_array_equal(state[name], value)


def test_a_damaged_or_incomplete_folder_is_refused(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No generator at"):
        open_generator(tmp_path)
    missing = _copy(plain, tmp_path / "missing")
    (missing / "generator-3.onnx").unlink()
    with pytest.raises(BundleError, match=r"lacks generator-3\.onnx"):
        open_generator(missing)
    changed = _copy(plain, tmp_path / "changed")
    data = bytearray((changed / "generator.data").read_bytes())
    data[1000] ^= 1
    (changed / "generator.data").write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"generator\.data should have sha256"):
        open_generator(changed)
    # What only scores sounds may be missing, but not be another file.
    part = _copy(plain, tmp_path / "part")
    (part / "encoder.onnx").unlink()
    open_generator(part)
    check_generator_files(part, read_generator_card(part))
    (part / "encoder.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        check_generator_files(part, read_generator_card(part))


def test_a_graph_that_is_not_the_cards_is_refused(plain: Path, tmp_path: Path) -> None:
    folder = _copy(plain, tmp_path / "swapped")
    shutil.copyfile(folder / "generator-1.onnx", folder / "generator-3.onnx")
    _rewrite(folder)
    with pytest.raises(BundleError, match=r"generator-3\.onnx: input"):
        open_generator(folder)


def test_a_graph_that_reads_another_file_is_refused(plain: Path, tmp_path: Path) -> None:
    folder = _copy(plain, tmp_path / "reaching")
    model = onnx.load(folder / "generator-1.onnx", load_external_data=False)
    outside = next(t for t in model.graph.initializer if t.external_data)
    outside.external_data[0].value = "../elsewhere.data"
    (folder / "generator-1.onnx").write_bytes(model.SerializeToString())
    _rewrite(folder)
    with pytest.raises(BundleError, match="elsewhere"):
        open_generator(folder)


def test_a_generator_that_computes_something_else_is_refused(plain: Path, tmp_path: Path) -> None:
    folder = _copy(plain, tmp_path / "other")
    card = read_generator_card(folder)
    rng = np.random.default_rng(0)
    golden = rng.standard_normal(sum(LENGTHS) * 640).astype(np.float32)
    (folder / card.golden_file).write_bytes(write_npy(golden))
    _rewrite(folder)
    with pytest.raises(DeviceError, match="computes something else"):
        open_generator(folder)
    (folder / card.golden_file).write_bytes(write_npy(golden[:-1]))
    _rewrite(folder)
    with pytest.raises(BundleError, match="samples, expected"):
        open_generator(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema 2"),
        ({"precision": "int8"}, "precision"),
        ({"surprise": 1}, "surprise"),
        ({"silence": [0.0]}, "latent of silence"),
        ({"graphs": []}, "stretches of"),
    ],
)
def test_a_card_that_cannot_be_is_refused(
    change: dict[str, object], says: str, plain: Path, tmp_path: Path
) -> None:
    values = json.loads((plain / "generator.json").read_text("utf-8")) | change
    (tmp_path / "generator.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(BundleError, match=says):
        read_generator_card(tmp_path)


def test_wrong_lengths_and_noises_are_refused(plain: Path) -> None:
    generator = open_generator(plain)
    with pytest.raises(SettingError, match="stretches of 1, 3"):
        generator.noise_shape(2)
    with pytest.raises(SettingError, match="noise of shape"):
        generator.stretch(
            GeneratorInput(), generator.initial_state(), np.zeros(3, np.float32), n_frames=1
        )


def test_a_device_that_is_not_there_falls_back_or_is_refused(
    plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if has_provider("cuda"):
        pytest.skip("this ONNX Runtime knows CUDA")
    generator = open_generator(plain, device="cuda")
    assert generator.device == "cpu"
    assert generator.providers == ("CPUExecutionProvider",)
    assert sum("runs on the CPU" in record.message for record in caplog.records) == 1
    with pytest.raises(DeviceError, match="cannot run on cuda"):
        open_generator(plain, device="cuda", strict=True)


def test_the_level_of_silence_is_told(plain: Path) -> None:
    figures = read_generator_card(plain).parity["figures"]
    sound, _ = PlainGenerator().stretch(
        golden_input(SPEC),
        PlainGenerator().initial_state(),
        golden_noise((1, 3, 32)),
        n_frames=3,
    )
    # These matrices do not know a start: what they say of silence is as loud as of anything.
    level = 20.0 * np.log10(np.sqrt(np.mean(sound**2)))
    assert figures["silence.level_dbfs"] == pytest.approx(float(level), abs=0.01)
