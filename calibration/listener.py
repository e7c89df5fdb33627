"""The simulated listener as a process of its own: hears a sequence, streams its brain over LSL.

Who knows the settings knows what is heard: the sequence comes from a seed, so the sound need not be
sent along. The stream counts its samples from the onset of the sequence.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from calibration.demo_recipes import BOLD, EEG, DemoRecipe
from calibration.listener_bold import BOLD_SHAPE, BoldListener
from calibration.listener_eeg import EEG_CHANNELS, EegListener
from calibration.runs import Run
from calibration.stimuli import StimulusSequence, stimulus_sequence
from models.errors import SettingError, SourceError
from stream.priority import be_ordinary
from stream.recordings import RecordedMarkers, RecordedSignal, Recording, Segment

__all__ = [
    "ListenerProcess",
    "ListenerSettings",
    "main",
    "run_listener",
    "simulate",
    "simulated_recording",
]

# The person has been listening for so long when the stream begins: filters and blood are settled.
_LEAD_S = {"eeg": 2.0, "fmri": 15.0}


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Who hears what, and under which name it is streamed."""

    modality: Literal["eeg", "fmri"] = "eeg"
    name: str = "hearback-demo"
    source_id: str = ""
    seconds: float = 30.0  # of the stream
    seed: int = 0  # of the sounds and the noise
    person: int = 1
    snr_db: float | None = None  # None: that of the demo bundles
    wait_s: float = 30.0  # for a consumer, before the stream begins
    linger_s: float = 0.4  # after the last sample, for consumers to take it
    classes: tuple[str, ...] = field(default=())  # of sounds; empty: all

    def __post_init__(self) -> None:
        if self.modality not in _LEAD_S:
            raise SettingError(f"--modality is 'eeg' or 'fmri', got {self.modality!r}.")
        if not 1.0 <= self.seconds <= 3_600.0:
            raise SettingError(f"A listener hears for 1 to 3,600 s, got {self.seconds} s.")

    @property
    def recipe(self) -> DemoRecipe:
        """How long clips are, and how clear the signal is, for this modality."""
        return EEG if self.modality == "eeg" else BOLD

    @property
    def lead_s(self) -> float:
        """From the onset of the sounds to the first sample that is streamed, s."""
        return _LEAD_S[self.modality]

    @property
    def sequence(self) -> StimulusSequence:
        """What is heard, from `lead_s` before the stream begins."""
        seconds = self.lead_s + self.seconds
        if self.classes:
            return stimulus_sequence(
                self.seed, seconds, clip_s=self.recipe.clip_s, classes=self.classes
            )
        return stimulus_sequence(self.seed, seconds, clip_s=self.recipe.clip_s)


def simulate(settings: ListenerSettings, sequence: StimulusSequence | None = None) -> Run:
    """Return the brain's answer to the whole sequence, the lead included.

    Parameters
    ----------
    settings : ListenerSettings
    sequence : StimulusSequence, optional
        What is heard, where it was made already.
    """
    sequence = settings.sequence if sequence is None else sequence
    snr_db = settings.recipe.snr_db if settings.snr_db is None else settings.snr_db
    if settings.modality == "eeg":
        eeg = EegListener(settings.person, snr_db)
        return Run(eeg.record(sequence.pcm, seed=settings.seed), eeg.sfreq_hz, sequence)
    bold = BoldListener(settings.person, snr_db)
    return Run(bold.record(sequence.pcm, seed=settings.seed), 1.0 / bold.tr_s, sequence)


