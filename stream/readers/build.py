"""From whatever a reader found to a checked `RecordedSignal` in SI units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.readers.units import plausible_eeg, robust_sd, volts_per_unit, wanted_scale
from stream.recordings import RecordedSignal, Segment
from stream.source_info import BoldInfo

__all__ = ["Scaled", "build_signal", "scale_channels"]


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Samples in SI units, and what they were multiplied by."""

    samples: NDArray[np.float32]  # (n, n_channels)
    unit: str  # of all channels, or of the first where they differ
    scale: float
    units: tuple[str, ...]  # empty where all are the same
    warnings: tuple[str, ...] = ()


def scale_channels(
    samples: NDArray[Any],
    units: Sequence[str],
    *,
    is_eeg: bool,
    unit: str | None = None,
    what: str,
) -> Scaled:
    """Bring voltages to volts; leave other units as they are.

    Parameters
    ----------
    samples : array of shape (n, n_channels)
        As recorded.
    units : sequence of str
        One a channel; empty text where the recording says none.
    is_eeg : bool
        Channels without a unit are then taken to be in microvolts, unless only volts make sense.
    unit : str, optional
        Unit that a person named for all channels; goes before what the recording says.
    what : str
        Name of the signal for messages.

    Raises
    ------
    SettingError
        If `unit` is not a voltage.
    """
    warnings: list[str] = []
    if unit is not None:
        scales: list[float | None] = [wanted_scale(unit)] * samples.shape[1]
    else:
        scales = [volts_per_unit(text) for text in units]
        missing = [i for i, text in enumerate(units) if not text.strip()]
        if missing and is_eeg:
            sd = robust_sd(samples[:, missing])
            # Microvolts unless that is too small to be any amplifier's noise and volts would fit.
            guess = 1.0 if not plausible_eeg(1e-6 * sd) and plausible_eeg(sd) else 1e-6
            for i in missing:
                scales[i] = guess
            warnings.append(
                f"{what} names no unit for {len(missing)} channels; taken as "
                f"{'volts' if guess == 1.0 else 'microvolts'}. Say --unit if that is wrong."
            )
        elif missing:
            warnings.append(
                f"{what} names no unit; its values are kept as they are. If it is EEG, say --unit."
            )
    factors = np.array([1.0 if s is None else s for s in scales])
    out = np.empty(samples.shape, dtype=np.float32)
    # Multiplied in double precision, rounded once; by blocks, to keep memory at one copy.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(samples), 65_536):
            out[start : start + 65_536] = samples[start : start + 65_536] * factors
    names = tuple("V" if s is not None else text for s, text in zip(scales, units, strict=True))
    same = len(set(names)) == 1
    if is_eeg and names[0] == "V":
        sd = robust_sd(out)
        if np.isfinite(sd) and not plausible_eeg(sd):
            warnings.append(
                f"{what}: its spread is {sd:.3g} V, which is no EEG. Is the unit right? Say --unit."
            )
    scale = float(factors[0])
    return Scaled(out, names[0], scale, () if same else names, tuple(warnings))


def build_signal(
    *,
    name: str,
    kind: str,
    labels: Sequence[str],
    scaled: Scaled,
    sfreq_hz: float,
    stamps: NDArray[np.float64],
    segments: Sequence[Segment],
    what: str,
    bold: BoldInfo | None = None,
    source_id: str = "",
    bads: Sequence[str] = (),
    counted: bool = False,
) -> RecordedSignal:
    """Check a signal and freeze its arrays.

    Raises
    ------
    FileError
        If it holds no number at all, or its parts do not fit each other.
    """
    samples = np.ascontiguousarray(scaled.samples, dtype=np.float32)
    stamps = np.ascontiguousarray(stamps, dtype=np.float64)
    if samples.ndim != 2 or samples.shape != (len(stamps), len(labels)) or samples.size == 0:
        raise FileError(
            f"{what} holds {samples.shape} values for {len(stamps)} time stamps and "
            f"{len(labels)} channels. The file is damaged; compare it with the original."
        )
    if not any(
        np.isfinite(samples[start : start + 65_536]).any()
        for start in range(0, len(samples), 65_536)
    ):
        raise FileError(f"{what} holds no number, only NaN. The recording is of no use.")
    samples.flags.writeable = False
    stamps.flags.writeable = False
    return RecordedSignal(
        name=name,
        type=kind,
        labels=tuple(labels),
        unit=scaled.unit,
        scale=scaled.scale,
        sfreq_hz=sfreq_hz,
        samples=samples,
        stamps=stamps,
        segments=tuple(segments),
        bold=bold,
        source_id=source_id,
        units=scaled.units,
        bads=tuple(bads),
        counted=counted,
    )
