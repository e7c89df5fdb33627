"""The forward model of EEG: known response functions to the envelope of sound, in 1/f noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.listener_eeg import EEG_CHANNELS, EegListener
from calibration.simulate.features import clip_sound
from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import PlannedRun
from calibration.stimuli import SAMPLE_RATE_HZ

__all__ = ["eeg_listener", "fingerprint_gain", "run_noise", "run_response", "run_sound"]

_FINGERPRINT = 51
_KNOTS_HZ = np.geomspace(0.5, 60.0, 12)


def eeg_listener(settings: SimulationSettings, person: int) -> EegListener:
    """Return the person, from 0, who wears the cap."""
    snr_db = 10.0 * math.log10(settings.snr) if settings.snr > 0.0 else -math.inf
    return EegListener(settings.seed * 1_000 + person + 1, snr_db, settings.sfreq_hz)


def run_sound(run: PlannedRun) -> NDArray[np.float32]:
    """Return all that is heard in a run: (n,), 16 kHz."""
    pcm = np.zeros(round(run.duration_s * SAMPLE_RATE_HZ), np.float32)
    sounds = {clip: clip_sound(clip) for clip in run.clips}
    for item in run.presentations:
        first = round(item.onset_s * SAMPLE_RATE_HZ)
        sound = sounds[item.clip][: len(pcm) - first]
        pcm[first : first + len(sound)] = sound
    return pcm


def run_response(listener: EegListener, run: PlannedRun) -> NDArray[np.float64]:
    """Return what the electrodes show of the sound: (n, 32), V."""
    if listener.snr_db == -math.inf:  # no sound need be made
        return np.zeros((round(run.duration_s * listener.sfreq_hz), len(EEG_CHANNELS)))
    return listener.respond(run_sound(run))


def run_noise(
    settings: SimulationSettings, listener: EegListener, run: PlannedRun, number: int
) -> NDArray[np.float64]:
    """Return the rest: (n, 32), V; with the recording's fingerprint where there is one.

    Parameters
    ----------
    settings : SimulationSettings
    listener : EegListener
    run : PlannedRun
    number : int
        Of the run among the person's, from 0.
    """
    n = round(run.duration_s * listener.sfreq_hz)
    noise = listener.noise(n, seed=settings.seed * 1_000 + number)
    if settings.fingerprint > 0.0:
        frequency = np.fft.rfftfreq(n, 1.0 / listener.sfreq_hz)
        gain = fingerprint_gain(settings, listener.person, number, frequency)
        noise = np.fft.irfft(np.fft.rfft(noise, axis=0) * gain, n, axis=0)
    return np.asarray(noise)


def fingerprint_gain(
    settings: SimulationSettings, person: int, number: int, frequency_hz: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return how a recording shapes its noise: a random smooth gain for each electrode.

    Impedances, the cap's seat and how awake a person is differ from recording to recording; a
    recording can be told by them, and so can everything else that it has of its own.

    Returns
    -------
    gain : array of shape (len(frequency_hz), 32), float64
        Its logarithm has the standard deviation `fingerprint`.
    """
    rng = np.random.default_rng([settings.seed, person, _FINGERPRINT, number])
    knots = settings.fingerprint * rng.standard_normal((len(_KNOTS_HZ), len(EEG_CHANNELS)))
    place = np.log(np.maximum(frequency_hz, 1e-3))
    rows = [np.interp(place, np.log(_KNOTS_HZ), column) for column in knots.T]
    return np.asarray(np.exp(np.stack(rows, axis=1)))
