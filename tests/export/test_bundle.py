from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.bundle import load_bundle, save_bundle, standardise_file
from export.manifest import manifest_from_json, manifest_to_json
from models.errors import BundleError, FileError, SettingError
from tests.export.bundles import direct_parts, retrieval_parts, write_retrieval


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "whole"
    write_retrieval(folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    """Change the manifest and make its digest fit, as somebody who means it would."""
    values = json.loads((folder / "manifest.json").read_bytes())
    values.update(changes)
    data = json.dumps(values).encode()
    (folder / "manifest.json").write_bytes(data)
    line = f"{hashlib.sha256(data).hexdigest()}  manifest.json\n"
    (folder / "manifest.sha256").write_text(line)


def put(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and make the manifest fit it."""
    (folder / name).write_bytes(data)
    values = json.loads((folder / "manifest.json").read_bytes())
    values["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    rewrite_manifest(folder, files=values["files"])


@pytest.mark.parametrize("parts", [retrieval_parts(), direct_parts()], ids=["retrieval", "direct"])
def test_what_was_saved_is_loaded(parts: Any, tmp_path: Path) -> None:
    saved = save_bundle(tmp_path / "b", parts.manifest, parts.files)
    loaded = load_bundle(tmp_path / "b")
    assert loaded.manifest == saved.manifest == replace(parts.manifest, files=saved.manifest.files)
    assert set(loaded.manifest.files) == set(parts.files)
    assert loaded.n_features == 12
    assert loaded.read("standardise.npy", max_bytes=10_000) == parts.files["standardise.npy"]
    digest = (tmp_path / "b" / "manifest.sha256").read_text().split()
    assert digest == [saved.digest, "manifest.json"]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_changed_byte_of_any_file_is_refused(data: st.DataObject, whole: Path) -> None:
    path = whole / data.draw(st.sampled_from(sorted(os.listdir(whole))))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    mask = data.draw(st.integers(1, 255))
    try:
        path.write_bytes(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :])
        with pytest.raises(BundleError):
            load_bundle(whole)
    finally:
        path.write_bytes(content)
    load_bundle(whole)


@pytest.mark.parametrize("change", ["cut", "longer", "empty", "gone"])
@pytest.mark.parametrize(
    "name", ["manifest.json", "manifest.sha256", "decoder.onnx", "library.flac", "standardise.npy"]
)
def test_a_file_of_another_length_is_refused(copy: Path, name: str, change: str) -> None:
    content = (copy / name).read_bytes()
    if change == "gone":
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(
            {"cut": content[:-1], "longer": content + b"\0", "empty": b""}[change]
        )
    with pytest.raises(BundleError, match=r"manifest\.json|manifest\.sha256|" + name):
        load_bundle(copy)


def test_a_link_a_folder_or_a_surplus_file_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"notes\.txt"):
        load_bundle(copy)
    (copy / "notes.txt").unlink()
    (copy / "folder").mkdir()
    with pytest.raises(BundleError, match="folder"):
        load_bundle(copy)
    (copy / "folder").rmdir()
    (copy / "decoder.onnx").rename(tmp_path / "decoder.onnx")
    (copy / "decoder.onnx").symlink_to(tmp_path / "decoder.onnx")
    with pytest.raises(BundleError, match="link"):
        load_bundle(copy)


def test_a_pipe_is_refused_without_waiting_for_its_writer(copy: Path) -> None:
    (copy / "decoder.onnx").unlink()
    os.mkfifo(copy / "decoder.onnx")
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        load_bundle(copy)


@pytest.mark.parametrize(
    "name",
    ["../evil.npy", "/etc/x.npy", "a/b.npy", "..", ".hidden.npy", "x.pkl", "CON.npy", "a\0.npy"],
)
def test_a_name_that_is_not_plain_is_refused(copy: Path, name: str, tmp_path: Path) -> None:
    values = json.loads((copy / "manifest.json").read_bytes())
    values["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    rewrite_manifest(copy, files=values["files"])
    with pytest.raises(BundleError):
        load_bundle(copy)
    parts = retrieval_parts()
    with pytest.raises(SettingError):
        save_bundle(tmp_path / "b", parts.manifest, {**parts.files, name: b"x"})
    assert not (tmp_path / "b").exists()


def test_statistics_that_do_not_fit_are_refused(copy: Path) -> None:
    import numpy as np

    from export.npy import write_npy

    for values in (np.zeros((3, 4)), np.zeros((2, 4)), np.ones((2, 4), np.float32)):
        put(copy, "standardise.npy", write_npy(values))
        with pytest.raises(BundleError, match=r"standardise\.npy"):
            load_bundle(copy)
    put(copy, "standardise.npy", standardise_file(np.array([np.nan]), np.ones(1)))
    with pytest.raises(BundleError, match="finite"):
        load_bundle(copy)
    objects = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (2, 1), }"
    put(copy, "standardise.npy", objects.ljust(127) + b"\n" + b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(BundleError, match="float64"):
        load_bundle(copy)


def test_weights_outside_the_bundle_are_refused(copy: Path) -> None:
    import onnx

    model = onnx.load_from_string((copy / "decoder.onnx").read_bytes())
    for place in ("../secret.data", "/etc/passwd", "absent.data"):
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=place)
        put(copy, "decoder.onnx", model.SerializeToString())
        with pytest.raises(BundleError, match="reads weights from"):
            load_bundle(copy)


def test_nothing_is_left_behind_when_saving_fails(tmp_path: Path) -> None:
    parts = retrieval_parts()
    broken = {**parts.files, "library.npy": b"not an array"}
    with pytest.raises(BundleError, match=r"library\.npy"):
        save_bundle(tmp_path / "b", parts.manifest, broken)
    assert os.listdir(tmp_path) == []


def test_a_bundle_is_replaced_only_when_asked_and_nothing_else_ever(tmp_path: Path) -> None:
    parts = direct_parts()
    save_bundle(tmp_path / "b", parts.manifest, parts.files)
    with pytest.raises(FileError, match="already"):
        save_bundle(tmp_path / "b", parts.manifest, parts.files)
    renamed = replace(parts.manifest, name="second")
    save_bundle(tmp_path / "b", renamed, parts.files, overwrite=True)
    assert load_bundle(tmp_path / "b").manifest.name == "second"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "only_copy.txt").write_text("!")
    with pytest.raises(FileError, match="not a bundle"):
        save_bundle(tmp_path / "thesis", parts.manifest, parts.files, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["b", "thesis"]


def test_a_replaced_bundle_survives_a_failure(tmp_path: Path) -> None:
    parts = direct_parts()
    save_bundle(tmp_path / "b", parts.manifest, parts.files)
    wrong = replace(parts.manifest, lag_s=float("nan"))
    with pytest.raises(SettingError, match="lag_s"):
        save_bundle(tmp_path / "b", wrong, parts.files, overwrite=True)
    assert load_bundle(tmp_path / "b").manifest.lag_s == 0.2


def test_the_manifest_comes_back_as_it_was_written() -> None:
    manifest = load_like(retrieval_parts())
    assert manifest_from_json(manifest_to_json(manifest)) == manifest
    assert manifest_to_json(manifest) == manifest_to_json(manifest)


def load_like(parts: Any) -> Any:
    from export.manifest import FileEntry

    return replace(parts.manifest, files={n: FileEntry("0" * 64, 1) for n in parts.files})
