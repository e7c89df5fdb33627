"""The forward model of BOLD: what voxels answer to the stimulus, and the noise that hides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibration.listener_bold import (
    DRIFT_PERIODS_S,
    DRIFT_WIDTH_VOXELS,
    ar1_noise,
    double_gamma_hrf,
    slow_drift,
    smooth_fields,
    smoothing_matrix,
)
from calibration.simulate.anatomy import head, region_labels
from calibration.simulate.features import STEP_S, ClipFeatures
from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import PlannedRun

__all__ = ["BoldBrain", "bold_brain", "haemodynamics", "latent_at", "space_covariance"]

_MAP, _ROTATION, _SCALE, _NOISE = 41, 42, 43, 44  # streams of random numbers
_SETTLED_S = 15.0  # start of a run in which the response still builds up
_MAP_WIDTH = 1.5  # how far voxels prefer alike, standard deviation of a Gaussian in voxels


@lru_cache(maxsize=64)
def haemodynamics(n_volumes: int, tr_s: float, n_steps: int, peak_s: float) -> NDArray[np.float64]:
    """Return the matrix that turns a stimulus into a BOLD response.

    Volume k is the response in the middle of its acquisition, (k + 1/2) TR.

    Parameters
    ----------
    n_volumes : int
    tr_s : float
    n_steps : int
        Steps of `STEP_S` of the stimulus, which is constant during a step.
    peak_s : float
        See `double_gamma_hrf`.

    Returns
    -------
    matrix : array of shape (n_volumes, n_steps), float64
    """
    middle = (np.arange(n_volumes) + 0.5) * tr_s
    # The response to a whole step: the integral of the HRF, on a grid of 20 ms.
    fine = 50
    grid = np.arange(0.0, 48.0, 1.0 / fine)
    total = np.concatenate([[0.0], np.cumsum(double_gamma_hrf(grid, peak_s=peak_s))])
    edges = np.concatenate([[0.0], grid + 1.0 / fine])
    since = middle[:, None] - np.arange(n_steps + 1) * STEP_S
    reached = np.interp(since, edges, total)  # 0 before, 1 long after
    matrix = np.asarray(reached[:, :-1] - reached[:, 1:])
    matrix.setflags(write=False)
    return matrix


def latent_at(run: PlannedRun, features: ClipFeatures, n_steps: int) -> NDArray[np.float64]:
    """Return what is heard at each step of a run; silence counts as the average sound, 0.

    Returns
    -------
    latent : array of shape (n_steps, latent_dim), float64
    """
    latent = features.latent
    heard = np.zeros((n_steps, latent.shape[2]))
    middle = (np.arange(n_steps) + 0.5) * STEP_S
    number = {name: row for row, name in enumerate(features.clips)}
    for item in run.presentations:
        inside = np.flatnonzero(
            (middle >= item.onset_s) & (middle < item.onset_s + item.clip.duration_s)
        )
        step = ((middle[inside] - item.onset_s) / STEP_S).astype(np.int64)
        heard[inside] = latent[number[item.clip.id], np.minimum(step, latent.shape[1] - 1)]
    return heard


def space_covariance(settings: SimulationSettings, *, drift: bool = False) -> NDArray[np.float64]:
    """Return the correlation of the noise (or of the drifts) between voxels: (n_voxels,) * 2."""
    place, shape = _box(settings)
    alike = np.ones((len(place), len(place)))
    width = DRIFT_WIDTH_VOXELS if drift else settings.smooth_voxels
    for axis, length in enumerate(shape):
        kernel = smoothing_matrix(length, width)
        alike *= (kernel @ kernel.T)[np.ix_(place[:, axis], place[:, axis])]
    if drift:
        return alike
    share = settings.smooth_share
    return np.asarray(share * alike + (1.0 - share) * np.eye(len(place)))


@dataclass(frozen=True, slots=True, eq=False)
class BoldBrain:
    """One simulated person in a scanner; all about them is known.

    A volume is baseline + scale * (sum over peaks of haemodynamics @ latent @ weights + noise).
    """

    settings: SimulationSettings
    person: int  # from 0
    weights: NDArray[np.float64]  # (latent_dim, n_voxels), of noise of unit variance
    peak_s: NDArray[np.float64]  # (n_voxels,) of the haemodynamic response
    baseline: NDArray[np.float64]  # (n_voxels,) scanner units
    scale: NDArray[np.float64]  # (n_voxels,) standard deviation of the noise, scanner units
    snr: NDArray[np.float64]  # (n_voxels,) variance of the response over that of the noise

    def response(self, run: PlannedRun, features: ClipFeatures) -> NDArray[np.float64]:
        """Return the response, in standard deviations of the noise: (n_volumes, n_voxels)."""
        n_volumes = run.n_volumes(self.settings.tr_s)
        out = np.zeros((n_volumes, len(self.scale)))
        for peak in np.unique(self.peak_s):
            voxels = np.flatnonzero((self.peak_s == peak) & self.weights.any(axis=0))
            if len(voxels):
                slow = _slow_latent(run, features, n_volumes, self.settings.tr_s, float(peak))
                out[:, voxels] = slow @ self.weights[:, voxels]
        return out

    def noise(self, run: PlannedRun, number: int) -> NDArray[np.float64]:
        """Return noise and drifts, in standard deviations of the noise: (n_volumes, n_voxels).

        Parameters
        ----------
        run : PlannedRun
        number : int
            Of the run among the person's, from 0: each has noise of its own.
        """
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.person, _NOISE, number])
        n_volumes, n_voxels = run.n_volumes(settings.tr_s), len(self.scale)
        share = settings.smooth_share
        noise = rng.standard_normal((n_volumes, n_voxels), np.float32)
        noise *= np.float32(np.sqrt(1.0 - share))
        if share > 0.0:
            smooth = _fields(rng, settings, n_volumes, settings.smooth_voxels)
            noise += np.float32(np.sqrt(share)) * smooth
        noise = ar1_noise(noise, settings.ar1)
        if settings.drift > 0.0:
            pairs = [_fields(rng, settings, 2, DRIFT_WIDTH_VOXELS) for _ in DRIFT_PERIODS_S]
            drift = slow_drift([(a, b) for a, b in pairs], np.arange(n_volumes) * settings.tr_s)
            noise += np.float32(settings.drift) * drift
        return np.asarray(noise, np.float64)


def _box(settings: SimulationSettings) -> tuple[NDArray[np.intp], tuple[int, int, int]]:
    """Return where the voxels lie in the smallest box around the mask, and its sizes."""
    place = np.argwhere(head(settings).mask)
    place = place - place.min(axis=0)
    x, y, z = (int(length) for length in place.max(axis=0) + 1)
    return place, (x, y, z)


def _fields(
    rng: np.random.Generator, settings: SimulationSettings, n: int, width: float
) -> NDArray[np.float32]:
    """Return n smooth random fields of unit variance: (n, n_voxels)."""
    place, shape = _box(settings)
    fields = smooth_fields(rng.standard_normal((n, *shape), np.float32), width)
    return np.asarray(fields[:, place[:, 0], place[:, 1], place[:, 2]])


def _slow_latent(
    run: PlannedRun, features: ClipFeatures, n_volumes: int, tr_s: float, peak_s: float
) -> NDArray[np.float64]:
    """Return the latent dimensions through the haemodynamics: (n_volumes, latent_dim)."""
    n_steps = int(np.ceil(n_volumes * tr_s / STEP_S - 1e-9))
    heard = latent_at(run, features, n_steps)
    return np.asarray(haemodynamics(n_volumes, tr_s, n_steps, peak_s) @ heard)


def bold_brain(
    settings: SimulationSettings,
    person: int,
    runs: Sequence[PlannedRun],
    features: ClipFeatures,
) -> BoldBrain:
    """Make a person: one map of the head for all people, seen through a rotation of their own.

    Parameters
    ----------
    settings : SimulationSettings
    person : int
        From 0.
    runs : sequence of PlannedRun
        The person's runs; the variance of the response is that over the training runs.
    features : ClipFeatures
    """
    labels = region_labels(settings)
    n_latent = features.projection.shape[1]
    shared = np.random.default_rng([settings.seed, _MAP])
    preferences = _fields(shared, settings, n_latent, _MAP_WIDTH)
    amount = _fields(shared, settings, 1, 2.0)[0]
    weights = _rotation(settings, person, n_latent) @ preferences
    peak_s = np.full(len(labels), settings.peak_s)
    snr = np.zeros(len(labels))
    covariances: dict[float, NDArray[np.float64]] = {}
    for number, region in enumerate(settings.regions, start=1):
        voxels = np.flatnonzero(labels == number)
        peak = settings.peak_of(region)
        peak_s[voxels] = peak
        n_informative = round(region.informative * len(voxels))
        chosen = voxels[np.argsort(-amount[voxels], kind="stable")[:n_informative]]
        if len(chosen) and settings.snr * region.snr_factor > 0.0:
            if peak not in covariances:
                covariances[peak] = _latent_covariance(settings, runs, features, peak)
            w = weights[:, chosen]
            variance = np.sum(w * (covariances[peak] @ w), axis=0)
            factor = settings.snr * region.snr_factor / float(np.mean(variance))
            snr[chosen] = variance * factor
            weights[:, chosen] *= np.sqrt(factor)
    weights[:, snr == 0.0] = 0.0
    rng = np.random.default_rng([settings.seed, person, _SCALE])
    bright, loud = _fields(rng, settings, 2, 2.0).astype(np.float64)
    baseline = 1_000.0 * np.clip(1.0 + 0.15 * bright, 0.5, 1.5)
    scale = baseline * settings.noise_percent / 100.0 * np.exp(0.2 * loud)
    return BoldBrain(settings, person, weights, peak_s, baseline, scale, snr)


def _rotation(settings: SimulationSettings, person: int, n: int) -> NDArray[np.float64]:
    """Return a random rotation, uniform over all of them (Mezzadri 2007, section 5)."""
    rng = np.random.default_rng([settings.seed, person, _ROTATION])
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return np.asarray(q * np.sign(np.diagonal(r)))


def _latent_covariance(
    settings: SimulationSettings,
    runs: Sequence[PlannedRun],
    features: ClipFeatures,
    peak_s: float,
) -> NDArray[np.float64]:
    """Return the covariance of the latent dimensions after the haemodynamics."""
    skip = round(_SETTLED_S / settings.tr_s)
    rows = []
    for run in [run for run in runs if run.part != "test"] or list(runs):
        n_volumes = run.n_volumes(settings.tr_s)
        slow = _slow_latent(run, features, n_volumes, settings.tr_s, peak_s)
        rows.append(slow[skip:] if len(slow) > 2 * skip else slow)
    return np.atleast_2d(np.cov(np.concatenate(rows), rowvar=False, ddof=0))
