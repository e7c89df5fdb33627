"""A simulated listener that hears what is presented now: it follows markers and streams its brain.

To try `hearback calibrate --live` without a cap, in two terminals:

    python -m calibration.following_listener --stimuli sounds
    hearback calibrate --live --stream EEG --stimuli sounds --out bundles/me

The first makes the folder of sounds if it is not there. It streams noise until the second sends a
marker at the onset of a sound; from then on the brain answers to this sound, and stays silent while
nothing is played. The stream is a little behind (`delay_s`), as that of an amplifier is, but its
stamps are those at which its samples were taken: answers begin when the sound was heard.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Stimulus
from calibration.followed_response import EndlessNoise, FollowedResponse
from calibration.listener_bold import BOLD_SHAPE, BoldListener
from calibration.listener_eeg import EEG_CHANNELS, EegListener
from calibration.readers.stimuli import StimulusFiles
from calibration.stimuli import LABELS, SAMPLE_RATE_HZ, make_stimulus
from calibration.stimulus_sound import stimulus_sound
from models.errors import FileError, HearbackError, SettingError, SourceError

__all__ = [
    "FollowingSettings",
    "follow",
    "main",
    "make_sounds",
]

logger = logging.getLogger(__name__)

_CHUNK_S = 0.04
_KEPT_S = 0.5  # of answers after the end of a sound, EEG
_KEPT_BOLD_S = 33.0  # the haemodynamic response of `listener_bold` ends after 32 s
_NOISE_S = {"eeg": 60.0, "fmri": 900.0}  # a piece of noise
_JOIN_S = {"eeg": 2.0, "fmri": 30.0}
_LOOK_S = 0.3


@dataclass(frozen=True, slots=True)
class FollowingSettings:
    """Who listens to what, and under which name the brain is streamed.

    Raises
    ------
    SettingError
        If a number is out of range.
    """

    stimuli: Path  # the folder or table whose sounds are presented
    name: str = "EEG"
    follow: str = "hearback-calibration"  # name of the stream of markers
    modality: Literal["eeg", "fmri"] = "eeg"
    snr_db: float = 10.0  # clearer than any cap, so that two minutes are enough; -inf: deaf
    person: int = 1
    seed: int = 0  # of the noise
    delay_s: float = 0.5  # from a sample's stamp to its sending; a marker may be so late
    seconds: float = float("inf")
    source_id: str = ""

    def __post_init__(self) -> None:
        if self.modality not in _NOISE_S:
            raise SettingError(f"--modality is 'eeg' or 'fmri', got {self.modality!r}.")
        if not 0.1 <= self.delay_s <= 10.0 or not self.seconds > 0.0:
            raise SettingError(
                "A following listener needs a delay of 0.1 to 10 s and a length above 0 s, got "
                f"{self.delay_s} and {self.seconds}."
            )


class _Sounds:
    """The sounds that markers name, as they are played, at 16 kHz."""

    def __init__(self, stimuli: Path) -> None:
        self._files = StimulusFiles(stimuli)
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, name: str, gain_db: float) -> NDArray[np.float32] | None:
        if name not in self._known:
            stimulus: Stimulus = self._files.stimulus(name)
            if stimulus.path is None:
                logger.warning("There is no sound for the marker %r; it is not heard.", name)
                return None
            self._known[name] = stimulus_sound(stimulus, sample_rate_hz=SAMPLE_RATE_HZ)
        return np.asarray(self._known[name] * np.float32(10.0 ** (gain_db / 20.0)), np.float32)


def follow(
    settings: FollowingSettings,
    *,
    stop: threading.Event | None = None,
    on_message: Callable[[str], None] | None = None,
) -> FollowedResponse:
    """Stream the brain of a listener who hears what the markers say, until told to stop.

    Parameters
    ----------
    settings : FollowingSettings
    stop : Event, optional
    on_message : callable, optional
        Told, in sentences, what happens.

    Returns
    -------
    response : FollowedResponse
        How many sounds were heard, and how many of them too late.

    Raises
    ------
    FileError
        If there are no stimuli.
    """
    from stream.lsl import clock, configure
    from stream.sender import Sender

    configure()
    stop = stop or threading.Event()
    tell = on_message or logger.info
    eeg = settings.modality == "eeg"
    person: Any = (EegListener if eeg else BoldListener)(settings.person, settings.snr_db)
    sfreq_hz = float(person.sfreq_hz) if eeg else 1.0 / person.tr_s
    respond = (lambda pcm, n: person.respond(pcm)[:n]) if eeg else person.respond
    sounds = _Sounds(settings.stimuli)
    response = FollowedResponse(
        respond,
        sfreq_hz=sfreq_hz,
        n_channels=len(EEG_CHANNELS) if eeg else person.n_voxels,
        kept_s=_KEPT_S if eeg else _KEPT_BOLD_S,
    )
    noise = EndlessNoise(
        person.noise,
        n=round(_NOISE_S[settings.modality] * sfreq_hz),
        join=round(_JOIN_S[settings.modality] * sfreq_hz),
        seed=settings.seed,
    )
    baseline = 0.0 if eeg else 1_000.0
    # What takes long at its first call must not hold up the stream.
    person.respond(np.zeros(SAMPLE_RATE_HZ, np.float32), *(() if eeg else (1,)))
    with Sender(_description(settings, sfreq_hz)) as sender:
        tell(f"Streaming '{settings.name}'; listening to the markers of '{settings.follow}'.")
        t0 = clock() - settings.delay_s
        ears = _Ears(settings.follow, stop)
        n_sent = 0
        step = max(1, round(_CHUNK_S * sfreq_hz)) if eeg else 1
        try:
            while not stop.is_set() and n_sent / sfreq_hz < settings.seconds:
                due = t0 + (n_sent + step) / sfreq_hz + settings.delay_s
                # Woken often, so that answers are ready before they are due.
                if stop.wait(min(max(due - clock(), 0.0), 0.05)):
                    break
                for stamp, text in ears.heard():
                    _hear(text, stamp - t0, response, sounds)
                if clock() < due:
                    continue
                samples = (baseline + response.take(step) + noise.take(step)).astype(np.float32)
                stamps = t0 + (n_sent + np.arange(step)) / sfreq_hz
                sender.push(samples, stamps, first=n_sent)
                n_sent += step
        finally:
            stop.set()
            ears.close()
    tell(f"{response.n_heard} sounds were heard, {response.n_late} of them told too late.")
    return response


def _hear(text: str, at_s: float, response: FollowedResponse, sounds: _Sounds) -> None:
    """Take in one marker."""
    try:
        values = json.loads(text)
        name = str(values["stimulus"])
        gain_db = float(values.get("gain_db", 0.0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # somebody else's marker
    if values.get("event") == "stop":
        response.stop(at_s)
        return
    try:
        pcm = sounds(name, gain_db)
    except HearbackError as error:
        logger.warning("The sound %r is not heard: %s", name, error)
        return
    if pcm is not None:
        response.hear(pcm, at_s)


class _Ears:
    """Finds the stream of markers whenever there is one, in a thread of its own."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        self._name = name
        self._stop = stop
        self._source: Any = None
        self._closed = False
        self._thread = threading.Thread(target=self._find, name="find markers", daemon=True)
        self._thread.start()

    def _find(self) -> None:
        from stream.lsl import StreamQuery
        from stream.text_source import TextSource

        while not self._stop.is_set():
            # Its own name alone: the source found first is kept, and found again by its name.
            source = TextSource(StreamQuery(name=self._name, type="Markers"), timeout_s=_LOOK_S)
            try:
                source.start()
            except SourceError:
                self._stop.wait(_LOOK_S)
                continue
            self._source = source
            return

    def heard(self) -> list[tuple[float, str]]:
        """Return what has come: time, s, LSL clock of this machine, and text."""
        if self._source is None:
            return []
        from stream.recorder_streams import SentText

        offsets = self._source.clock_offsets()
        offset = offsets[-1][1] if offsets else 0.0
        return [
            (event.raw_stamp + offset, event.texts[0])
            for event in self._source.timeline.read()
            if isinstance(event, SentText)
        ]

    def close(self) -> None:
        """Let go of the stream."""
        self._thread.join()
        if self._source is not None:
            self._source.stop()


