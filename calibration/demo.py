"""The demo: a simulated listener in a second process, decoded and played beside what it hears.

Left: what is heard. Right: what was decoded from the brain. At the end: how well the decoded sound
tells what was heard, against chance and against brains that heard something else.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibration.demo_choice import DemoChain, DemoKind, DemoModality, choose_demo, demo_bundle
from calibration.demo_generated import DecodedConditions, GeneratedDemo, score_generated_demo
from calibration.demo_score import (
    DemoScore,
    decode_run,
    library_embedding,
    score_sound,
    segments_of,
)
from calibration.demo_track import DecodedTrack, StimulusTrack
from calibration.listener import ListenerProcess, ListenerSettings, simulate
from export.bundle import Bundle, load_bundle
from models.errors import DeviceError, SettingError, SourceError
from stream.summary import Summary

__all__ = ["DemoSettings", "DemoSummary", "demo_bundle", "run_demo"]

_N_FLOORS = 5
# Nobody acts on this sound: it may be later, and survives a busier machine; blood is slow anyway.
_LEAD_S = {"eeg": 0.1, "fmri": 0.3}
_FIND_S = (10.0, 15.0, 30.0)


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo is to do."""

    modality: DemoModality | None = None  # None: see `choose_demo`
    chain: DemoChain | None = None
    seconds: float | None = None  # None: that of the kind of demo
    sink: str | None = None  # None: the loudspeaker, or demo.wav where there is none
    out: Path | None = None  # folder of the session; demo.wav goes there too
    seed: int = 0  # of the sounds; never those that the bundle was fitted on
    snr_db: float | None = None  # of the listener; None: that of the bundle; -inf: deaf
    keyboard: bool = True
    display: bool = True
    bundles: Path | None = None  # folder of demo bundles; None: those that ship

    def __post_init__(self) -> None:
        kind = self.kind
        if self.seconds is not None and not kind.least_s <= self.seconds <= 3_600.0:
            raise SettingError(
                f"--seconds for {kind.modality} lies between {kind.least_s:g} and 3,600, "
                f"got {self.seconds:g}."
            )

    @property
    def kind(self) -> DemoKind:
        """Which demo it is."""
        return choose_demo(self.modality, self.chain, bundles=self.bundles)

    @property
    def length_s(self) -> float:
        """How long the brain is listened to, s."""
        return self.kind.seconds if self.seconds is None else self.seconds


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """The summary of the live session, and how well the sound identified what was heard."""

    live: Summary
    score: DemoScore | None  # None: too short to say
    first_sound_s: float | None  # from the first sample's stamp to the first decoded sound
    sink: str
    chain: DemoChain = "direct"
    generated: GeneratedDemo | None = None  # where a generator made the sound

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
        values["chain"] = self.chain
        if self.generated is not None:
            values |= self.generated.to_json()
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
            + ("" if self.generated is None else f"\n{self.generated.told}")
            + (
                ""
                if s.permutation_p < 0.05
                else "\nThat is too little to say that anything was decoded; a longer demo says "
                "more (--seconds)."
            )
        )


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
    kind = settings.kind
    folder = demo_bundle(kind.chain, bundles=settings.bundles)
    sink, notes = _choose_sink(settings)
    for note in notes:
        on_message(note)
    for find_s in _FIND_S:
        listener = ListenerSettings(
            modality=kind.modality,
            name=f"hearback-demo-{uuid.uuid4().hex[:8]}",
            source_id=str(uuid.uuid4()),
            seconds=settings.length_s,
            seed=settings.seed,
            snr_db=settings.snr_db,
        )
        # Started first: while it makes up its mind, this process opens the bundle.
        with ListenerProcess(listener) as process:
            on_message(
                f"A simulated listener ({kind.measured_by}) hears {settings.length_s:g} s of "
                f"sounds. Left: what is heard. Right: what is {kind.told}."
            )
            bundle = load_bundle(folder)
            chain = open_chain(bundle)
            sequence = listener.sequence
            track = StimulusTrack(
                sequence, sfreq_hz=bundle.manifest.input.sfreq_hz, delay_s=chain.renderer.delay_s
            )
            decoded = DecodedTrack(track, len(sequence.pcm))
            conditions = DecodedConditions()
            if kind.modality == "fmri":
                on_message(_patience(bundle))
            live = LiveSettings(
                bundle=bundle.path,
                stream=listener.name,
                sink=sink,
                seconds=None,
                out=settings.out,
                find_s=find_s,
                lead_s=_LEAD_S[kind.modality],
                ended_after_s=1.0,
                keyboard=settings.keyboard,
                display=settings.display,
            )
            try:
                summary = run_live(live, companion=track, observers=[decoded, conditions])
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
        segment_s=kind.segment_s,
        tail_s=kind.tail_s,
    )
    if kind.generated:
        generated = score_generated_demo(
            bundle,
            chain,
            heard=sequence.pcm,
            played=pcm,
            segments=segments,
            conditions=conditions.conditions,
            listener=listener,
            on_message=on_message,
        )
        score = None if generated is None else generated.direct
        return DemoSummary(summary, score, decoded.first_sound_s, sink, kind.chain, generated)
    floors = []
    if len(segments) >= 3:
        for k in range(_N_FLOORS):
            other = simulate(replace(listener, seed=settings.seed + 7_000 + k))
            floors.append(decode_run(bundle, chain, other, sequence.pcm, segments))
    embedding = library_embedding(bundle)
    embed = None if embedding is None else embedding.embed
    score = score_sound(sequence.pcm, pcm, segments, embed=embed, floors=floors)
    return DemoSummary(summary, score, decoded.first_sound_s, sink, kind.chain)


def _patience(bundle: Bundle) -> str:
    """Return what happens before anything is heard, and why the sound is so late."""
    manifest = bundle.manifest
    window_s = getattr(manifest.features, "window_s", manifest.sound.block_s)
    late_s = manifest.lag_s + manifest.sound.block_s
    return (
        f"A volume comes every {1.0 / manifest.input.sfreq_hz:g} s, and the first window takes "
        f"{window_s:g} s: until then it is silent. Blood answers late, so each sound renders what "
        f"was heard {late_s:g} s before; left and right are in step with each other."
    )


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
