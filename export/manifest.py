"""What a bundle says about itself: frozen records, strict JSON in, plain JSON out.

The words here are those of `manifest.json`; `export.chains` has those of the decoder chains, and
`export.bundle` reads and writes the folder. A manifest is refused whole if one number is out of its
range: what a participant hears hangs on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from export.chains import (
    ChainSpec,
    CoarseToFineChain,
    DirectChain,
    EmbeddingSpec,
    LibraryFiles,
    RetrievalChain,
    RetrievedStart,
    SemanticChain,
    TokenSpec,
    VocoderSpec,
    chain_files,
    chain_numbers,
    check_chain,
)
from export.strict_json import parse_object, record_from_json
from models.errors import BundleError, SettingError
from models.spec import (
    BandPowerSpec,
    FeatureSpec,
    InputSpec,
    PsdSpec,
    SampleSpec,
    StandardiseSpec,
    TrMeanSpec,
    spec_to_json,
)

__all__ = [
    "MANIFEST_MAX_BYTES",
    "SCHEMA",
    "ChainSpec",
    "CoarseToFineChain",
    "DirectChain",
    "EmbeddingSpec",
    "FileEntry",
    "LibraryFiles",
    "Manifest",
    "RetrievalChain",
    "RetrievedStart",
    "SemanticChain",
    "SoundSpec",
    "TokenSpec",
    "VocoderSpec",
    "check_manifest",
    "manifest_from_json",
    "manifest_to_json",
    "plain_file_name",
]

SCHEMA = 1
MANIFEST_MAX_BYTES = 4 << 20
_FILE_MAX_BYTES = 64 << 30
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[A-Za-z0-9_-]{1,32}){0,3}")
_SUFFIXES = (
    ".onnx", ".data", ".npy", ".json", ".flac", ".wav", ".safetensors",
    ".md", ".txt", ".html", ".nii.gz",
)  # fmt: skip
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Windows opens these as devices, whatever stands after the dot.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SoundSpec:
    """The sound that the bundle makes."""

    sample_rate_hz: int
    block_s: float  # what one window adds to the sound


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a file of the bundle must be, to the byte."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a live session needs to know about a fitted decoder."""

    name: str
    participant: str
    created: str  # ISO 8601
    input: InputSpec
    features: FeatureSpec
    standardise: StandardiseSpec
    chain: ChainSpec
    sound: SoundSpec
    fill_max_s: float = 0.0  # s, the longest gap that is filled by interpolation
    lag_s: float = 0.0  # s, brain after stimulus
    scores: dict[str, Any] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def modality(self) -> Literal["eeg", "bold"]:
        """Kind of the stream, as in the input."""
        return self.input.modality


def plain_file_name(name: str) -> bool:
    """Return whether a bundle may hold a file of this name: no folder, no device, known suffix."""
    return bool(
        _NAME.fullmatch(name)
        and not _DEVICES.fullmatch(name)
        and name.endswith(_SUFFIXES)
        and name.lower() not in ("manifest.json", "manifest.sha256")
    )


