"""Calibration at the stream: play the stimuli, record the brain with sample-true markers.

What is recorded is a data set like any other, so what is fitted then is what
`hearback calibrate OUT.session --stimuli DIR --out OUT` fits from it at any later time.
"""

from __future__ import annotations

import asyncio
import math
import shlex
import sys
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from calibration.config import CalibrationSettings
from calibration.live_recording import (
    RunRecording,
    SessionPlace,
    check_room,
    session_place,
    write_report,
)
from calibration.live_settings import LiveCalibration
from calibration.live_watch import BrainWatch, SinkWatch
from calibration.presentation import (
    Programme,
    duration_text,
    load_programme,
    presentation_order,
)
from calibration.presenter import Presentation, Presenter
from models.errors import FileError, HearbackError, SourceError
from stream.control import Controls
from stream.messages import Command
from stream.playback import Player
from stream.sinks import Sink, open_sink

__all__ = ["CalibrationAborted", "LiveCalibration", "record_live"]

Progress = Callable[[str, float, float], None]  # what, done, total

_STEP_S = 0.01
_FADE_S = 0.01
_FADE_OUT_S = 0.5  # longest wait for silence after an abort
_LATE_S = 5.0  # longest wait, after a run, for samples that are on their way
_SETTLE_S = 1.0  # longest wait, after an abort, for samples that were taken before it
_FIRST_SAMPLE_S = 10.0
_HISTORY_S = 30.0  # how long the recorder may be held up
_BLOCK_S = 0.01


class CalibrationAborted(HearbackError):
    """The session was aborted; what was recorded is kept, and nothing is fitted."""

    exit_code: ClassVar[int] = 4


def record_live(
    live: LiveCalibration,
    settings: CalibrationSettings,
    *,
    progress: Progress | None = None,
    on_message: Callable[[str], None] | None = None,
) -> tuple[Path, CalibrationSettings]:
    """Play all stimuli and record the brain stream meanwhile.

    Keys: space pauses (the sound that is interrupted comes again), q ends after the sound that is
    heard, a or Ctrl-C aborts to silence within one block of sound.

    Parameters
    ----------
    live : LiveCalibration
    settings : CalibrationSettings
        Of the fit that is to follow.
    progress : callable, optional
        Called with what is being done, how much of it is done, and how much there is.
    on_message : callable, optional
        Told sentences for the operator.

    Returns
    -------
    dataset : Path
        Folder of the session: a run for each block, to be read by `calibration.readers`.
    settings : CalibrationSettings
        The same, with `data.stimuli` set to the sounds that were played.

    Raises
    ------
    SourceError
        If the stream is not there, sends nothing, or was lost for good.
    FileError
        If a sound cannot be read, there is no room, or too little was heard whole to fit anything.
    DeviceError
        If the loudspeaker cannot be had, or has stopped.
    CalibrationAborted
        If the operator aborted.
    """
    programme = load_programme(live.stimuli, ceiling_dbfs=live.ceiling_dbfs)
    session = _Session(
        live,
        programme,
        progress=progress or (lambda _what, _done, _total: None),
        tell=on_message or (lambda _text: None),
    )
    asyncio.run(session.run())
    return session.place.folder, replace(
        settings, data=replace(settings.data, stimuli=live.stimuli)
    )


