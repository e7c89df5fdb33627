"""Where published weights lie: a folder, or a hub id whose copy is here or may be fetched.

Nothing is ever fetched that was not asked for: a hub id is looked up in the local copies, and only
`download=True` (`--download`) goes to the network. The licence is shown either way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.embedders.base import needs_train
from models.errors import FileError, SettingError

__all__ = ["Weights", "checked_device", "find_weights", "load_transformers", "random_weights"]

logger = logging.getLogger(__name__)

# As their model cards say.
_KNOWN_LICENCES = {
    "laion/clap-htsat-unfused": "Apache-2.0",
    "laion/clap-htsat-fused": "Apache-2.0",
    "laion/larger_clap_general": "Apache-2.0",
    "laion/larger_clap_music": "Apache-2.0",
    "laion/larger_clap_music_and_speech": "Apache-2.0",
    "facebook/hubert-base-ls960": "Apache-2.0",
    "facebook/hubert-large-ls960-ft": "Apache-2.0",
    "facebook/wav2vec2-base-960h": "Apache-2.0",
    "facebook/wav2vec2-large-960h": "Apache-2.0",
    "gaunernst/vit_base_patch16_1024_128.audiomae_as2m": "CC-BY-NC-4.0 (non-commercial)",
    "hance-ai/audiomae": "CC-BY-NC-4.0 (non-commercial)",
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pth", "*.pt")


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that were found, and what a person should know of them."""

    name: str  # hub id, or name of the folder or file
    path: Path | None  # folder or file; None: random weights
    source: str
    licence: str
    seed: int = 0  # of random weights

    def digest(self) -> str:
        """Return the SHA-256 of all files of weights and their configuration."""
        if self.path is None:
            return f"random {self.seed}"
        total = hashlib.sha256()
        files = [self.path] if self.path.is_file() else _files_of(self.path)
        for file in files:
            with file.open("rb") as opened:
                total.update(hashlib.file_digest(opened, "sha256").digest())
        return total.hexdigest()


def random_weights(kind: str, seed: int) -> Weights:
    """Return what is said of random weights."""
    return Weights(
        name=f"{kind}-small-random",
        path=None,
        source=f"a small {kind} with random weights (seed {seed}): for trying things out only",
        licence="part of hearback (Apache-2.0); it has learnt nothing",
        seed=seed,
    )


def find_weights(place: str, *, download: bool, what: str) -> Weights:
    """Return where weights lie.

    Parameters
    ----------
    place : str
        A folder or file, or a hub id such as "laion/clap-htsat-unfused".
    download : bool
        Whether a hub id that is not on this machine may be fetched.
    what : str
        The model's name in messages.

    Raises
    ------
    FileError
        If they are not there, or could not be fetched.
    """
    path = Path(place).expanduser()
    if path.exists():
        found = Weights(path.name, path, f"{what} from {path}", _licence(path))
    elif _HUB_ID.fullmatch(place):
        folder = _fetch(place, what) if download else _local_copy(place, what)
        licence = _KNOWN_LICENCES.get(place) or _licence(folder)
        found = Weights(place, folder, f"{what} from the Hugging Face hub, {place}", licence)
    else:
        raise FileError(
            f"The weights of {what} are not at {place}: there is no such folder or file. Correct "
            "the path, or give a hub id of the form owner/name."
        )
    logger.info("%s. Licence of the weights: %s.", found.source, found.licence)
    return found


def checked_device(device: str, what: str) -> Any:
    """Return the torch device of this name.

    Raises
    ------
    SettingError
        If torch is not installed, or has no such device.
    """
    try:
        import torch
    except ImportError as error:
        raise needs_train("torch", what) from error
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise SettingError(
            f"{what} cannot run on the device {device!r}. Choose cpu, or cuda where there is one."
        ) from error
    return chosen