def simulated_recording(settings: ListenerSettings) -> Recording:
    """Return what is streamed: one signal from `lead_s` on, and a marker at each clip's onset."""
    run = simulate(settings)
    first = round(settings.lead_s * run.sfreq_hz)
    samples = np.ascontiguousarray(run.samples[first:])
    samples.flags.writeable = False
    stamps = np.arange(first, first + len(samples)) / run.sfreq_hz
    eeg = settings.modality == "eeg"
    signal = RecordedSignal(
        name=settings.name,
        type="EEG" if eeg else "BOLD",
        labels=EEG_CHANNELS if eeg else tuple(f"v{k}" for k in range(samples.shape[1])),
        unit="V" if eeg else "a.u.",
        scale=1.0,
        sfreq_hz=run.sfreq_hz,
        samples=samples,
        stamps=stamps,
        segments=(Segment(0, len(samples), first),),
        bold=None if eeg else _bold_info(1.0 / run.sfreq_hz),
        source_id=settings.source_id,
        counted=True,
    )
    clips = [clip for clip in run.sequence.clips if clip.onset_s >= settings.lead_s]
    markers = RecordedMarkers(
        name=f"{settings.name}-markers",
        stamps=np.array([clip.onset_s for clip in clips]),
        texts=tuple(f"{clip.stimulus.label} {clip.stimulus.name}" for clip in clips),
    )
    return Recording(Path("simulated"), "simulated", (signal,), (markers,) if clips else ())


def _bold_info(tr_s: float) -> Any:
    from stream.source_info import BoldInfo

    return BoldInfo(BOLD_SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]), tr_s)


def run_listener(
    settings: ListenerSettings,
    *,
    stop: threading.Event | None = None,
    on_progress: Callable[[Any], None] | None = None,
) -> int:
    """Stream a simulated listener over LSL at the pace of the clock, then end.

    Parameters
    ----------
    settings : ListenerSettings
    stop : Event, optional
        Ends the stream early.
    on_progress : callable, optional
        Told a few times a second where the stream is (`stream.replay.ReplayProgress`).

    Returns
    -------
    sent : int
        Samples or volumes that went out.
    """
    from stream.faults import FaultPlan
    from stream.lsl import configure
    from stream.replay import ReplaySettings, replay_here, source_ids

    configure()
    recording = simulated_recording(settings)
    how = ReplaySettings(
        path=recording.path,
        name=settings.name,
        wait_s=settings.wait_s,
        linger_s=settings.linger_s,
        source_id=settings.source_id,
        chunk_s=0.01,
    )
    ids = source_ids(recording, how)
    counts = [0] * len(ids)
    replay_here(
        recording,
        FaultPlan(),
        how,
        ids,
        counts=counts,
        stop=stop or threading.Event(),
        on_progress=on_progress,
    )
    return counts[0]


class ListenerProcess:
    """A simulated listener in a second process, which ends with this one whatever happens.

    Parameters
    ----------
    settings : ListenerSettings

    Raises
    ------
    SourceError
        On leaving, never; `check` raises it when the process has died.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        root = Path(__file__).resolve().parents[1]
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "calibration.listener", json.dumps(asdict(self.settings))],
            # When this process ends, however it ends, the pipe closes, and the listener stops.
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C is for us: the listener would die before its end could be told from a fault.
            start_new_session=True,
        )
        return self

    def check(self) -> None:
        """Raise if the listener has died.

        Raises
        ------
        SourceError
            With the last line that it wrote.
        """
        if self._process is not None and self._process.poll() not in (None, 0):
            assert self._process.stderr is not None
            said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            raise SourceError(
                "The simulated listener ended early: "
                f"{said[-1] if said else f'exit code {self._process.returncode}'}"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
        self._process = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a listener whose settings are one JSON object; end when standard input closes."""
    be_ordinary()  # it stands for another machine, and must not keep the sound waiting
    parser = argparse.ArgumentParser(prog="python -m calibration.listener", description=__doc__)
    parser.add_argument("settings", help='JSON, e.g. {"modality": "eeg", "seconds": 60}')
    values = json.loads(parser.parse_args(arguments).settings)
    values["classes"] = tuple(values.get("classes", ()))
    stop = threading.Event()

    def watch() -> None:
        # Not through sys.stdin: a thread inside its buffer breaks the end of the interpreter.
        while os.read(0, 1):
            pass
        stop.set()

    threading.Thread(target=watch, name="standard input", daemon=True).start()
    run_listener(ListenerSettings(**values), stop=stop)


if __name__ == "__main__":
    main()