class _Session:
    def __init__(
        self,
        live: LiveCalibration,
        programme: Programme,
        *,
        progress: Progress,
        tell: Callable[[str], None],
    ) -> None:
        self._live = live
        self._programme = programme
        self._blocks = presentation_order(len(programme.pcm), live.repeats, seed=live.seed)
        self._progress = progress
        self._tell = tell
        self._aborted = self._quit = self._paused = False
        self._origin = ""
        self._told = -1  # sounds done, as the progress shows
        self._runs: list[RunRecording] = []
        self._current: RunRecording | None = None
        # Made by `_open`.
        self.place: SessionPlace
        self._player: Player
        self._sink: Sink
        self._presenter: Presenter
        self._brain: BrainWatch
        self._sink_watch: SinkWatch
        self._lead_s = self._tail_s = self._gap_s = 0.0

    # -- from start to end -----------------------------------------------------------------------

    async def run(self) -> None:
        """Open everything, present every block, close, and say what came of it."""
        error: HearbackError | None = None
        async with AsyncExitStack() as stack:
            await self._open(stack)
            try:
                await self._await_start()
                for number, order in enumerate(self._blocks, start=1):
                    if self._aborted or self._quit:
                        break
                    await self._present(number, order)
            except HearbackError as failure:
                error = failure
            finally:
                await self._silence()
        self._finish(error)

    def _finish(self, error: HearbackError | None) -> None:
        """Write the report of the session; raise if it is not to be fitted."""
        kept, by_run = self._kept()
        wanted = sum(map(len, self._blocks))
        write_report(self.place.folder, self._report(error, kept))
        place = self.place.folder
        for run in self._runs:
            if run.failed:
                self._tell(f"The recording of {run.name} is not whole: {run.failed}.")
        if error is not None:
            raise type(error)(f"{error} What was recorded is kept in {place}.") from error
        if self._aborted:
            raise CalibrationAborted(
                f"Aborted by {self._origin}: {kept} of {wanted} presentations were recorded and "
                f"are kept in {place}. Fit them with: {self._command()}"
            )
        statistics = self._player.statistics()
        self._tell(
            f"{kept} of {wanted} presentations were heard whole; {self._presenter.n_cut} were cut "
            f"short, {statistics.underruns} underruns. Brain: {self._brain.told}"
        )
        enough = sum(n >= 2 for n in by_run) >= min(2, self._live.repeats)
        if not enough:
            raise FileError(
                f"Only {kept} of {wanted} presentations were kept, too few to fit a decoder: at "
                f"least 2 sounds in each of {min(2, self._live.repeats)} runs are needed. They are "
                f"in {place}; present again."
            )
        self._tell(f"Recorded in {place}. The same fit at any later time: {self._command()}")

    def _command(self) -> str:
        live = self._live
        words = ["hearback", "calibrate", str(self.place.folder)]
        words += ["--stimuli", str(live.stimuli), "--out", str(live.out)]
        return shlex.join(words)

    # -- opening -----------------------------------------------------------------------------------

    async def _open(self, stack: AsyncExitStack) -> None:
        """Check and open everything; what is pushed last on the stack is closed first."""
        from stream.lsl import clock, configure
        from stream.lsl_source import LslSource
        from stream.sender import MarkerSender

        live, programme = self._live, self._programme
        configure(lan=live.lan)
        source = await stack.enter_async_context(
            LslSource(live.stream, history_s=_HISTORY_S, timeout_s=live.find_s)
        )
        self._brain = BrainWatch(source, give_up_s=live.give_up_s)
        self._set_times()
        seconds = self._total_s()
        parent = next(p for p in live.out.absolute().parents if p.exists())
        sink = live.sink or "device"
        to_file = sink.lower().endswith(".wav")
        sound_bytes = 3.0 * programme.sample_rate_hz * seconds if to_file else 0.0
        check_room(parent, source.info, seconds, sound_bytes=sound_bytes)
        self._player = Player(
            sample_rate_hz=programme.sample_rate_hz,
            ceiling_dbfs=live.ceiling_dbfs,
            fade_s=_FADE_S,
            max_queue_s=1e6,
        )
        self._sink = open_sink(sink, self._player, block_s=_BLOCK_S)
        stack.push_async_callback(asyncio.to_thread, self._sink.stop)
        self._sink_watch = SinkWatch(self._sink)
        outlet = MarkerSender(live.markers, source_id=f"hearback-{uuid.uuid4()}")
        stack.push_async_callback(asyncio.to_thread, outlet.close)
        self._outlet = outlet
        self._presenter = Presenter(
            self._player,
            programme.pcm,
            gap_s=self._gap_s,
            on_onset=self._on_onset,
            on_end=self._on_end,
        )
        controls = stack.enter_context(
            Controls(asyncio.get_running_loop(), clock=clock, keys=live.keyboard)
        )
        self._controls = controls
        self.place = session_place(live.out)
        n = len(programme.pcm)
        told = f"{n} sounds x {live.repeats} = {duration_text(seconds)}"
        keys = "press q to stop, space to pause, a to abort" if controls.has_keyboard else ""
        self._tell(f"{told}; {keys or 'Ctrl-C aborts'}.")
        if programme.gain_db < -0.1:
            self._tell(
                f"All sounds are played {-programme.gain_db:.1f} dB softer, so that the loudest "
                f"keeps below {live.ceiling_dbfs:g} dBFS."
            )
        controls.start(self._command_given)

    def _set_times(self) -> None:
        live, bold = self._live, self._brain.is_bold
        self._lead_s = live.lead_s if live.lead_s is not None else 6.0 if bold else 2.0
        self._tail_s = live.tail_s if live.tail_s is not None else 15.0 if bold else 2.0
        self._gap_s = live.gap_s
        if bold and live.gap_s < live.bold_gap_s:
            self._gap_s = live.bold_gap_s
            self._tell(
                f"BOLD answers slowly: {self._gap_s:g} s of silence between sounds, "
                f"not {live.gap_s:g}."
            )

    def _total_s(self) -> float:
        once = sum(self._programme.durations_s) + self._gap_s * (len(self._programme.pcm) - 1)
        return self._live.repeats * (self._lead_s + once + max(self._tail_s, self._gap_s))

    async def _await_start(self) -> None:
        """Wait until the brain comes in, and until those who follow the markers have connected."""
        from stream.lsl import clock

        live, brain = self._live, self._brain
        until = math.inf if brain.is_bold else clock() + _FIRST_SAMPLE_S
        wanted = live.start_volume if brain.is_bold else 1
        if brain.is_bold:
            self._tell(f"Waiting for volume {wanted} of stream '{live.stream}' ...")
        while brain.delivered < wanted and not (self._aborted or self._quit):
            if clock() > until:
                raise SourceError(
                    f"Stream '{live.stream}' is there, but nothing came from it for "
                    f"{_FIRST_SAMPLE_S:g} s. Start the amplifier."
                )
            brain.check(clock())
            await asyncio.sleep(_STEP_S)
        meet = clock() + live.meet_s
        while clock() < meet and not (self._outlet.has_consumer() or self._aborted):  # noqa: ASYNC110
            await asyncio.sleep(_STEP_S)

    # -- a run -------------------------------------------------------------------------------------

    async def _present(self, number: int, order: tuple[int, ...]) -> None:
        from stream.lsl import clock

        loop = asyncio.get_running_loop()

        def on_failure(sentence: str) -> None:
            loop.call_soon_threadsafe(self._tell, sentence)

        run = await asyncio.to_thread(
            RunRecording,
            self.place,
            number,
            source=self._brain.source,
            outlet=self._outlet,
            programme=self._programme,
            on_failure=on_failure,
        )
        self._runs.append(run)
        self._current = run
        try:
            if number == 1:
                self._sink.start()
            self._presenter.begin(order, lead_s=self._lead_s, tail_s=self._tail_s)
            while not (self._presenter.finished or self._aborted):
                self._step(clock(), f"{run.name} of {len(self._blocks)}")
                await asyncio.sleep(_STEP_S)
            if not self._aborted:
                await self._await_tail(f"{run.name} of {len(self._blocks)}")
        finally:
            if self._aborted:
                await self._silence()
                await self._settle()
            self._presenter.note_heard()
            self._current = None
            await asyncio.to_thread(run.close)

    def _step(self, now: float, what: str) -> None:
        self._presenter.step()
        for sentence in self._brain.look(now):
            self._tell(sentence)
            if self._current is not None:
                self._current.note("source", sentence)
        for sentence in self._sink_watch.look(now):
            self._tell(sentence)
        self._brain.check(now)
        self._sink_watch.check(now)
        if self._paused or self._brain.away:
            self._presenter.pause()
        else:
            self._presenter.resume()
        wanted = sum(map(len, self._blocks))
        done = sum(len(run.heard) for run in self._runs)
        if done != self._told:  # not a hundred times a second
            self._told = done
            self._progress(f"{what}, sound {min(done + 1, wanted)} of {wanted}", done, wanted)

    async def _await_tail(self, what: str) -> None:
        """Record what the brain answers to the last sound; wait for samples on their way."""
        from stream.lsl import clock

        end = self._presenter.last_end
        end = (clock() if math.isnan(end) else end) + self._tail_s
        late_s = max(_LATE_S, 3.0 * self._brain.period_s)
        while not self._aborted:
            now = clock()
            if now > end and (self._brain.newest >= end or now > end + late_s):
                return
            self._step(now, what)
            await asyncio.sleep(_STEP_S)

    async def _settle(self) -> None:
        """After an abort: let samples arrive that were taken before it."""
        from stream.lsl import clock

        now = clock()
        while self._brain.newest < now and clock() < now + _SETTLE_S:  # noqa: ASYNC110
            await asyncio.sleep(_STEP_S)

    async def _silence(self) -> None:
        """Be silent before anything is closed."""
        from stream.lsl import clock

        if not hasattr(self, "_player"):
            return
        self._player.abort()
        until = clock() + _FADE_OUT_S
        while not self._player.idle and clock() < until:  # noqa: ASYNC110 - the audio thread sets no event
            await asyncio.sleep(_STEP_S)

    # -- what happens ------------------------------------------------------------------------------

    def _on_onset(self, presentation: Presentation) -> None:
        if self._current is not None:
            self._current.onset(presentation)

    def _on_end(self, presentation: Presentation, whole: bool) -> None:
        if self._current is not None:
            self._current.end(presentation, whole)

    def _command_given(self, command: Command) -> None:
        """Do what the operator wants."""
        if command.name == "abort":
            self._player.abort()  # first of all silence
            self._aborted, self._origin = True, command.origin
        elif command.name == "quit":
            self._quit = True
            self._presenter.stop()
        elif command.name in ("pause", "resume"):
            self._paused = self._controls.paused = command.name == "pause"
            self._tell("Paused; space goes on." if self._paused else "Going on.")

    # -- what came of it ---------------------------------------------------------------------------

    def _kept(self) -> tuple[int, list[int]]:
        """Return how many presentations were heard and recorded whole; and how many by run."""
        by_run = [
            sum(self._brain.whole(item.onset, item.onset + item.duration_s) for item in run.heard)
            for run in self._runs
            if not run.failed
        ]
        return sum(by_run), by_run

    def _report(self, error: HearbackError | None, kept: int) -> dict[str, Any]:
        statistics = self._player.statistics()
        stimuli = self._programme.stimuli
        return {
            "settings": {**asdict(self._live), "stimuli": str(self._live.stimuli)},
            "command": self._command(),
            "python": sys.version.split()[0],
            "aborted": self._aborted,
            "failure": "" if error is None else str(error),
            "sample_rate_hz": self._programme.sample_rate_hz,
            "gain_db": self._programme.gain_db,
            "sound_starts": self._presenter.began,  # s, LSL clock: first sample of a WAV sink
            "presented": [
                {
                    "run": run.name,
                    "trial": item.trial,
                    "stimulus": stimuli[item.sound].id,
                    "onset": item.onset,
                    "duration_s": item.duration_s,
                }
                for run in self._runs
                for item in run.heard
            ],
            "kept": kept,
            "wanted": sum(map(len, self._blocks)),
            "cut": self._presenter.n_cut,
            "given_up": self._presenter.n_given_up,
            "underruns": statistics.underruns,
            "peak_dbfs": statistics.peak_dbfs,
            "sink": asdict(self._sink.statistics()),
            "brain": self._brain.to_json(),
            "recordings_failed": {run.name: run.failed for run in self._runs if run.failed},
        }
