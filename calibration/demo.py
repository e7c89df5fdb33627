"""The demo: a simulated listener in a second process, decoded and played beside what it hears.

Left: what is heard. Right: what was decoded from the brain. At the end: how well the decoded sound
tells what was heard, against chance and against brains that heard something else.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from calibration.demo_score import (
    DemoScore,
    decode_run,
    library_embedding,
    score_sound,
    segments_of,
)
from calibration.demo_track import DecodedTrack, StimulusTrack
from calibration.listener import ListenerProcess, ListenerSettings, simulate
from export.bundle import load_bundle
from models.errors import DeviceError, SettingError, SourceError
from stream.summary import Summary

__all__ = ["DemoSettings", "DemoSummary", "demo_bundle", "run_demo"]

_SECONDS = {"eeg": 30.0, "fmri": 90.0}
_NAMES = {"eeg": "EEG", "fmri": "fMRI"}
_SEGMENT_S = {"eeg": 2.0, "fmri": None}  # None: clip by clip, since the blood is slow
_TAIL_S = {"eeg": 0.0, "fmri": 2.0}
_N_FLOORS = 5
_LEAD_S = 0.1  # nobody acts on this sound: it may be later, and survives a busier machine
_FIND_S = (10.0, 15.0, 30.0)


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo is to do."""

    modality: Literal["eeg", "fmri"] = "eeg"
    seconds: float | None = None  # None: 30 s of EEG, 90 s of fMRI
    sink: str | None = None  # None: the loudspeaker, or demo.wav where there is none
    out: Path | None = None  # folder of the session; demo.wav goes there too
    seed: int = 0  # of the sounds; never those that the bundle was fitted on
    snr_db: float | None = None  # of the listener; None: that of the bundle; -inf: deaf
    keyboard: bool = True
    display: bool = True

    def __post_init__(self) -> None:
        if self.modality not in _SECONDS:
            raise SettingError(f"--modality is 'eeg' or 'fmri', got {self.modality!r}.")
        least = 3.0 if self.modality == "eeg" else 20.0
        if self.seconds is not None and not least <= self.seconds <= 3_600.0:
            raise SettingError(
                f"--seconds for {self.modality} lies between {least:g} and 3,600, "
                f"got {self.seconds:g}."
            )

    @property
    def length_s(self) -> float:
        """How long the brain is listened to, s."""
        return _SECONDS[self.modality] if self.seconds is None else self.seconds


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """The summary of the live session, and how well the sound identified what was heard."""

    live: Summary
    score: DemoScore | None  # None: too short to say
    first_sound_s: float | None  # from the first sample's stamp to the first decoded sound
    sink: str

    def to_json(self) -> dict[str, Any]:
        """Return the object to print."""
        values = self.live.to_json()
        score = self.score
        values["identification"] = None if score is None else round(score.identification, 4)
        values["identification_strict"] = (
            None if score is None else round(score.identification_strict, 4)
        )
        values["identification_se"] = None if score is None else round(score.standard_error, 4)
        values["chance"] = 0.5
        values["chance_se"] = None if score is None else round(score.chance_se, 4)
        values["permutation_p"] = None if score is None else round(score.permutation_p, 5)
        values["n_segments"] = 0 if score is None else score.n_segments
        values["segment_s"] = None if score is None else round(score.segment_s, 3)
        values["floor_shuffled"] = None if score is None else round(score.floor_shuffled, 4)
        values["first_sound_s"] = self.first_sound_s
        values["sink"] = self.sink
        return values

    @property
    def told(self) -> str:
        """What a person should read at the end."""
        s = self.score
        if s is None:
            return (
                "Too little was heard, or too much left out by a busy machine, to say how well the "
                "decoded sound identifies what was heard."
            )
        return (
            f"Identification {100 * s.identification:.0f} % (chance 50 % +- "
            f"{100 * s.chance_se:.0f}, p = {s.permutation_p:.4f}): so often does a decoded "
            f"stretch of {s.segment_s:.1f} s resemble what was heard more than another of the "
            f"{s.n_segments} stretches.\n"
            f"The same brain while it heard other sounds: {100 * s.floor_shuffled:.0f} %."
        )


