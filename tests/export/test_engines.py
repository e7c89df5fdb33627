from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from export.engines import check_engine_golden, device_facts, engine_folder, engine_key, need_device
from export.generator_files import GeneratorCard, GeneratorFile, GraphEntry
from export.runtime import has_provider
from models.errors import DeviceError, FileError
from models.stretch import GeneratorSpec

FACTS = {"gpu": "A", "driver": "570.1", "sm": "9.0", "tensorrt": "10.1", "cuda": "12.8"}
ENTRY = GraphEntry(4, "generator-4.onnx", (4, 1, 40, 32))
CARD = GeneratorCard(
    spec=GeneratorSpec("small", "tiny", 4, (4,), 4, ("vector",), startable=True),
    sampler="ping_pong",
    guidance=1.0,
    precision="fp32",
    graphs=(ENTRY,),
    state=(),
    silence=(0.0,) * 32,
    licence="for tests",
    files={
        "generator-4.onnx": GeneratorFile("1" * 64, 10, "live"),
        "generator.data": GeneratorFile("2" * 64, 10, "live"),
    },
)


def test_an_engine_belongs_to_all_that_it_depends_on(tmp_path: Path) -> None:
    first = engine_folder(tmp_path, CARD, ENTRY, FACTS)
    assert engine_folder(tmp_path, CARD, ENTRY, FACTS) == first
    folders = {first}
    for name in FACTS:
        folders.add(engine_folder(tmp_path, CARD, ENTRY, {**FACTS, name: "other"}))
    folders.add(engine_folder(tmp_path, dataclasses.replace(CARD, precision="fp16"), ENTRY, FACTS))
    longer = dataclasses.replace(ENTRY, noise=(2, 1, 40, 32))
    folders.add(engine_folder(tmp_path, CARD, longer, FACTS))
    for file in CARD.files:
        files = {**CARD.files, file: GeneratorFile("3" * 64, 10, "live")}
        card = dataclasses.replace(CARD, files=files)
        folders.add(engine_folder(tmp_path, card, ENTRY, FACTS))
    assert len(folders) == 1 + len(FACTS) + 4
    assert engine_key(CARD, ENTRY, FACTS).keys() > FACTS.keys()


def test_a_folder_of_another_engine_is_refused(tmp_path: Path) -> None:
    folder = engine_folder(tmp_path, CARD, ENTRY, FACTS)
    (folder / "engine.json").write_text("{}")
    with pytest.raises(FileError, match="another machine or generator"):
        engine_folder(tmp_path, CARD, ENTRY, FACTS)


def test_an_engine_must_sound_as_when_it_was_built(tmp_path: Path) -> None:
    folder = engine_folder(tmp_path, CARD, ENTRY, FACTS)
    sound = np.random.default_rng(0).standard_normal(2560).astype(np.float32)
    assert check_engine_golden(folder, sound) == 0.0
    assert check_engine_golden(folder, sound * np.float32(1.0 + 1e-5)) < 1e-3
    with pytest.raises(DeviceError, match="something else than when it was built"):
        check_engine_golden(folder, 1.01 * sound)
    with pytest.raises(DeviceError, match="not finite"):
        check_engine_golden(folder, np.full(2560, np.nan, np.float32))
    with pytest.raises(DeviceError, match="damaged golden"):
        check_engine_golden(folder, sound[:-1])


def test_a_device_is_refused_before_any_work() -> None:
    need_device("cpu")
    if has_provider("cuda"):
        pytest.skip("this ONNX Runtime knows CUDA")
    with pytest.raises(DeviceError, match="no support for tensorrt"):
        need_device("tensorrt")


def test_a_machine_without_nvidia_smi_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeviceError, match="no nvidia-smi"):
        device_facts()
