"""Does a stream fit a bundle? Channels by name, rate, voxels, mask: told before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import SourceError
from models.spec import InputSpec

__all__ = ["BoldDescription", "InputMatch", "check_input"]

# Relative. Nominal rates are exact or off by a typing error; 0.1 % passes TR 1.5 s sent as
# 0.6667 Hz, and refuses 250 Hz against 256 Hz.
_RATE_TOLERANCE = 1e-3
_LISTED = 8  # names in one message


class BoldDescription(Protocol):
    """What is known of the volumes of a BOLD stream."""

    @property
    def tr_s(self) -> float:
        """Repetition time, s."""

    @property
    def mask_sha256(self) -> str:
        """Digest of the voxel mask; empty if not known."""


@dataclass(frozen=True, slots=True, eq=False)
class InputMatch:
    """How the channels of a stream become those of the bundle."""

    order: NDArray[np.intp] | None  # (n_channels,) column of the stream for each; None: as they are
    left_out: tuple[str, ...] = ()  # channels of the stream that the bundle does not use

    def apply(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return samples (n, n_stream_channels) as (n, n_channels) of the bundle."""
        return samples if self.order is None else samples[:, self.order]


def check_input(
    spec: InputSpec,
    *,
    name: str,
    n_channels: int,
    sfreq_hz: float,
    labels: Sequence[str] = (),
    bold: BoldDescription | None = None,
) -> InputMatch:
    """Check a stream or a recorded signal against what a bundle was fitted on.

    Parameters
    ----------
    spec : InputSpec
        The `input` of the manifest.
    name : str
        Of the stream, for the messages.
    n_channels : int
        Channels or voxels, without a counter channel.
    sfreq_hz : float
        Nominal rate at which it was recorded (not sped up by a replay); 0 if irregular.
    labels : sequence of str
        Channel names in the order of the columns; empty if there are none.
    bold : BoldDescription, optional
        Of a BOLD stream.

    Returns
    -------
    match : InputMatch
        Same names in another order, in other case, or among others, are sorted out by it.

    Raises
    ------
    SourceError
        Naming the first thing that does not fit.
    """
    if spec.modality == "bold":
        return _check_bold(spec, name, n_channels, sfreq_hz, bold)
    if bold is not None:
        raise SourceError(
            f"Bundle expects EEG, but {name!r} is a BOLD stream. Choose the EEG stream, or a "
            "bundle fitted on BOLD."
        )
    _check_rate(spec, name, sfreq_hz)
    if spec.channels:
        return _match_names(spec.channels, name, n_channels, labels)
    if n_channels != spec.n_channels:
        raise SourceError(
            f"Bundle expects {spec.n_channels} channels, {name!r} has {n_channels}. Choose the "
            "stream that the bundle was fitted on, or fit a bundle on this one."
        )
    return InputMatch(None)


def _check_rate(spec: InputSpec, name: str, sfreq_hz: float) -> None:
    if abs(sfreq_hz - spec.sfreq_hz) <= _RATE_TOLERANCE * spec.sfreq_hz:
        return
    came = f"{sfreq_hz:g} Hz" if sfreq_hz > 0 else "no fixed rate"
    raise SourceError(
        f"Bundle expects {spec.sfreq_hz:g} Hz, {name!r} has {came}. Set the amplifier to "
        f"{spec.sfreq_hz:g} Hz, or fit a bundle at this rate."
    )


def _match_names(
    wanted: tuple[str, ...], name: str, n_channels: int, labels: Sequence[str]
) -> InputMatch:
    """Find each wanted channel by its exact name, else by its only name in another case."""
    labels = [label.strip() for label in labels]
    if len(labels) != n_channels or not any(labels):
        raise SourceError(
            f"Bundle expects channels {_some(wanted)}, but {name!r} names "
            f"{sum(map(bool, labels))} of its {n_channels} channels. Let the sender write their "
            "names into desc/channels/channel/label: by position alone, a swapped cable would go "
            "unseen."
        )
    folded = [label.casefold() for label in labels]
    order: list[int] = []
    missing: list[str] = []
    for channel in wanted:
        found = [i for i, label in enumerate(labels) if label == channel.strip()]
        found = found or [i for i, lab in enumerate(folded) if lab == channel.strip().casefold()]
        if len(found) > 1:
            raise SourceError(
                f"{name!r} has {len(found)} channels named {channel!r}; one was expected. Correct "
                "the names in the sender."
            )
        order.extend(found)
        missing.extend([] if found else [channel])
    if missing:
        raise SourceError(
            f"Bundle expects {len(wanted)} channels; {name!r} lacks {_some(missing)}. It has "
            f"{_some(labels)}. Correct the montage, or fit a bundle without them."
        )
    if order == list(range(n_channels)):
        return InputMatch(None)
    used = set(order)
    left_out = tuple(label for i, label in enumerate(labels) if i not in used)
    return InputMatch(np.array(order, np.intp), left_out)


def _check_bold(
    spec: InputSpec, name: str, n_channels: int, sfreq_hz: float, bold: BoldDescription | None
) -> InputMatch:
    tr_s = 1.0 / spec.sfreq_hz
    came_s = bold.tr_s if bold is not None else 1.0 / sfreq_hz if sfreq_hz > 0 else float("nan")
    if not abs(came_s - tr_s) <= _RATE_TOLERANCE * tr_s:
        came = f"{came_s:.6g} s" if came_s > 0 else "no fixed TR"
        raise SourceError(
            f"Bundle expects TR {tr_s:.6g} s, {name!r} has {came}. Set the scanner to TR "
            f"{tr_s:.6g} s, or fit a bundle at this one."
        )
    if n_channels != spec.n_channels:
        raise SourceError(
            f"Bundle expects {spec.n_channels} voxels, {name!r} has {n_channels}. Send the mask "
            "that the bundle was fitted on."
        )
    mask = bold.mask_sha256 if bold is not None else ""
    if spec.mask_sha256 and mask != spec.mask_sha256:
        told = f"has mask {mask[:12]}..." if mask else "does not say which mask it has"
        raise SourceError(
            f"Bundle expects mask {spec.mask_sha256[:12]}..., {name!r} {told}. Send the mask that "
            "the bundle was fitted on, with its sha256 in desc/bold/mask_sha256."
        )
    return InputMatch(None)


def _some(names: Sequence[str]) -> str:
    """Name the first few and count the rest."""
    text = ", ".join(repr(name) for name in names[:_LISTED])
    rest = len(names) - _LISTED
    return f"{text} and {rest} more" if rest > 0 else text
