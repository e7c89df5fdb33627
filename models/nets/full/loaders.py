"""Full-size generators from a folder in diffusers layout: `unet`, `vae`, `vocoder`, `scheduler`.

Weights are read from safetensors, or from a pickle of tensors only (`weights_only`); nothing in a
folder is ever run. A hub id is fetched only when that is asked for.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import FileError, SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.manifest import Layout, check_published, check_tensors, layout_of
from models.nets.full.networks import build_on_meta, checked_config
from models.nets.full.prefix import has_room
from models.nets.full.published import (
    FAMILIES,
    SCHEDULER,
    VAE,
    VOCODER,
    FamilyName,
    Network,
    Part,
)
from models.nets.full.schedule import NoiseSchedule

__all__ = ["LoadedGenerator", "find_checkpoint", "load_full_generator"]

logger = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES: dict[Part, tuple[str, ...]] = {
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "vocoder": ("model.safetensors", "pytorch_model.bin"),
}
# Attention of autoencoders, as diffusers named it before release 0.17.
_RENAMED = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
_SCHEDULE_REMARKS = {
    "_class_name",
    "_diffusers_version",
    # What a scheduler of diffusers does with the levels; ours are our own.
    "clip_sample",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "interpolation_type",
    "rescale_betas_zero_snr",
    "sample_max_value",
    "set_alpha_to_one",
    "skip_prk_steps",
    "steps_offset",
    "thresholding",
    "timestep_spacing",
    "trained_betas",
}
# Those of them that would change what the network was trained on.
_MUST_BE_OFF = ("rescale_betas_zero_snr", "trained_betas", "thresholding", "clip_sample")


@dataclass(frozen=True, slots=True)
class LoadedGenerator:
    """A generator with its weights, and what a person should know of them."""

    generator: FullGenerator
    source: str
    licence: str


def load_full_generator(
    place: str,
    family: FamilyName,
    *,
    download: bool = False,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    published: bool = True,
) -> LoadedGenerator:
    """Return a generator with every weight from a folder, each checked by name and shape.

    Parameters
    ----------
    place : str
        Folder with unet/, vae/, vocoder/ and scheduler/, or a hub id.
    family : {"musicldm", "audioldm2", "audioldm2-speech"}
    download : bool
        Whether a hub id may be fetched.
    device : str
        Of torch: "cpu", "cuda".
    dtype : torch.dtype
        Of weights and activations; the sampler stays in float32.
    published : bool
        Whether the networks must be those of the published checkpoints; room for a beginning
        (`models.nets.full.prefix`) may have been made in the denoiser. False: of any size that the
        same classes can have, each as its own configuration describes.

    Raises
    ------
    SettingError
        If the family or the device is not known, a library is missing, or the networks are not the
        published ones.
    FileError
        If something is missing, damaged, or of another model.
    """
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SettingError(
            f"There is no full-size generator {family!r}; there are {', '.join(FAMILIES)}.{hint}"
        )
    chosen = _device(device)
    folder, licence = find_checkpoint(place, family, download=download)
    named = FAMILIES[family].title
    logger.info("%s from %s. Licence of the weights: %s.", named, folder, licence)
    unet = FAMILIES[family].unet.class_name
    keys = {"unet": f"unet:{family}", "vae": "vae", "vocoder": "vocoder"} if published else {}
    generator = FullGenerator(
        family,
        unet=_load(folder, "unet", unet, published=keys.get("unet")),
        vae=_load(folder, "vae", VAE.class_name, published=keys.get("vae")),
        vocoder=_load(folder, "vocoder", VOCODER.class_name, published=keys.get("vocoder")),
        schedule=_schedule(folder),
    )
    return LoadedGenerator(generator.to(device=chosen, dtype=dtype).eval(), str(folder), licence)


def find_checkpoint(place: str, family: FamilyName, *, download: bool) -> tuple[Path, str]:
    """Return the folder of a checkpoint, and the licence of its weights.

    Parameters
    ----------
    place : str
        Folder or hub id.
    family : str
        Whose licence is known; what a model card beside the weights says is added.
    download : bool
        Whether a hub id that is not on this machine may be fetched.

    Raises
    ------
    SettingError
        If huggingface_hub is missing.
    FileError
        If it is not there, or could not be fetched.
    """
    path = Path(place).expanduser()
    if not path.exists() and _HUB_ID.fullmatch(place):
        path = _from_hub(place, FAMILIES[family].licence, download=download)
    if not path.is_dir():
        raise FileError(
            f"{place} is no folder. Give the folder of a checkpoint, with unet, vae, vocoder and "
            f"scheduler in it, or a hub id such as {FAMILIES[family].hub_ids[0]}."
        )
    return path, _licence(path, FAMILIES[family].licence)


def _load(folder: Path, part: Part, class_name: str, *, published: str | None) -> nn.Module:
    """Return one network with its weights from its folder."""
    home = folder / part
    config = checked_config(
        class_name, _json(home / "config.json"), where=str(home / "config.json")
    )
    module = build_on_meta(Network(class_name, config))
    expected = layout_of(module)
    if published:
        check_published(published, _as_published(module, expected))
    file = next((home / name for name in _FILES[part] if (home / name).is_file()), None)
    if file is None:
        raise FileError(
            f"{home} holds no weights; expected {' or '.join(_FILES[part])}. Copy the folder "
            "whole, or fetch it again."
        )
    tensors = _tensors(file)
    if part == "vae":
        tensors = {_renamed(name): value for name, value in tensors.items()}
    check_tensors({name: tuple(v.shape) for name, v in tensors.items()}, expected, where=str(file))
    # The network has no storage yet; it takes the tensors as they are.
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.requires_grad_(False)


def _as_published(module: nn.Module, layout: Layout) -> Layout:
    """Return the layout without the room for a beginning, where fine-tuning has made it."""
    config: Any = module.config
    if not hasattr(config, "out_channels") or not has_room(module):
        return layout
    name = "conv_in.weight"
    first, _, *rest = layout[name]
    return {**layout, name: (first, int(config.out_channels), *rest)}


def _tensors(file: Path) -> dict[str, Tensor]:
    """Return all tensors of a file, without running anything in it."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(file)
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except ImportError as error:
        raise SettingError(
            'Reading weights needs safetensors. Install it with: pip install "hearback[train]"'
        ) from error
    except Exception as error:  # of safetensors, zipfile, pickle and torch: no common base
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise FileError(f"{file} cannot be read as weights: {reason} Fetch it again.") from error
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise FileError(f"{file} holds something else than a table of tensors. Fetch it again.")
    return loaded


