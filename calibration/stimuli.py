"""A library of procedural sounds whose every factor is known, for stimuli, demos and tests.

Twelve classes that a person tells apart at once. Each is one small function: it draws its choices
from a generator and returns the wave, its pitch, tempo and density of events, and words for it.
`make_stimulus` brings the wave to a known loudness and measures its brightness.

    label     what is heard                                    pitch_hz          density_hz
    tone      beeps of a pure tone                             of the tone       beeps
    chord     struck major or minor triads, organ-like         root              strokes
    piano     a melody on a plucked string                     tonic             notes
    flute     a melody, blown, with vibrato                    tonic             notes
    drums     a bar of bass drum, snare and hi-hat             none              strokes
    vowel     one sung vowel, swelling                         voice             swells
    speech    babbled consonant-vowel syllables                voice             syllables
    noise     bursts of band-passed noise                      centre of band    bursts
    rain      drops over a hiss that comes in gusts            none              drops
    clicks    a train of clicks                                none              clicks
    birdsong  upward and downward chirps in groups             centre of glide   chirps
    engine    a hum with a throb                               of the hum        throbs
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.synthesis import (
    SAMPLE_RATE_HZ,
    Wave,
    decay,
    fade_edges,
    harmonics,
    place,
    resonate,
    semitones,
    set_rms,
    shaped_noise,
    spectral_centroid_hz,
    swell,
)
from models.errors import SettingError

__all__ = [
    "LABELS",
    "SAMPLE_RATE_HZ",
    "Factors",
    "PlacedClip",
    "Stimulus",
    "StimulusSequence",
    "make_stimulus",
    "stimulus_sequence",
]


@dataclass(frozen=True, slots=True)
class Factors:
    """What is known of a sound; NaN where a class has no such thing."""

    pitch_hz: float  # fundamental, root or tonic, Hz
    tempo_bpm: float  # beats a minute
    brightness_hz: float  # power-weighted mean frequency, measured on the finished sound
    loudness_dbfs: float  # RMS, measured on the finished sound
    density_hz: float  # events (notes, drops, syllables) a second


@dataclass(frozen=True, slots=True, eq=False)
class Stimulus:
    """One sound with its name, class, factors and a caption."""

    name: str
    label: str
    pcm: NDArray[np.float32]  # (n,), 16 kHz, full scale 1.0, read-only
    factors: Factors
    caption: str


@dataclass(frozen=True, slots=True, eq=False)
class PlacedClip:
    """A stimulus and where it stands in a sequence."""

    stimulus: Stimulus
    onset_s: float
    duration_s: float


@dataclass(frozen=True, slots=True, eq=False)
class StimulusSequence:
    """Clips one after another without a pause."""

    pcm: NDArray[np.float32]  # (n,), 16 kHz, read-only
    clips: tuple[PlacedClip, ...]
    sample_rate_hz: int = SAMPLE_RATE_HZ

    @property
    def duration_s(self) -> float:
        """Length, s."""
        return len(self.pcm) / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class _Draft:
    """What the function of a class returns."""

    wave: Wave
    caption: str
    density_hz: float
    pitch_hz: float = float("nan")
    tempo_bpm: float = float("nan")


def _beats(n: int, tempo_bpm: float, per_beat: float = 1.0) -> NDArray[np.float64]:
    """Return the onsets, s, of `per_beat` events a beat within n samples."""
    step_s = 60.0 / tempo_bpm / per_beat
    return np.arange(0.0, n / SAMPLE_RATE_HZ - 1e-9, step_s)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _samples(seconds: float) -> int:
    return max(2, round(seconds * SAMPLE_RATE_HZ))


def _band(centre_hz: float, width_hz: float) -> Callable[[Wave], Wave]:
    """Return a bell-shaped gain around a frequency, for `shaped_noise`."""
    return lambda frequency_hz: np.exp(-(((frequency_hz - centre_hz) / width_hz) ** 2))


def _tone(n: int, rng: np.random.Generator) -> _Draft:
    pitch, tempo = _log_uniform(rng, 250.0, 2_500.0), float(rng.uniform(90.0, 200.0))
    length = _samples(60.0 / tempo * rng.uniform(0.5, 0.75))
    beep = harmonics(pitch, [1.0], length) * swell(length, 0.02, 0.03)
    wave = place(n, [(onset, beep) for onset in _beats(n, tempo)])
    return _Draft(wave, f"beeps of a pure tone at {pitch:.0f} Hz", tempo / 60.0, pitch, tempo)


def _chord(n: int, rng: np.random.Generator) -> _Draft:
    root, tempo = _log_uniform(rng, 130.0, 330.0), float(rng.uniform(60.0, 120.0))
    minor = bool(rng.integers(2))
    length = _samples(60.0 / tempo * 0.9)
    stroke = np.zeros(length)
    for steps in (0, 3 if minor else 4, 7, 12):
        stroke += harmonics(semitones(root, steps), [1.0, 0.5, 0.25, 0.3, 0.1, 0.15], length)
    stroke *= swell(length, 0.015, 0.12) * decay(length, 0.6, 0.01)
    wave = place(n, [(onset, stroke) for onset in _beats(n, tempo)])
    words = f"{'minor' if minor else 'major'} organ chords on {root:.0f} Hz"
    return _Draft(wave, words, tempo / 60.0, root, tempo)


def _melody(
    n: int, rng: np.random.Generator, tonic: float, tempo: float, note: Callable[[float, int], Wave]
) -> tuple[Wave, float]:
    """Return a random walk over a pentatonic scale, and its notes a second."""
    scale = (0, 2, 4, 7, 9, 12, 14, 16)
    per_beat = float(rng.choice([1.0, 2.0]))
    degree, grains = 0, []
    for onset in _beats(n, tempo, per_beat):
        length = _samples(60.0 / tempo / per_beat)
        grains.append((float(onset), note(semitones(tonic, scale[degree]), length)))
        degree = int(np.clip(degree + rng.integers(-2, 3), 0, len(scale) - 1))
    return place(n, grains), tempo / 60.0 * per_beat


def _piano(n: int, rng: np.random.Generator) -> _Draft:
    tonic, tempo = _log_uniform(rng, 160.0, 400.0), float(rng.uniform(70.0, 140.0))
    partials = 0.75 ** np.arange(12) / (1.0 + np.arange(12) * rng.uniform(0.1, 0.5))

    def note(pitch_hz: float, length: int) -> Wave:
        return harmonics(pitch_hz, partials, length) * decay(length, 0.12) * swell(length, 0, 0.02)

    wave, density = _melody(n, rng, tonic, tempo, note)
    return _Draft(wave, f"a piano melody around {tonic:.0f} Hz", density, tonic, tempo)


def _flute(n: int, rng: np.random.Generator) -> _Draft:
    tonic, tempo = _log_uniform(rng, 450.0, 900.0), float(rng.uniform(60.0, 110.0))

    def note(pitch_hz: float, length: int) -> Wave:
        t = np.arange(length) / SAMPLE_RATE_HZ
        glide = pitch_hz * (1.0 + 0.006 * np.sin(2.0 * np.pi * 5.5 * t))
        breath = 0.03 * shaped_noise(length, rng, gain=_band(3_000.0, 2_000.0))
        return (harmonics(glide, [1.0, 0.25, 0.1, 0.04], length) + breath) * swell(
            length, 0.06, 0.08
        )

    wave, density = _melody(n, rng, tonic, tempo, note)
    return _Draft(wave, f"a flute melody around {tonic:.0f} Hz", density, tonic, tempo)


def _drums(n: int, rng: np.random.Generator) -> _Draft:
    tempo = float(rng.uniform(80.0, 140.0))
    length = _samples(0.25)
    t = np.arange(length) / SAMPLE_RATE_HZ
    kick = harmonics(50.0 + 110.0 * np.exp(-t / 0.03), [1.0], length) * decay(length, 0.05)
    hiss = shaped_noise(length, rng, gain=lambda f: np.asarray(f > 1_000.0, np.float64))
    snare = (0.35 * hiss + 0.5 * harmonics(190.0, [1.0], length)) * decay(length, 0.035)
    metal = shaped_noise(length, rng, gain=lambda f: np.asarray(f > 5_000.0, np.float64))
    hat = 0.12 * metal * decay(length, 0.012)
    pattern = [(0, kick), (4, snare), (8, kick), (12, snare)]
    pattern += [(int(step), kick) for step in rng.choice([3, 6, 7, 10, 14], 2, replace=False)]
    pattern += [(step, hat) for step in range(0, 16, int(rng.choice([2, 4])))]
    sixteenth_s = 60.0 / tempo / 4.0
    bars = int(np.ceil(n / SAMPLE_RATE_HZ / (16 * sixteenth_s)))
    grains = [((16 * bar + step) * sixteenth_s, g) for bar in range(bars) for step, g in pattern]
    density = len({step for step, _ in pattern}) / (16 * sixteenth_s)
    return _Draft(place(n, grains), f"a drum pattern at {tempo:.0f} bpm", density, tempo_bpm=tempo)


_FORMANTS = {  # first three formants, Hz, of an adult voice (rounded textbook values)
    "a": (750.0, 1_200.0, 2_500.0),
    "e": (500.0, 1_850.0, 2_550.0),
    "i": (290.0, 2_250.0, 3_000.0),
    "o": (480.0, 850.0, 2_500.0),
    "u": (320.0, 700.0, 2_400.0),
}


def _voice(pitch_hz: float | Wave, vowel: str, n: int) -> Wave:
    """Return a voiced sound: a glottal buzz through three formants."""
    buzz = harmonics(pitch_hz, 1.0 / np.arange(1, 41) ** 1.2, n)
    widths = (80.0, 110.0, 160.0)
    return resonate(buzz, list(zip(_FORMANTS[vowel], widths, strict=True)))


def _vowel(n: int, rng: np.random.Generator) -> _Draft:
    pitch, rate = _log_uniform(rng, 110.0, 280.0), float(rng.uniform(0.8, 2.0))
    vowel = str(rng.choice(list(_FORMANTS)))
    t = np.arange(n) / SAMPLE_RATE_HZ
    sung = _voice(pitch * (1.0 + 0.01 * np.sin(2.0 * np.pi * 5.0 * t)), vowel, n)
    envelope = (0.5 - 0.5 * np.cos(2.0 * np.pi * rate * t)) ** 0.7
    return _Draft(sung * envelope, f"a voice singing '{vowel}' at {pitch:.0f} Hz", rate, pitch)


def _speech(n: int, rng: np.random.Generator) -> _Draft:
    pitch, rate = _log_uniform(rng, 95.0, 230.0), float(rng.uniform(3.0, 5.0))
    grains: list[tuple[float, Wave]] = []
    for onset in np.arange(0.0, n / SAMPLE_RATE_HZ, 1.0 / rate):
        if rng.uniform() < 0.12:  # a breath between phrases
            continue
        length = _samples(0.85 / rate)
        fall = pitch * (1.0 + rng.uniform(-0.15, 0.2) - 0.1 * np.linspace(0.0, 1.0, length))
        voiced = _voice(fall, str(rng.choice(list(_FORMANTS))), length) * swell(length, 0.04, 0.06)
        voiced /= max(float(np.max(np.abs(voiced))), 1e-9)
        burst = _samples(0.035)
        centre = rng.uniform(2_000.0, 6_000.0)
        hiss = shaped_noise(burst, rng, gain=_band(centre, 1_200.0))
        grains += [(float(onset) + 0.03, voiced), (float(onset), 0.15 * hiss * decay(burst, 0.015))]
    words = f"a {'low' if pitch < 150.0 else 'high'} voice babbling syllables"
    return _Draft(place(n, grains), words, rate, pitch)


def _noise(n: int, rng: np.random.Generator) -> _Draft:
    centre, rate = _log_uniform(rng, 500.0, 4_500.0), float(rng.uniform(1.2, 4.0))
    hiss = shaped_noise(n, rng, gain=_band(centre, 0.35 * centre))
    length = _samples(0.6 / rate)
    gate = place(
        n,
        [
            (k / rate, swell(length, 0.02, 0.03))
            for k in range(int(np.ceil(n * rate / SAMPLE_RATE_HZ)))
        ],
    )
    return _Draft(hiss * gate, f"bursts of noise around {centre:.0f} Hz", rate, centre)


def _rain(n: int, rng: np.random.Generator) -> _Draft:
    density, gust = _log_uniform(rng, 15.0, 60.0), float(rng.uniform(0.4, 1.0))
    hiss = shaped_noise(n, rng, gain=lambda f: 1.0 / np.sqrt(1.0 + (f / 2_500.0) ** 2))
    t = np.arange(n) / SAMPLE_RATE_HZ
    wind = 0.35 + 0.65 * (0.5 - 0.5 * np.cos(2.0 * np.pi * (gust * t + rng.uniform())))
    drops = []
    for onset in np.sort(rng.uniform(0.0, n / SAMPLE_RATE_HZ, round(density * n / SAMPLE_RATE_HZ))):
        length = _samples(0.03)
        plop = harmonics(_log_uniform(rng, 1_500.0, 6_000.0), [1.0], length) * decay(
            length, 0.005, 0.001
        )
        drops.append((float(onset), rng.uniform(0.3, 1.5) * plop))
    return _Draft(0.35 * hiss * wind + place(n, drops), "rain with drops and gusts", density)


def _clicks(n: int, rng: np.random.Generator) -> _Draft:
    rate = float(rng.uniform(2.0, 8.0))
    length = _samples(0.012)
    click = harmonics(_log_uniform(rng, 1_000.0, 3_500.0), [1.0, 0.6], length) * decay(
        length, 0.002, 5e-4
    )
    wave = place(n, [(onset, click) for onset in np.arange(0.0, n / SAMPLE_RATE_HZ, 1.0 / rate)])
    return _Draft(wave, f"{rate:.1f} clicks a second", rate, tempo_bpm=60.0 * rate)


def _birdsong(n: int, rng: np.random.Generator) -> _Draft:
    centre, rate = _log_uniform(rng, 2_200.0, 4_500.0), float(rng.uniform(5.0, 9.0))
    group = int(rng.integers(3, 6))
    grains, onset, chirps = [], 0.0, 0
    while onset < n / SAMPLE_RATE_HZ:
        for _ in range(group):
            length = _samples(0.7 / rate)
            bend = rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 0.3)
            glide = centre * (1.0 + bend * np.linspace(-1.0, 1.0, length))
            grains.append((onset, harmonics(glide, [1.0], length) * swell(length, 0.015, 0.03)))
            onset, chirps = onset + 1.0 / rate, chirps + (onset < n / SAMPLE_RATE_HZ)
        onset += 1.5 / rate
    density = chirps * SAMPLE_RATE_HZ / n
    return _Draft(place(n, grains), f"birdsong around {centre:.0f} Hz", density, centre)


def _engine(n: int, rng: np.random.Generator) -> _Draft:
    pitch, throb = _log_uniform(rng, 55.0, 110.0), float(rng.uniform(2.0, 5.0))
    t = np.arange(n) / SAMPLE_RATE_HZ
    hum = harmonics(pitch, 0.85 ** np.arange(14), n)
    rumble = 0.4 * shaped_noise(n, rng, gain=lambda f: np.exp(-f / 250.0))
    throbbing = 0.35 + 0.65 * (0.5 + 0.5 * np.sin(2.0 * np.pi * throb * t)) ** 2
    return _Draft((hum + rumble) * throbbing, f"an engine humming at {pitch:.0f} Hz", throb, pitch)


_MAKERS: dict[str, Callable[[int, np.random.Generator], _Draft]] = {
    "tone": _tone,
    "chord": _chord,
    "piano": _piano,
    "flute": _flute,
    "drums": _drums,
    "vowel": _vowel,
    "speech": _speech,
    "noise": _noise,
    "rain": _rain,
    "clicks": _clicks,
    "birdsong": _birdsong,
    "engine": _engine,
}

LABELS = tuple(_MAKERS)


def make_stimulus(label: str, seed: int, duration_s: float) -> Stimulus:
    """Make one sound of a class; the same arguments give the same bytes.

    Parameters
    ----------
    label : str
        One of `LABELS`.
    seed : int
        At least 0.
    duration_s : float
        Length, s; at least 0.1.

    Returns
    -------
    stimulus : Stimulus
        Mono, 16 kHz, at -26 to -20 dBFS RMS.

    Raises
    ------
    SettingError
        If there is no such class, the seed is negative or the sound is too short.
    """
    if label not in _MAKERS:
        raise SettingError(f"No class of sounds is named {label!r}; there are {', '.join(LABELS)}.")
    if seed < 0 or not duration_s >= 0.1:
        raise SettingError(
            f"A stimulus needs a seed >= 0 and at least 0.1 s, got seed {seed} and {duration_s} s."
        )
    # The class goes into the seed by a checksum of its name: new classes leave the others alone.
    rng = np.random.default_rng([zlib.crc32(label.encode()), seed])
    draft = _MAKERS[label](round(duration_s * SAMPLE_RATE_HZ), rng)
    wave = set_rms(fade_edges(draft.wave), float(rng.uniform(-26.0, -20.0)))
    pcm = wave.astype(np.float32)
    pcm.setflags(write=False)
    factors = Factors(
        pitch_hz=draft.pitch_hz,
        tempo_bpm=draft.tempo_bpm,
        brightness_hz=spectral_centroid_hz(wave),
        loudness_dbfs=10.0 * float(np.log10(np.mean(wave**2))),
        density_hz=draft.density_hz,
    )
    return Stimulus(f"{label}-{seed:05d}", label, pcm, factors, draft.caption)


def stimulus_sequence(
    seed: int, seconds: float, *, clip_s: float = 3.0, classes: Sequence[str] = LABELS
) -> StimulusSequence:
    """Make clips one after another: each class once in a random order, then again, and so on.

    Clips of one sequence never repeat: each has a seed of its own, drawn from `seed`. No class
    follows itself where there is more than one.

    Parameters
    ----------
    seed : int
        At least 0; sequences of different seeds share no clip but by chance (1 in 2**31).
    seconds : float
        Length; the last clip is cut off there, and left out if less than 0.5 s of it would remain.
    clip_s : float
        Length of a clip, s.
    classes : sequence of str
        Which of `LABELS` take part.

    Raises
    ------
    SettingError
        If there is no class, or a length is not usable.
    """
    if not classes or not clip_s >= 0.5 or not seconds >= 0.5:
        raise SettingError(
            "A sequence needs a class, clips of at least 0.5 s and 0.5 s in all, got "
            f"{len(classes)} classes, clips of {clip_s} s and {seconds} s in all."
        )
    rng = np.random.default_rng([zlib.crc32(b"sequence"), seed])
    clips: list[PlacedClip] = []
    order: list[str] = []
    onset_s = 0.0
    while seconds - onset_s >= 0.5 - 1e-9:
        if not order:
            order = [str(label) for label in rng.permutation(list(classes))]
            if len(order) > 1 and clips and clips[-1].stimulus.label == order[0]:
                order.append(order.pop(0))
        duration_s = min(clip_s, seconds - onset_s)
        stimulus = make_stimulus(order.pop(0), int(rng.integers(2**31)), duration_s)
        clips.append(PlacedClip(stimulus, onset_s, duration_s))
        onset_s += duration_s
    pcm = np.concatenate([clip.stimulus.pcm for clip in clips])
    pcm.setflags(write=False)
    return StimulusSequence(pcm, tuple(clips))