def demo_bundle(modality: Literal["eeg", "fmri"]) -> Path:
    """Return the folder of the shipped bundle."""
    return Path(__file__).parent / "demo_bundles" / modality


def run_demo(
    settings: DemoSettings, *, on_message: Callable[[str], None] = lambda text: None
) -> DemoSummary:
    """Run the demo.

    Parameters
    ----------
    settings : DemoSettings
    on_message : callable
        Told, in sentences, what happens.

    Returns
    -------
    summary : DemoSummary

    Raises
    ------
    HearbackError
        With what was expected, what came and what to do.
    """
    from stream.chain import open_chain
    from stream.config import LiveSettings
    from stream.live import run_live
    from stream.lsl import configure

    configure()
    sink, notes = _choose_sink(settings)
    for note in notes:
        on_message(note)
    for find_s in _FIND_S:
        listener = ListenerSettings(
            modality=settings.modality,
            name=f"hearback-demo-{uuid.uuid4().hex[:8]}",
            source_id=str(uuid.uuid4()),
            seconds=settings.length_s,
            seed=settings.seed,
            snr_db=settings.snr_db,
        )
        # Started first: while it makes up its mind, this process opens the bundle.
        with ListenerProcess(listener) as process:
            on_message(
                f"A simulated listener ({_NAMES[settings.modality]}) hears "
                f"{settings.length_s:g} s of sounds. Left: what is heard. Right: what is decoded."
            )
            bundle = load_bundle(demo_bundle(settings.modality))
            chain = open_chain(bundle)
            sequence = listener.sequence
            track = StimulusTrack(
                sequence, sfreq_hz=bundle.manifest.input.sfreq_hz, delay_s=chain.renderer.delay_s
            )
            decoded = DecodedTrack(track, len(sequence.pcm))
            live = LiveSettings(
                bundle=bundle.path,
                stream=listener.name,
                sink=sink,
                seconds=None,
                out=settings.out,
                find_s=find_s,
                lead_s=_LEAD_S,
                ended_after_s=1.0,
                keyboard=settings.keyboard,
                display=settings.display,
            )
            try:
                summary = run_live(live, companion=track, observers=[decoded])
                process.check()
                break
            except SourceError:
                process.check()  # says more than that its stream is gone
                # On a machine with many LSL streams an outlet now and then is never seen by
                # anyone; another one, on another port, is.
                if track.blocks() or find_s == _FIND_S[-1]:
                    raise
                on_message("Its stream does not show up; once more with another listener.")
    on_message("Scoring the decoded sound ...")
    pcm, known = decoded.assemble()
    segments = segments_of(
        sequence,
        known,
        segment_s=_SEGMENT_S[settings.modality],
        tail_s=_TAIL_S[settings.modality],
    )
    floors = []
    if len(segments) >= 3:
        for k in range(_N_FLOORS):
            other = simulate(replace(listener, seed=settings.seed + 7_000 + k))
            floors.append(decode_run(bundle, chain, other, sequence.pcm, segments))
    score = score_sound(
        sequence.pcm, pcm, segments, embedding=library_embedding(bundle), floors=floors
    )
    return DemoSummary(summary, score, decoded.first_sound_s, sink)


def _choose_sink(settings: DemoSettings) -> tuple[str, list[str]]:
    """Return the sink, and what to say about it: a file where no loudspeaker can be had."""
    if settings.sink is not None:
        return settings.sink, []
    from stream.audio_device import DeviceSink
    from stream.playback import Player

    try:
        DeviceSink(Player(sample_rate_hz=16_000, n_channels=2)).stop()
    except DeviceError as error:
        folder = settings.out or Path.cwd()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "demo.wav"
        first = str(error).split(". ")[0]
        return str(path), [f"No sound device here ({first}): the sound goes to {path}."]
    return "device", []