def load_transformers(
    model_class: str, weights: Weights, *, model_type: str, may_lack: tuple[str, ...] = ()
) -> Any:
    """Return a model of `transformers` with every weight from the folder, ready to evaluate.

    Parameters
    ----------
    model_class : str
        For example "ClapModel".
    weights : Weights
        In a folder.
    model_type : str
        As it stands in config.json.
    may_lack : tuple of str
        Ends of the names of weights that are not used here.

    Raises
    ------
    SettingError
        If transformers is not installed.
    FileError
        If the folder does not hold this model, or a weight is missing or has another shape.
    """
    try:
        import transformers
    except ImportError as error:
        raise needs_train("transformers", weights.name) from error
    if weights.path is None or not weights.path.is_dir():
        raise FileError(
            f"The weights of a {model_class} are a folder with config.json and model.safetensors, "
            f"but {weights.path} is a file."
        )
    _check_type(weights.path, model_type)
    with _quiet_transformers():
        try:
            model, info = getattr(transformers, model_class).from_pretrained(
                weights.path, local_files_only=True, output_loading_info=True
            )
        except Exception as error:  # of transformers, safetensors, pickle: no common base
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise FileError(
                f"{weights.path} does not hold a {model_class} that can be loaded: {reason} "
                "Copy the folder again, or give that of another model."
            ) from error
    # transformers fills what is missing with random numbers and goes on: nothing would show it.
    missing = [key for key in info["missing_keys"] if not key.endswith(may_lack or ("\n",))]
    wrong = [str(key) for key in info.get("mismatched_keys") or ()]
    if missing or wrong:
        raise FileError(
            f"{weights.path} lacks {len(missing)} weights of a {model_class} and has {len(wrong)} "
            f"of another shape, the first being {(missing + wrong)[0]}. It belongs to another "
            "model, or is not whole."
        )
    return model.eval()


def _check_type(folder: Path, model_type: str) -> None:
    """Refuse a folder of another model before transformers fills a whole network with chance."""
    file = folder / "config.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        found = said.get("model_type") if isinstance(said, dict) else None
    except (OSError, ValueError) as error:
        raise FileError(
            f"{folder} has no config.json that can be read, so it is not a folder of weights as "
            "transformers saves them. Copy the folder again."
        ) from error
    if found != model_type:
        raise FileError(f"{folder} holds a model of the type {found!r}, not {model_type!r}.")


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep progress bars and remarks of transformers off the terminal."""
    import transformers

    its_logging: Any = transformers.utils.logging
    level, bars = its_logging.get_verbosity(), its_logging.is_progress_bar_enabled()
    its_logging.set_verbosity_error()
    its_logging.disable_progress_bar()
    try:
        yield
    finally:
        its_logging.set_verbosity(level)
        if bars:
            its_logging.enable_progress_bar()


def _local_copy(place: str, what: str) -> Path:
    """Return the copy of a hub id on this machine."""
    hub = _hub(what)
    try:
        return Path(hub.snapshot_download(place, local_files_only=True))
    except (hub.errors.LocalEntryNotFoundError, OSError, ValueError) as error:
        licence = _KNOWN_LICENCES.get(place, "see its model card")
        raise FileError(
            f"The weights of {what}, {place}, are not on this machine. To fetch them from the "
            f"Hugging Face hub say --download (licence of the weights: {licence}), or give the "
            "folder of a copy."
        ) from error


def _fetch(place: str, what: str) -> Path:
    """Fetch a hub id, one format of its weights only; return its folder."""
    hub = _hub(what)
    try:
        names = hub.list_repo_files(place)
        unused = ["*.h5", "*.msgpack", "*.ot", "*.onnx", "*.tflite"]
        if any(name.endswith(".safetensors") for name in names):
            unused += ["*.bin", "*.pth", "*.pt"]
        logger.info("Fetching %s from the Hugging Face hub.", place)
        return Path(hub.snapshot_download(place, ignore_patterns=unused))
    except Exception as error:  # requests, httpx, hub and file errors have no common base
        raise FileError(
            f"The weights of {what}, {place}, could not be fetched: {error} Check the name and the "
            "network, or give the folder of a copy."
        ) from error


def _hub(what: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise needs_train("huggingface_hub", what) from error
    return huggingface_hub


def _licence(path: Path) -> str:
    """Return the licence that the model card beside the weights states."""
    folder = path if path.is_dir() else path.parent
    with contextlib.suppress(OSError, UnicodeDecodeError):
        card = (folder / "README.md").read_text(encoding="utf-8")
        stated = re.search(r"\A---\s.*?^license:\s*(\S+)", card, re.DOTALL | re.MULTILINE)
        if stated:
            return f"{stated[1]} (its model card)"
    return "not stated beside the weights; ask where they came from"


def _files_of(folder: Path) -> list[Path]:
    """Return the files that decide what a model computes, in order."""
    files = [path for pattern in (*_WEIGHTS, "*.json") for path in folder.glob(pattern)]
    return sorted(path for path in files if path.is_file())