def _description(settings: FollowingSettings, sfreq_hz: float) -> Any:
    from stream.sender import StreamDescription
    from stream.source_info import BoldInfo

    eeg = settings.modality == "eeg"
    n_voxels = int(np.prod(BOLD_SHAPE))
    return StreamDescription(
        name=settings.name,
        type="EEG" if eeg else "BOLD",
        labels=EEG_CHANNELS if eeg else tuple(f"v{k}" for k in range(n_voxels)),
        sfreq_hz=sfreq_hz,
        source_id=settings.source_id or f"hearback-following-{settings.name}",
        unit="V" if eeg else "a.u.",
        bold=None if eeg else BoldInfo(BOLD_SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]), 1.0 / sfreq_hz),
    )


def make_sounds(
    folder: Path, *, n: int = 8, duration_s: float = 3.0, labels: Sequence[str] = LABELS
) -> None:
    """Write procedural sounds as WAV files, one of each class in turn.

    Raises
    ------
    FileError
        If the folder cannot be made or written.
    """
    import soundfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(n):
            sound = make_stimulus(labels[k % len(labels)], k, duration_s)
            soundfile.write(folder / f"{sound.name}.wav", sound.pcm, SAMPLE_RATE_HZ)
    except (OSError, soundfile.SoundFileError) as error:
        raise FileError(f"Sounds cannot be written into {folder}: {error}.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a listener until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m calibration.following_listener",
        description="A simulated listener who hears what `hearback calibrate --live` presents.",
    )
    parser.add_argument("--stimuli", type=Path, required=True, help="folder; made if not there")
    parser.add_argument("--name", help="of the stream; default: EEG or BOLD")
    parser.add_argument("--follow", default="hearback-calibration", help="stream of markers")
    parser.add_argument("--modality", choices=["eeg", "fmri"], default="eeg")
    parser.add_argument("--snr-db", type=float, default=10.0, help="clearness; -inf: deaf")
    parser.add_argument("--person", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument(
        "--with-parent", action="store_true", help="end when standard input is closed"
    )
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())

    def watch() -> None:
        # Not through sys.stdin: a thread inside its buffer breaks the end of the interpreter.
        while os.read(0, 1):
            pass
        stop.set()

    if options.with_parent:
        threading.Thread(target=watch, name="standard input", daemon=True).start()

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    try:
        if not options.stimuli.exists():
            make_sounds(options.stimuli)
            say(f"Made 8 sounds in {options.stimuli}.")
        settings = FollowingSettings(
            stimuli=options.stimuli,
            name=options.name or ("EEG" if options.modality == "eeg" else "BOLD"),
            follow=options.follow,
            modality=options.modality,
            snr_db=options.snr_db,
            person=options.person,
            seed=options.seed,
            delay_s=options.delay_s,
            seconds=options.seconds,
        )
        follow(settings, stop=stop, on_message=say)
    except HearbackError as error:
        say(f"following listener: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
