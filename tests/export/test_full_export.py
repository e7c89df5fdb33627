from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from calibration.generated.tuned_record import tuned_in_card
from export import full_export
from export.convert import convert_generator
from export.full_export import checkpoint_family, export_full
from export.generator import open_generator
from export.generator_folder import Checks
from export.parity import relative_error, run_stream
from export.sources import export_networks, kind_of
from export.tuned_checkpoint import NOTE_FILE, TunedCheckpoint
from models.errors import SettingError
from models.nets.full.loaders import load_full_generator
from models.nets.full.published import FamilyName
from models.nets.full.random_weights import save_checkpoint
from models.nets.full.stretches import FullTorchGenerator
from tests.models.nets.full.tiny import NAMES, shallow_generator, tiny_generator, with_room

CHECKS = Checks(conditions=5, streams=1)
_TUNED = TunedCheckpoint("ab" * 16, ("cd" * 16,))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="exporting needs onnxscript"
)
@pytest.mark.parametrize(("family", "told"), [("musicldm", True), ("audioldm2", False)])
def test_a_checkpoint_exports_with_parity_behind_the_same_call(
    family: FamilyName, told: bool, tmp_path: Path
) -> None:
    """One of them learnt to go on from a beginning, and to jump."""
    full = shallow_generator(family)
    if told:
        full = with_room(full, heard=0.3)
    text = np.random.default_rng(0).standard_normal((1, 3, 1024)).astype(np.float32)
    options = {
        "steps": 2,
        "stretches": (4,),
        "prefix": 4,
        "sampler": "ping_pong" if told else "ddim",
        "text": text if family == "audioldm2" else None,
    }
    folder = tmp_path / "exported"
    card = export_full(
        full,
        folder,
        name="shallow",
        licence="for tests",
        tuned=_TUNED if told else None,
        checks=CHECKS,
        **options,  # type: ignore[arg-type]
    )
    assert card.parity["failed"] == []
    assert bool(card.constants) is (family == "audioldm2")
    assert tuned_in_card(card) == (_TUNED.to_json() if told else {})
    assert {"single.4.denoiser.relative_l2", "single.4.vocoder.relative_l2"} <= set(
        card.parity["figures"]
    )
    generator = open_generator(folder)
    reference = FullTorchGenerator(full, name="shallow", **options)  # type: ignore[arg-type]
    expected, found = (
        np.concatenate(run_stream(each, [4, 4, 4], seed=4)) for each in (reference, generator)
    )
    assert float(expected.std()) > 0.01
    assert relative_error(found, expected) < 1e-4
    half = tmp_path / "half"
    checks = Checks(conditions=2, streams=1, accept=True)
    made = convert_generator(folder, half, precision="fp16", checks=checks)
    assert np.isfinite(made.parity["figures"]["half.stream.latents.relative_l2"])
    assert made.parity["figures"]["half.stream.latents.relative_l2"] < 0.05
    assert (half / "generator.data").stat().st_size < 0.75 * (
        folder / "generator.data"
    ).stat().st_size


@pytest.mark.parametrize("family", NAMES)
def test_the_family_of_a_folder_is_known_by_its_denoiser(
    family: FamilyName, tmp_path: Path
) -> None:
    save_checkpoint(tiny_generator(family), tmp_path)
    assert kind_of(tmp_path) == "full"
    assert checkpoint_family(tmp_path) == family
    loaded = load_full_generator(str(tmp_path), family, published=False)
    if family == "audioldm2":
        with pytest.raises(SettingError, match="context of a text"):
            export_full(loaded.generator, tmp_path / "o", name="it", licence=loaded.licence)
        assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("sampler", ["ping_pong", None])
def test_a_checkpoint_that_was_taught_to_jump_is_exported_so(
    sampler: Literal["ping_pong"] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tiny_generator("musicldm"), tmp_path)
    note = replace(_TUNED, sampler=sampler)
    (tmp_path / NOTE_FILE).write_text(json.dumps(note.to_json()), "utf-8")
    seen: dict[str, object] = {}
    monkeypatch.setattr(full_export, "export_full", lambda *_, **given: seen.update(given))
    export_networks(
        tmp_path,
        tmp_path / "out",
        kind="full",
        precision="fp32",
        steps=None,
        teacher=False,
        text=None,
        overwrite=False,
        checks=CHECKS,
    )
    assert seen["sampler"] == (sampler or "ddim")
    assert seen["tuned"] == note
