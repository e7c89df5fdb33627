"""The networks, built from the model classes of diffusers and transformers; no pipelines.

Configurations are read strictly: an entry that the class does not know stops the loading, because a
network that was built without it would compute something else and say nothing.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from models.errors import FileError, SettingError
from models.nets.full.published import Network

__all__ = ["build", "build_on_meta", "checked_config"]

_CLASSES = {
    "UNet2DConditionModel": "diffusers.models.unets.unet_2d_condition",
    "AudioLDM2UNet2DConditionModel": "diffusers.pipelines.audioldm2.modeling_audioldm2",
    "AutoencoderKL": "diffusers.models.autoencoders.autoencoder_kl",
    "SpeechT5HifiGan": "transformers.models.speecht5.modeling_speecht5",
}
# Written by the libraries beside the configuration proper; nothing is computed from them.
_REMARKS = {
    "_class_name",
    "_diffusers_version",
    "_name_or_path",
    "_use_default_values",
    "architectures",
    "dtype",
    "model_type",
    "torch_dtype",
    "transformers_version",
}


def build(network: Network) -> nn.Module:
    """Return a network with the random weights of its class, ready to evaluate.

    Raises
    ------
    SettingError
        If diffusers or transformers is missing, or the configuration is not one of this class.
    """
    made = _class_of(network.class_name)
    config = checked_config(network.class_name, network.config, where="the configuration")
    with _quiet():
        try:
            if network.class_name == "SpeechT5HifiGan":
                from transformers import SpeechT5HifiGanConfig

                module: nn.Module = made(SpeechT5HifiGanConfig(**config))
            else:
                module = made(**config)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OSError) as error:
            raise SettingError(
                f"No {network.class_name} can be built from this configuration: {error}"
            ) from error
    return module.eval().requires_grad_(False)


def build_on_meta(network: Network) -> nn.Module:
    """Return a network without storage: names and shapes only, in a tenth of a second.

    Raises
    ------
    SettingError
        As `build`.
    """
    with torch.device("meta"):
        return build(network)


def checked_config(class_name: str, said: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return the entries of a configuration that the class takes.

    Parameters
    ----------
    class_name : str
    said : mapping
        As read from config.json.
    where : str
        Where it stands, for the message.

    Raises
    ------
    FileError
        If it is of another class, or has an entry that the class does not know.
    """
    named = said.get("_class_name") or (said.get("architectures") or [class_name])[0]
    if named != class_name:
        raise FileError(f"{where} describes a {named}, expected a {class_name}.")
    known = _parameters(class_name)
    for key in said:
        if key not in known and key not in _REMARKS:
            near = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f" Did it mean {near[0]!r}?" if near else ""
            raise FileError(
                f"{where} has the entry {key!r}, which {class_name} does not know here.{hint} "
                "A newer release may know it; otherwise take it out if it is a remark only."
            )
    return {key: value for key, value in said.items() if key in known}


def _parameters(class_name: str) -> set[str]:
    if class_name == "SpeechT5HifiGan":
        _class_of(class_name)
        from transformers import SpeechT5HifiGanConfig

        return {key for key in SpeechT5HifiGanConfig().to_dict() if key not in _REMARKS}
    return set(inspect.signature(_class_of(class_name).__init__).parameters) - {"self"}


def _class_of(name: str) -> Any:
    try:
        with _quiet():
            return getattr(importlib.import_module(_CLASSES[name]), name)
    except ImportError as error:
        raise SettingError(
            f"{name} needs diffusers and transformers, which could not be imported ({error}). "
            'Install them with: pip install "hearback[train]"'
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep remarks of diffusers about unused attributes off the terminal."""
    try:
        from diffusers.utils import logging as its_logging
    except ImportError:
        yield
        return
    level = its_logging.get_verbosity()
    its_logging.set_verbosity_error()
    try:
        yield
    finally:
        its_logging.set_verbosity(level)
