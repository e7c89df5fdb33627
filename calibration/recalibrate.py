"""Take new recordings into a decoder that was fitted before, in a second, without the old ones.

`hearback calibrate --updatable` keeps what this needs beside the bundle; `--update BUNDLE` uses it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from calibration.bundle_decoder import decoder_file
from calibration.bundle_out import CALIBRATION_FILE
from calibration.bundle_reading import bundle_samples, read_about
from calibration.config import CalibrationSettings
from calibration.decoders import Decoder, LinearDecoder, make_decoder
from calibration.outer import Fit, inner_groups
from calibration.plan import Plan
from calibration.steps import array_digest
from calibration.whole_file import write_whole
from export.bundle import load_bundle, save_bundle
from export.manifest import DirectChain
from models.errors import FileError, SettingError
from models.ridge.estimator import Ridge
from models.ridge.selected import SelectedRidge
from models.ridge.selected_state import SelectedState
from models.ridge.update import DecoderState, decoder_state, state_from_arrays, update

__all__ = ["keep_state", "update_bundle"]

_STATE_FILE = "update.npz"
_TOO_MANY = 2_000  # rows of an update; more are a calibration of their own


def keep_state(folder: Path, fit: Fit, plan: Plan) -> None:
    """Write what an update needs, into the folder of kept steps.

    Raises
    ------
    SettingError
        If the decoder is of a kind that cannot be updated.
    FileError
        If it cannot be written.
    """
    decoder: Decoder = fit.decoder
    x, y = fit.train.x[:, 0], fit.train.y
    if isinstance(decoder, LinearDecoder):  # from a kept step, which does not hold all of it
        decoder = make_decoder(plan.decoder).fit(x, y, groups=inner_groups(fit.train, plan))
    if not isinstance(decoder, (Ridge, SelectedRidge)):
        raise SettingError(
            f"A decoder {plan.decoder.kind!r} cannot be updated; 'ridge' and 'selected' can."
        )
    _write_state(folder / _STATE_FILE, decoder_state(decoder, x, y))


def _write_state(path: Path, state: DecoderState) -> None:
    arrays: dict[str, Any] = state.arrays()
    write_whole(path, lambda file: np.savez(file, **arrays))


def update_bundle(
    bundle_path: Path,
    dataset_path: Path,
    out: Path,
    *,
    participant: str | None,
    settings: CalibrationSettings,
    progress: Callable[[str, float, float], None] | None = None,
) -> dict[str, Any]:
    """Write a bundle whose decoder has learnt from new recordings as well.

    Penalties, voxels, lag and statistics stay those of the calibration; what is solved anew is
    exactly what a fit on all recordings with these choices would give.

    Parameters
    ----------
    bundle_path : Path
        Made with `--updatable`.
    dataset_path : Path
        Recordings of the same participant; those that it was fitted on are left out.
    out : Path
        Folder of the new bundle.
    participant : str, optional
    settings : CalibrationSettings
        Its table data is used.
    progress : callable, optional

    Returns
    -------
    values : dict
        JSON values: windows taken in, seconds for it, and the scores from before.

    Raises
    ------
    FileError
        If the bundle was not made with `--updatable`.
    SettingError
        If there is nothing new, or far too much for an update.
    """
    tell = progress or (lambda _what, _done, _total: None)
    tell("reading", 0, 1)
    bundle = load_bundle(bundle_path)
    about, rows = read_about(bundle)
    kept = bundle_path.with_name(bundle_path.name + ".steps") / _STATE_FILE
    if not kept.is_file():
        raise FileError(
            f"Bundle {bundle_path.name!r} has nothing kept for updates. Calibrate it again with "
            "--updatable, and keep the folder beside it."
        )
    heard = bundle_samples(
        bundle, about, rows, dataset_path, participant=participant, settings=settings
    )
    if heard.leaky:
        raise SettingError(
            f"The bundle was fitted on all runs of {dataset_path.name}. Give new recordings."
        )
    separate = heard.samples.separate()
    if len(separate) > _TOO_MANY:
        raise SettingError(
            f"{len(separate)} new windows are a calibration of their own, up to {_TOO_MANY} can be "
            "taken in. Run hearback calibrate on all recordings."
        )
    with kept.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        state = state_from_arrays({name: stored[name] for name in stored.files})
    tell("taking in", 0, 1)
    began = time.perf_counter()
    new = update(state, separate.x[:, 0], separate.y - rows[0])
    chain = bundle.manifest.chain
    sparse = isinstance(new, SelectedState) and not isinstance(chain, DirectChain)
    weights, bias = new.values() if isinstance(new, SelectedState) and sparse else new.weights()
    update_s = time.perf_counter() - began
    about["trained_on"] = [*about["trained_on"], *(array_digest(run.signal) for run in heard.runs)]
    about["n_taken_in"] = int(about.get("n_taken_in", 0)) + len(separate)
    manifest = replace(
        bundle.manifest,
        scores={**bundle.manifest.scores, "windows_taken_in_since": about["n_taken_in"]},
    )
    files: dict[str, bytes | Path] = {
        name: bundle.file(name) for name in bundle.manifest.files if name != "decoder.onnx"
    }
    files[CALIBRATION_FILE] = (json.dumps(about, indent=1) + "\n").encode()
    files["decoder.onnx"] = decoder_file(
        weights,
        bias,
        rows[0],
        chain,
        indices=new.indices if isinstance(new, SelectedState) and sparse else None,
        n_features=bundle.n_features,
    )
    save_bundle(out, manifest, files, overwrite=True)
    _write_state(out.with_name(out.name + ".steps") / _STATE_FILE, new)
    return {
        **bundle.manifest.scores,
        "windows_taken_in": len(separate),
        "update_s": round(update_s, 4),
        "out": str(out),
    }