def _schedule(folder: Path) -> NoiseSchedule:
    """Return the noise levels of scheduler_config.json, which must be of the known form."""
    file = folder / "scheduler" / "scheduler_config.json"
    said = _json(file)
    for key in said:
        if key not in SCHEDULER and key not in _SCHEDULE_REMARKS:
            raise FileError(
                f"{file} has the entry {key!r}, which is not known here. Expected the scheduler "
                "of MusicLDM or AudioLDM 2."
            )
    on = [key for key in _MUST_BE_OFF if said.get(key)]
    if on:
        raise FileError(
            f"{file} sets {on[0]} to {said[on[0]]!r}; only levels without it are known."
        )
    missing = [key for key in SCHEDULER if key not in said]
    if missing:
        raise FileError(f"{file} lacks {', '.join(missing)}. Copy the folder again.")
    if said["beta_schedule"] != SCHEDULER["beta_schedule"]:
        raise FileError(
            f"{file} has the beta schedule {said['beta_schedule']!r}, expected 'scaled_linear'."
        )
    if said["prediction_type"] not in ("epsilon", "v_prediction", "sample"):
        raise FileError(
            f"{file} has the prediction type {said['prediction_type']!r}, expected epsilon, "
            "v_prediction or sample."
        )
    try:
        schedule = NoiseSchedule(
            beta_start=float(said["beta_start"]),
            beta_end=float(said["beta_end"]),
            n_levels=int(said["num_train_timesteps"]),
            prediction=said["prediction_type"],
        )
    except (TypeError, ValueError) as error:
        raise FileError(f"{file} has a value that is no number: {error}.") from error
    if not (0.0 < schedule.beta_start <= schedule.beta_end < 1.0 and schedule.n_levels > 1):
        raise FileError(
            f"{file}: expected 0 < beta_start <= beta_end < 1, got {schedule.beta_start} and "
            f"{schedule.beta_end}, and at least 2 levels, got {schedule.n_levels}."
        )
    return schedule


def _json(file: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(
            f"{file} cannot be read ({error}). Expected a folder in diffusers layout, with "
            "unet, vae, vocoder and scheduler."
        ) from error
    if not isinstance(said, dict):
        raise FileError(f"{file} holds no table of settings.")
    return said


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


def _licence(folder: Path, known: str) -> str:
    """Return the licence, with what the files beside the weights say of it."""
    said = [known]
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
        stated = re.search(r"\A---\s.*?^license:\s*(\S+)", card, re.DOTALL | re.MULTILINE)
        if stated:
            said.append(f"its model card says {stated[1]}")
    except (OSError, UnicodeDecodeError):
        pass
    text = next((p for p in sorted(folder.glob("LICEN[SC]E*")) if p.is_file()), None)
    if text is not None:
        said.append(f"text in {text}")
    return "; ".join(said)


def _from_hub(place: str, licence: str, *, download: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SettingError(
            'A hub id needs huggingface_hub. Install it with: pip install "hearback[train]"'
        ) from error
    wanted = ["README.md", "LICEN*", "scheduler/*.json"]
    wanted += [
        f"{part}/{name}" for part, files in _FILES.items() for name in ("config.json", *files)
    ]
    try:
        if download:
            logger.info("Fetching %s from the Hugging Face hub (%s).", place, licence)
        return Path(snapshot_download(place, allow_patterns=wanted, local_files_only=not download))
    except Exception as error:  # requests, httpx, hub and file errors have no common base
        if download:
            raise FileError(
                f"{place} could not be fetched: {error} Check the name and the network, or give "
                "the folder of a copy."
            ) from error
        raise FileError(
            f"{place} is not on this machine. To fetch it from the Hugging Face hub say --download "
            f"(licence of the weights: {licence}), or give the folder of a copy."
        ) from error


def _device(device: str) -> torch.device:
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise SettingError(
            f"There is no device {device!r} here. Choose cpu, or cuda where there is a GPU."
        ) from error
    return chosen
