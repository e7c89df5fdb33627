"""What a stream carries and which features are made of it: small frozen records, JSON in and out.

A bundle's manifest holds these records, calibration writes them and the live path obeys them, so
that what runs live is what was scored.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

__all__ = [
    "BandPowerSpec",
    "FeatureSpec",
    "InputSpec",
    "PsdSpec",
    "SampleSpec",
    "StandardiseSpec",
    "TrMeanSpec",
    "spec_to_json",
]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The stream that a bundle was fitted on, and that it must be given."""

    modality: Literal["eeg", "bold"]
    n_channels: int  # channels, or voxels inside the mask
    sfreq_hz: float  # samples a second; 1/TR for BOLD
    channels: tuple[str, ...] = ()  # EEG: names in the order of the columns; empty: any
    unit: str = "V"  # V for EEG after ingest; "a.u." for BOLD
    mask_sha256: str = ""  # BOLD: digest of the voxel mask; empty: any


@dataclass(frozen=True, slots=True)
class PsdSpec:
    """Power spectral density of a sliding window, by Welch or periodogram (scipy.signal)."""

    kind: Literal["psd"] = "psd"
    method: Literal["welch", "periodogram"] = "welch"
    window_s: float = 4.0
    hop_s: float = 0.25
    segment_s: float = 1.0  # Welch only: nperseg
    overlap: float = 0.5  # Welch only: noverlap / nperseg
    taper: str = "hann"  # any name of scipy.signal.get_window, e.g. "hann", "boxcar", "kaiser,8.6"
    detrend: Literal["constant", "linear", "none"] = "constant"
    scaling: Literal["density", "spectrum"] = "density"
    average: Literal["mean", "median"] = "mean"
    fmin_hz: float = 0.0
    fmax_hz: float = float("inf")
    log10: bool = True  # log10 of power, floored at the smallest normal float32


@dataclass(frozen=True, slots=True)
class BandPowerSpec:
    """Power in named bands, integrated from a PSD; relative to the whole if asked."""

    psd: PsdSpec
    kind: Literal["band_power"] = "band_power"
    bands: tuple[tuple[str, float, float], ...] = (
        ("theta", 4.0, 8.0),
        ("alpha", 8.0, 12.0),
        ("beta", 12.0, 30.0),
    )
    relative: bool = False


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """Causally band-passed samples with their recent past, for phase-locked decoding of EEG."""

    kind: Literal["samples"] = "samples"
    high_pass_hz: float = 1.0
    low_pass_hz: float = 15.0
    order: int = 2  # Butterworth, second-order sections, run forwards only
    rate_hz: float = 50.0  # after decimation; the stream's rate must be a whole multiple
    past_s: float = 0.4  # samples from t - past_s to t stand in one feature vector
    hop_s: float = 0.02  # a whole multiple of 1 / rate_hz


@dataclass(frozen=True, slots=True)
class TrMeanSpec:
    """Sliding-TR average: the mean of ceil(window_s / TR) volumes.

    With `n_delays` a feature vector holds as many averages, oldest first, each one volume after the
    other: a finite impulse response, for voxels whose answers come at different times.
    """

    kind: Literal["tr_mean"] = "tr_mean"
    window_s: float = 4.5
    hop_volumes: int = 1
    start_volume: int = 0  # volumes left out at the start of a run (dummies)
    n_delays: int = 1


FeatureSpec: TypeAlias = PsdSpec | BandPowerSpec | SampleSpec | TrMeanSpec


@dataclass(frozen=True, slots=True)
class StandardiseSpec:
    """How features are standardised; only `causal` and `none` can run live.

    `causal` starts from the mean and variance of the calibration set, taken as `prior_n` windows,
    and goes on learning from the windows that come (never from the future). `offline` takes the
    mean and the standard deviation of the whole run.

    For BOLD, whose baseline is another in each session and drifts: a small `prior_n` finds the
    baseline, a `forget_n` of some minutes follows the drift, and `learn` "mean" keeps the spread of
    the calibration set, which a jump of the baseline would otherwise widen.
    """

    mode: Literal["causal", "offline", "none"] = "causal"
    prior_n: float = float("inf")  # inf: keep the calibration statistics for ever
    clip: float = 8.0  # standard deviations; 0: no clipping
    forget_n: float = float("inf")  # windows; older ones fade exponentially. inf: they all count
    learn: Literal["mean_std", "mean"] = "mean_std"  # what goes on learning


def spec_to_json(spec: Any) -> dict[str, Any]:
    """Return a record as a dict of JSON values; infinities become the string "inf"."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        return "inf" if value == float("inf") else value

    result: dict[str, Any] = plain(asdict(spec))
    return result
