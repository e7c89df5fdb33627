"""What a stream says about itself, read strictly and in bounds: a description is foreign input."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from models.errors import SourceError

__all__ = [
    "COUNTER_LABEL",
    "COUNTER_MODULO",
    "BoldInfo",
    "SourceInfo",
    "parse_bold",
    "read_info",
    "unit_scale",
]

_LOG = logging.getLogger(__name__)

COUNTER_LABEL = "counter"
COUNTER_MODULO = 2**24  # every whole number up to here is exact in float32

_MAX_CHANNELS = 1_000_000
_MAX_LABEL = 256  # characters
_MAX_XML = 64 * 2**20  # characters; 65,000 labelled channels take some 8 MB

_FORMATS = {
    1: "float32",
    2: "double64",
    3: "string",
    4: "int32",
    5: "int16",
    6: "int8",
    7: "int64",
}
# Largest modulo at which each format still holds every count exactly.
_EXACT = {
    "float32": 2**24,
    "double64": 2**53,
    "int32": 2**31,
    "int16": 2**15,
    "int8": 2**7,
    "int64": 2**53,
}
_VOLTS = {
    **dict.fromkeys(("v", "volt", "volts"), 1.0),
    **dict.fromkeys(("mv", "millivolt", "millivolts"), 1e-3),
    **dict.fromkeys(("uv", "microvolt", "microvolts", "mcv"), 1e-6),
    **dict.fromkeys(("nv", "nanovolt", "nanovolts"), 1e-9),
    **dict.fromkeys(("pv", "picovolt", "picovolts"), 1e-12),
}
_NOT_VOLTS = {"", "a.u.", "au", "count", "counts", "none", "na", "n/a"}


@dataclass(frozen=True, slots=True, eq=False)
class BoldInfo:
    """Where the voxels of a BOLD stream lie, and when its volumes are taken."""

    shape: tuple[int, int, int]  # of the whole volume, in voxels
    affine: NDArray[np.float64]  # (4, 4) voxel index -> mm
    tr_s: float
    mask_sha256: str = ""  # digest of the mask, as `order` flattens it
    order: str = "C"


@dataclass(frozen=True, slots=True, eq=False)
class SourceInfo:
    """A stream as it describes itself; the counter channel, if any, is already taken out."""

    name: str
    type: str
    n_channels: int  # without the counter
    labels: tuple[str, ...]  # (n_channels,); for BOLD empty: voxels have no names
    unit: str  # as it was sent
    scale: float  # sent values times this are V (BOLD: 1.0, scanner units)
    sfreq_hz: float  # nominal; 0: irregular
    format: str  # "float32", "double64", "int16", ..., "string"
    source_id: str = ""
    hostname: str = ""
    uid: str = ""
    counter_channel: int | None = None  # column of the counter in what is sent
    counter_modulo: int = COUNTER_MODULO
    first_index: int | None = None  # count of the first sample that the sender sent or will send
    speed: float = 1.0  # a replay runs this much faster than the recording
    recorded_sfreq_hz: float = 0.0  # rate of the recording behind a replay; else the nominal rate
    bold: BoldInfo | None = None
    scales: NDArray[np.float64] | None = field(default=None, repr=False)  # if units are mixed
    desc_xml: str = field(default="", repr=False)

    @property
    def n_sent(self) -> int:
        """Channels of the stream itself, counter included."""
        return self.n_channels + (self.counter_channel is not None)

    @property
    def unit_known(self) -> bool:
        """Whether `scale` comes from the unit; else the values are taken as they are."""
        return self.bold is not None or self.type == "BOLD" or unit_scale(self.unit) is not None

    @property
    def described(self) -> str:
        """One phrase that tells a person which stream this is."""
        rate = f" at {self.sfreq_hz:g} Hz" if self.sfreq_hz else ""
        plural = "s" if self.n_channels != 1 else ""
        return f"'{self.name}' ({self.type or 'no type'}, {self.n_channels} channel{plural}{rate})"


def unit_scale(unit: str) -> float | None:
    """Return the factor from `unit` to volts, or None when it is no unit of voltage."""
    plain = unit.strip().lower().replace("\N{MICRO SIGN}", "u")
    return _VOLTS.get(plain.replace("\N{GREEK SMALL LETTER MU}", "u"))


def read_info(info: Any) -> SourceInfo:
    """Read a `pylsl.StreamInfo`, with its extended description if it carries one.

    Raises
    ------
    SourceError
        If the description is damaged, contradicts itself or is beyond all bounds.
    """
    name, n_sent = _clean(info.name()), int(info.channel_count())
    if not 1 <= n_sent <= _MAX_CHANNELS:
        raise SourceError(
            f"Stream '{name}' has {n_sent} channels; expected 1 to {_MAX_CHANNELS:,}."
        )
    kind, sfreq = _clean(info.type()), float(info.nominal_srate())
    if not (math.isfinite(sfreq) and 0 <= sfreq <= 1e7):
        raise SourceError(f"Stream '{name}' has the sampling rate {sfreq}; expected 0 to 1e7 Hz.")
    form = _FORMATS.get(int(info.channel_format()), "undefined")
    if form == "undefined":
        raise SourceError(f"Stream '{name}' has no usable sample format.")
    xml = info.as_xml()
    desc = _parse_desc(xml, name)
    labels, units, kinds = _channels(desc, n_sent, name)
    counter = _find_counter(labels, kinds, form)
    ours = desc.find("hearback") if desc is not None else None
    modulo = _number(ours, "counter_modulo", min(COUNTER_MODULO, _EXACT.get(form, 2)), name)
    if counter is not None and not (2 <= modulo <= _EXACT[form] and modulo == int(modulo)):
        raise SourceError(
            f"Stream '{name}' counts modulo {modulo:g}, but {form} counts exactly only up to "
            f"{_EXACT[form]}."
        )
    data = slice(0, n_sent - (counter is not None))
    unit, scale, scales = _units(units[data], kinds[data], kind)
    speed = _number(ours, "speed", 1.0, name)
    if not speed > 0:
        raise SourceError(f"Stream '{name}' says it runs at speed {speed:g}; expected above 0.")
    first = _number(ours, "first_index", -1.0, name)
    n_channels = data.stop
    bold = parse_bold(desc, n_channels, name=name) if kind.upper() == "BOLD" else None
    return SourceInfo(
        name=name,
        type=kind,
        n_channels=n_channels,
        labels=() if bold is not None else tuple(labels[data]),
        unit=unit,
        scale=scale,
        sfreq_hz=sfreq,
        format=form,
        source_id=_clean(info.source_id()),
        hostname=_clean(info.hostname()),
        uid=_clean(info.uid()),
        counter_channel=counter,
        counter_modulo=int(modulo),
        first_index=int(first) if first >= 0 else None,
        speed=speed,
        recorded_sfreq_hz=_number(ours, "recorded_srate", sfreq, name),
        bold=bold,
        scales=scales,
        desc_xml=xml,
    )


def parse_bold(
    desc: ElementTree.Element | None, n_channels: int, *, name: str = "BOLD"
) -> BoldInfo | None:
    """Read desc/bold; None when the stream says nothing about its volumes.

    Raises
    ------
    SourceError
        If a number is missing, damaged, or does not fit `n_channels`.
    """
    bold = desc.find("bold") if desc is not None else None
    if bold is None:
        return None
    shape = _numbers(bold, "shape", 3, name)
    if any(size != int(size) or not 1 <= size <= 4096 for size in shape):
        raise SourceError(
            f"Stream '{name}': bold/shape is {shape}; expected three sizes in voxels."
        )
    if n_channels > shape[0] * shape[1] * shape[2]:
        raise SourceError(
            f"Stream '{name}' sends {n_channels} voxels, more than a volume of "
            f"{'x'.join(f'{size:g}' for size in shape)} has."
        )
    affine = np.array(_numbers(bold, "affine", 16, name), dtype=np.float64).reshape(4, 4)
    if not np.array_equal(affine[3], [0, 0, 0, 1]) or abs(np.linalg.det(affine)) < 1e-12:
        raise SourceError(f"Stream '{name}': bold/affine is no map from voxels to millimetres.")
    affine.setflags(write=False)
    tr_s = _number(bold, "tr_s", 0.0, name)
    if not 0 < tr_s <= 60:
        raise SourceError(f"Stream '{name}': bold/tr_s is {tr_s:g}; expected above 0, up to 60 s.")
    n_voxels = _number(bold, "n_voxels", n_channels, name)
    if n_voxels != n_channels:
        raise SourceError(
            f"Stream '{name}' says {n_voxels:g} voxels but sends {n_channels} values a volume."
        )
    digest = (bold.findtext("mask_sha256") or "").strip().lower()
    if digest and not re.fullmatch("[0-9a-f]{64}", digest):
        raise SourceError(f"Stream '{name}': bold/mask_sha256 is not a SHA-256 digest.")
    order = (bold.findtext("order") or "C").strip()
    if order not in ("C", "F"):
        raise SourceError(f"Stream '{name}': bold/order is {_clean(order)!r}; expected C or F.")
    sizes = (int(shape[0]), int(shape[1]), int(shape[2]))
    return BoldInfo(sizes, affine, tr_s, digest, order)


def _parse_desc(xml: str, name: str) -> ElementTree.Element | None:
    if len(xml) > _MAX_XML:
        raise SourceError(
            f"Stream '{name}' has a description of {len(xml):,} characters; "
            f"at most {_MAX_XML:,} are read."
        )
    try:
        return ElementTree.fromstring(xml).find("desc")
    except ElementTree.ParseError as error:
        raise SourceError(
            f"Stream '{name}' has a description that is not XML: {error}. Correct it at the sender."
        ) from error


def _channels(
    desc: ElementTree.Element | None, n_sent: int, name: str
) -> tuple[list[str], list[str], list[str]]:
    """Labels, units and types, one for each channel that is sent."""
    found = [] if desc is None else desc.findall("channels/channel")
    if found and len(found) != n_sent:
        _LOG.warning(
            "Stream '%s' describes %d channels but sends %d; its labels and units are not used.",
            name,
            len(found),
            n_sent,
        )
    if len(found) != n_sent:
        blank = [""] * n_sent
        return [f"ch{k + 1}" for k in range(n_sent)], blank, blank
    columns: list[list[str]] = []
    for tag in ("label", "unit", "type"):
        texts = [_clean(item.findtext(tag) or "") for item in found]
        longest = max(map(len, texts))
        if longest > _MAX_LABEL:
            raise SourceError(
                f"Stream '{name}' has a channel {tag} of {longest} characters; "
                f"at most {_MAX_LABEL} are read."
            )
        columns.append(texts)
    labels = [label or f"ch{k + 1}" for k, label in enumerate(columns[0])]
    return labels, columns[1], columns[2]


def _find_counter(labels: list[str], kinds: list[str], form: str) -> int | None:
    """Column of the sample counter: the last one, if it says so twice."""
    last = len(labels) - 1
    is_counter = labels[last].lower() == COUNTER_LABEL and kinds[last].lower() == "counter"
    return last if is_counter and last > 0 and form != "string" else None


def _units(
    units: list[str], kinds: list[str], kind: str
) -> tuple[str, float, NDArray[np.float64] | None]:
    """Return the unit most channels have, its scale to volts, and all scales if they differ."""
    if kind.upper() == "BOLD":
        return (units[0] or "a.u.") if units else "a.u.", 1.0, None
    # Triggers and accelerometers ride along in EEG streams; the unit of the stream is its EEG's.
    brain = [unit for unit, of in zip(units, kinds, strict=True) if of.upper() == kind.upper()]
    unit = Counter(brain or units).most_common(1)[0][0]
    scale = unit_scale(unit)
    scale = 1.0 if scale is None else scale
    each = [factor if (factor := unit_scale(item)) is not None else 1.0 for item in units]
    if all(item in _NOT_VOLTS for item in units) or all(factor == scale for factor in each):
        return unit, scale, None
    scales = np.array(each)
    scales.setflags(write=False)
    return unit, scale, scales


def _number(parent: ElementTree.Element | None, tag: str, default: float, name: str) -> float:
    text = parent.findtext(tag) if parent is not None else None
    if text is None or not text.strip():
        return default
    return _to_floats(text, tag, 1, name)[0]


def _numbers(parent: ElementTree.Element, tag: str, n: int, name: str) -> list[float]:
    return _to_floats(parent.findtext(tag) or "", tag, n, name)


def _to_floats(text: str, tag: str, n: int, name: str) -> list[float]:
    try:
        values = [float(part) for part in text[:4096].replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) != n or not all(map(math.isfinite, values)):
        raise SourceError(
            f"Stream '{name}': {tag} is {_clean(text[:60])!r}; expected {n} "
            f"number{'s' if n > 1 else ''}."
        )
    return values


def _clean(text: str) -> str:
    """Return text without control characters, which could rewrite an operator's terminal."""
    return "".join(char if char.isprintable() else "?" for char in text.strip())
