"""What tensors a checkpoint must have: names and shapes, compactly kept and exactly checked.

`layouts.json` keeps, for each published network, a digest of all names and shapes and a table of
its modules for people to read. The names themselves come from building the network without storage;
the digest makes sure that the installed diffusers or transformers still builds the same.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from torch import nn

from models.errors import FileError, SettingError
from models.nets.full.networks import build_on_meta
from models.nets.full.published import FAMILIES, VAE, VOCODER, Network

__all__ = [
    "Layout",
    "check_published",
    "check_tensors",
    "digest",
    "layout_of",
    "published_layouts",
    "summaries",
    "summary",
]

Layout = dict[str, tuple[int, ...]]

_FILE = Path(__file__).with_name("layouts.json")
_SHOWN = 5


def layout_of(module: nn.Module) -> Layout:
    """Return name and shape of every tensor that a network stores."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def digest(layout: Layout) -> str:
    """Return the SHA-256 of all names and shapes, one to a line, in alphabetical order."""
    lines = (f"{name} {'x'.join(map(str, layout[name]))}\n" for name in sorted(layout))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def summary(network: Network, layout: Layout) -> dict[str, Any]:
    """Return what `layouts.json` keeps of a network.

    Returns
    -------
    summary : dict
        class, values (parameters and buffers), tensors, digest, and modules: name to
        [tensors, values].
    """
    tensors: Counter[str] = Counter()
    values: Counter[str] = Counter()
    for name, shape in layout.items():
        parts = name.split(".")
        module = ".".join(parts[:2]) if len(parts) > 2 else parts[0]
        tensors[module] += 1
        values[module] += prod(shape)
    return {
        "class": network.class_name,
        "values": sum(values.values()),
        "tensors": len(layout),
        "digest": digest(layout),
        "modules": {module: [tensors[module], values[module]] for module in tensors},
    }


@cache
def published_layouts() -> dict[str, dict[str, Any]]:
    """Return the stored summaries, by "unet:FAMILY", "vae" and "vocoder"."""
    stored: dict[str, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return stored


def check_tensors(found: Mapping[str, tuple[int, ...]], expected: Layout, *, where: str) -> None:
    """Refuse a checkpoint with a tensor missing, too many, or of another shape.

    Parameters
    ----------
    found : mapping of str to tuple of int
        Names and shapes in the file.
    expected : mapping
        From `layout_of`.
    where : str
        The file, for the message.

    Raises
    ------
    FileError
        Naming the first wrong tensors, what was expected and what came.
    """
    wrong = [
        f"{name}: expected {_shape(expected.get(name))}, got {_shape(found.get(name))}"
        for name in sorted({*found, *expected})
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        more = f"\n  and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise FileError(
            f"{where} does not hold the network that its config.json describes; of "
            f"{len(expected)} tensors {len(wrong)} differ:\n  "
            + "\n  ".join(islice(wrong, _SHOWN))
            + f"{more}\nCopy the folder again, or give that of another model."
        )


def check_published(key: str, layout: Layout) -> None:
    """Refuse a network whose layout is not the published one.

    Raises
    ------
    SettingError
        Naming the first modules that differ.
    """
    stored = published_layouts()[key]
    if digest(layout) == stored["digest"]:
        return
    here = summary(Network(stored["class"], {}), layout)["modules"]
    differing = [
        f"{module}: expected {_module(stored['modules'].get(module))}, got "
        f"{_module(here.get(module))}"
        for module in {**stored["modules"], **here}
        if here.get(module) != stored["modules"].get(module)
    ]
    raise SettingError(
        f"The {stored['class']} is not the published {key} ({stored['values']:,} values):\n"
        "  "
        + "\n  ".join(differing[:_SHOWN] or ["the same modules, with other names or shapes inside"])
        + "\nLoad it with published=False if another size is meant; otherwise install the release "
        "of diffusers and transformers that hearback asks for."
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(tuple(shape))


def _module(counts: list[int] | None) -> str:
    return "none" if counts is None else f"{counts[0]} tensors of {counts[1]:,} values"


def _published() -> dict[str, Network]:
    unets = {f"unet:{name}": family.unet for name, family in FAMILIES.items()}
    return {**unets, "vae": VAE, "vocoder": VOCODER}


def summaries() -> dict[str, dict[str, Any]]:
    """Return the summaries of all published networks, built on the meta device."""
    return {
        key: summary(network, layout_of(build_on_meta(network)))
        for key, network in _published().items()
    }


if __name__ == "__main__":  # python -m models.nets.full.manifest > models/nets/full/layouts.json
    text = json.dumps(summaries(), indent=1)
    # One module to a line, so that a difference can be read.
    text = text.replace("[\n    ", "[").replace(",\n    ", ", ").replace("\n   ]", "]")
    sys.stdout.write(text + "\n")
