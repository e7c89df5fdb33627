"""What was exported once, in another precision: a generator folder, or the whole of a bundle.

Works on the ONNX files; the networks and torch are not needed, the package onnx is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle, load_bundle, save_bundle
from export.chains import CoarseToFineChain, SemanticChain
from export.generator import open_generator
from export.generator_files import (
    DATA_FILE,
    GeneratorCard,
    check_generator_files,
    read_array,
    read_generator_card,
)
from export.generator_folder import Checks, Precision, finish_folder, replaced_folder
from export.onnx_linear import check_onnx
from export.onnx_store import save_alone, save_shared
from export.parity import relative_error
from export.precision import to_half
from export.runtime import Runner, open_runner
from models.errors import SettingError, StageError
from models.mel import MelSpec, log_mel

__all__ = ["convert_bundle", "convert_generator", "reexport"]

_DECODER_BOUND = 1e-2


def reexport(
    folder: Path,
    out: Path,
    *,
    precision: Precision | None,
    overwrite: bool = False,
    checks: Checks | None = None,
) -> GeneratorCard | None:
    """Write a bundle or a generator folder again.

    Parameters
    ----------
    folder, out : Path
    precision : {"fp32", "fp16"}, optional
        Default: as it is.
    overwrite : bool
        Replace what is at `out`.
    checks : Checks, optional

    Returns
    -------
    card : GeneratorCard or None
        Of the generator; None for a bundle without one.

    Raises
    ------
    HearbackError
        See `convert_generator`.
    """
    if not (folder / "manifest.json").is_file():
        now = read_generator_card(folder).precision
        return convert_generator(
            folder, out, precision=precision or now, overwrite=overwrite, checks=checks
        )
    bundle = load_bundle(folder)
    chain = bundle.manifest.chain
    name = chain.generator if isinstance(chain, SemanticChain | CoarseToFineChain) else None
    now = "fp32" if name is None else read_generator_card(folder, name=name).precision
    convert_bundle(bundle, out, precision=precision or now, overwrite=overwrite, checks=checks)
    return None if name is None else read_generator_card(out, name=name)


def convert_generator(
    folder: str | Path,
    out: str | Path,
    *,
    precision: Precision,
    overwrite: bool = False,
    checks: Checks | None = None,
) -> GeneratorCard:
    """Write a generator folder again, in another precision.

    Parameters
    ----------
    folder : str or Path
        With `generator.json`.
    out : str or Path
        Folder to make.
    precision : {"fp32", "fp16"}
    overwrite : bool
        Replace a generator that is there.
    checks : Checks, optional

    Raises
    ------
    SettingError
        If it would have to become more precise than it is.
    StageError
        If a bound is not kept.
    BundleError, FileError
        If what is there cannot be read, or the new folder not be written.
    """
    home = Path(folder)
    card = read_generator_card(home)
    check_generator_files(home, card)
    with replaced_folder(Path(out), overwrite=overwrite) as temporary:
        return _converted(home, card, temporary, precision, checks or Checks())


def convert_bundle(
    bundle: Bundle,
    out: str | Path,
    *,
    precision: Precision,
    overwrite: bool = False,
    checks: Checks | None = None,
) -> Bundle:
    """Write a bundle again with its generator and decoders in another precision.

    Everything else is kept, and all digests are made anew.

    Parameters
    ----------
    bundle : Bundle
    out : str or Path
        Folder to make.
    precision : {"fp32", "fp16"}
    overwrite : bool
        Replace a bundle that is there.
    checks : Checks, optional

    Raises
    ------
    SettingError, StageError, BundleError, FileError
        As `convert_generator`.
    """
    chain = bundle.manifest.chain
    files: dict[str, bytes | Path] = {name: bundle.path / name for name in bundle.manifest.files}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if isinstance(chain, SemanticChain | CoarseToFineChain):
            card = read_generator_card(bundle.path, name=chain.generator)
            made = folder / "generator"
            made.mkdir()
            new = _converted(bundle.path, card, made, precision, checks or Checks())
            files = {name: path for name, path in files.items() if name not in card.files}
            files |= {name: made / name for name in new.files}
            files[chain.generator] = made / "generator.json"
        if precision == "fp16":
            names = [chain.decoder]
            names += [chain.acoustic] if isinstance(chain, CoarseToFineChain) else []
            for name in names:
                half = folder / name
                _halve_decoder(bundle.path / name, half, name)
                files[name] = half
        return save_bundle(out, bundle.manifest, files, overwrite=overwrite)


def _converted(
    home: Path, card: GeneratorCard, folder: Path, precision: Precision, checks: Checks
) -> GeneratorCard:
    """Write all files of a generator into a folder, its graphs in another precision."""
    if card.precision == "fp16" and precision == "fp32":
        raise SettingError(
            f"{home.name} is in half precision; what was rounded cannot come back. Export the "
            "networks again with --precision fp32."
        )
    check_onnx()
    import onnx

    replaced = {DATA_FILE, card.state_file, card.golden_file, "card.md"}
    replaced |= {entry.file for entry in card.graphs}
    for name in card.files:
        if name not in replaced and (home / name).is_file():
            shutil.copyfile(home / name, folder / name)
    models: dict[str, Any] = {}
    for number, entry in enumerate(card.graphs):
        checks.progress("graphs", number, len(card.graphs))
        model = onnx.load(home / entry.file)
        models[entry.file] = to_half(model) if precision != card.precision else model
    save_shared(models, folder, DATA_FILE)
    flat = np.asarray(read_array(home, card, card.state_file, ndim=1))
    scores = [name for name, file in card.files.items() if file.role == "scores"]
    scores = [name for name in scores if (folder / name).is_file()]
    before = {
        name: value
        for name, value in dict(card.parity.get("figures", {})).items()
        if name.startswith("single.")
    }
    return finish_folder(
        folder,
        replace(card, precision=precision, files={}, parity={}),
        [flat],
        before,
        reference=open_generator(home),
        encode=_encoder(folder / "encoder.onnx"),
        scores=scores,
        checks=checks,
    )


def _encoder(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]] | None:
    """Return the encoder of the folder as a function of sound, if there is one."""
    if not path.is_file():
        return None
    runner = open_runner(path)
    frames = runner.inputs[0].shape[1]

    def encode(sound: NDArray[np.float32]) -> NDArray[np.float32]:
        mel = log_mel(sound, MelSpec())
        if frames is not None:
            mel = np.resize(mel, (frames, mel.shape[1]))  # repeated, or cut
        vector: NDArray[np.float32] = runner.run({"mel": mel[np.newaxis]})["vector"][0]
        return vector

    return encode


def _halve_decoder(path: Path, out: Path, name: str) -> None:
    """Write a decoder in half precision, after a look at what it gives.

    Raises
    ------
    StageError
        If that is too far from what it gave.
    """
    import onnx

    save_alone(to_half(onnx.load(path)), out)
    before, after = open_runner(path), open_runner(out)
    error = max(_difference(before, after, seed) for seed in range(8))
    if not error <= _DECODER_BOUND:
        raise StageError(
            f"{name} in half precision differs by {error:.2g}, at most {_DECODER_BOUND:g} was "
            "expected. Keep --precision fp32."
        )


def _difference(before: Runner, after: Runner, seed: int) -> float:
    rng = np.random.default_rng(seed)
    inputs = {
        item.name: rng.standard_normal([n or 1 for n in item.shape]).astype(item.dtype)
        for item in before.inputs
    }
    expected, found = before.run(inputs), after.run(inputs)
    return max(relative_error(found[name], expected[name]) for name in expected)