def manifest_to_json(manifest: Manifest) -> bytes:
    """Return the text of `manifest.json`; the same manifest gives the same bytes."""
    values = spec_to_json(manifest)
    values["modality"] = manifest.modality
    return (json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def manifest_from_json(data: bytes, where: str = "manifest.json") -> Manifest:
    """Return the manifest that `manifest_to_json` wrote.

    Raises
    ------
    BundleError
        If it is not strict JSON, of a newer schema, or an entry is unknown, missing, of a wrong
        type or out of its range.
    """
    try:
        values = parse_object(data, where, max_bytes=MANIFEST_MAX_BYTES)
        schema = values.get("schema")
        if type(schema) is not int or schema < 1:
            raise SettingError(f"{where} must name its schema as a whole number, not {schema!r}.")
        if schema > SCHEMA:
            raise SettingError(
                f"{where} has schema {schema}; this hearback reads up to {SCHEMA}. "
                "Update hearback, or export the bundle again with this version."
            )
        modality = values.pop("modality", None)
        manifest: Manifest = record_from_json(Manifest, values, where)
        if modality != manifest.modality:
            raise SettingError(
                f"{where}: modality is {modality!r}, but its input is {manifest.modality!r}."
            )
        check_manifest(manifest)
    except SettingError as error:
        raise BundleError(f"{error} Make or copy the bundle again.") from error
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Check every number and name against its range.

    Raises
    ------
    SettingError
        Naming the first entry that cannot be.
    """
    for where, value, low, high in _numbers(manifest):
        if not low <= value <= high:
            raise SettingError(f"manifest: {where} must lie in [{low:g}, {high:g}], not {value!r}.")
    _check_texts(manifest)
    _check_input(manifest.input)
    check_chain(manifest.chain, sample_rate_hz=manifest.sound.sample_rate_hz)
    _check_files(manifest)
    spec = manifest.features
    if (spec.kind == "tr_mean") != (manifest.modality == "bold"):
        raise SettingError(
            f"manifest: features of kind {spec.kind!r} do not go with {manifest.modality!r} input."
        )
    nyquist = manifest.input.sfreq_hz / 2
    top = spec.low_pass_hz if isinstance(spec, SampleSpec) else 0.0
    if top >= nyquist:
        raise SettingError(
            f"manifest: features.low_pass_hz must be below {nyquist:g} Hz, not {top:g}."
        )


_Range: TypeAlias = tuple[str, float, float, float]


def _numbers(manifest: Manifest) -> Iterator[_Range]:
    """Yield each number with the range it must lie in."""
    yield "schema", manifest.schema, 1, SCHEMA
    yield "input.n_channels", manifest.input.n_channels, 1, 1_000_000
    yield "input.sfreq_hz", manifest.input.sfreq_hz, 1e-3, 200_000
    yield "fill_max_s", manifest.fill_max_s, 0, 60
    yield "lag_s", manifest.lag_s, -60, 60
    yield "sound.sample_rate_hz", manifest.sound.sample_rate_hz, 1_000, 192_000
    yield "sound.block_s", manifest.sound.block_s, 1e-3, 600
    yield "standardise.prior_n", manifest.standardise.prior_n, 0, float("inf")
    yield "standardise.clip", manifest.standardise.clip, 0, 1e6
    yield "standardise.forget_n", manifest.standardise.forget_n, 1, float("inf")
    yield from _feature_numbers(manifest.features)
    yield from chain_numbers(manifest.chain)


def _feature_numbers(spec: FeatureSpec) -> Iterator[_Range]:
    """Yield the numbers of a feature specification."""
    if isinstance(spec, BandPowerSpec):
        yield "features.bands (how many)", len(spec.bands), 1, 1_000
        for name, low, high in spec.bands:
            yield f"features.bands[{name!r}] from", low, 0, 100_000
            yield f"features.bands[{name!r}] to", high, low, 100_000
        spec = spec.psd
    if isinstance(spec, PsdSpec):
        yield "features.window_s", spec.window_s, 1e-4, 3_600
        yield "features.hop_s", spec.hop_s, 1e-4, 3_600
        longest = spec.window_s if spec.method == "welch" else 3_600
        yield "features.segment_s", spec.segment_s, 1e-4, longest
        yield "features.overlap", spec.overlap, 0, 0.999
        yield "features.fmin_hz", spec.fmin_hz, 0, 100_000
        yield "features.fmax_hz", spec.fmax_hz, spec.fmin_hz, float("inf")
    elif isinstance(spec, SampleSpec):
        yield "features.high_pass_hz", spec.high_pass_hz, 0, 100_000
        yield "features.low_pass_hz", spec.low_pass_hz, spec.high_pass_hz, 100_000
        yield "features.order", spec.order, 1, 20
        yield "features.rate_hz", spec.rate_hz, 1e-3, 200_000
        yield "features.past_s", spec.past_s, 0, 3_600
        yield "features.hop_s", spec.hop_s, 1e-4, 3_600
    elif isinstance(spec, TrMeanSpec):
        yield "features.window_s", spec.window_s, 1e-3, 3_600
        yield "features.hop_volumes", spec.hop_volumes, 1, 10_000
        yield "features.start_volume", spec.start_volume, 0, 1_000_000
        yield "features.n_delays", spec.n_delays, 1, 1_000


def _check_texts(manifest: Manifest) -> None:
    if not manifest.name.strip() or len(manifest.name) > 200:
        raise SettingError(
            f"manifest: name must have 1 to 200 characters, not {manifest.name[:60]!r}."
        )
    try:
        datetime.fromisoformat(manifest.created)
    except ValueError:
        raise SettingError(
            f"manifest: created must be an ISO 8601 time such as 2026-11-20T21:00:00+00:00, "
            f"not {manifest.created[:60]!r}."
        ) from None


def _check_input(spec: InputSpec) -> None:
    if spec.channels and len(spec.channels) != spec.n_channels:
        raise SettingError(
            f"manifest: input names {len(spec.channels)} channels, but n_channels is "
            f"{spec.n_channels}."
        )
    if len(set(spec.channels)) != len(spec.channels):
        raise SettingError("manifest: input.channels holds a name twice.")
    if spec.mask_sha256 and not _SHA256.fullmatch(spec.mask_sha256):
        raise SettingError("manifest: input.mask_sha256 must be 64 hexadecimal digits, or empty.")


def _check_files(manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        if not plain_file_name(name):
            raise SettingError(
                f"manifest: {name[:80]!r} is not a plain file name; expected letters, digits, '-' "
                f"and '_', and one of {', '.join(_SUFFIXES)}."
            )
        if not _SHA256.fullmatch(entry.sha256) or not 0 < entry.bytes <= _FILE_MAX_BYTES:
            raise SettingError(f"manifest: the digest or size of {name!r} cannot be.")
    if len({name.lower() for name in manifest.files}) != len(manifest.files):
        raise SettingError("manifest: two files differ in upper and lower case only.")
    needed = {"standardise.npy": "standardise.npy", **chain_files(manifest.chain)}
    for where, name in needed.items():
        if name not in manifest.files:
            raise SettingError(f"manifest: {where} is {name[:80]!r}, which is not in its files.")
