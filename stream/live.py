"""A live session: a brain stream in, sound out, everything recorded, and a summary at the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from export.bundle import Bundle, load_bundle
from export.input_check import InputMatch, check_input
from models.errors import HearbackError, SettingError, SourceError
from stream.chain import Chain, open_chain
from stream.config import LiveSettings
from stream.control import Controls
from stream.display import Display, Snapshot
from stream.feedback import FeedbackValue
from stream.freshness import LEAST_LEAD_S, SoundClock, lead_for
from stream.lsl import StreamQuery, clock, configure
from stream.lsl_source import LslSource
from stream.messages import (
    Chunk,
    Command,
    FeatureWindow,
    SourceState,
    StateChange,
    TimelineEvent,
)
from stream.monitor import Monitor, Observer
from stream.outlets import Outlets
from stream.outputs import Outputs
from stream.pipeline import Pipeline
from stream.playback import Player
from stream.recorder import Recorder
from stream.session_folder import SessionFolder
from stream.session_recording import RecordingObserver
from stream.sinks import Sink, open_sink
from stream.sound_file import SoundFileWriter
from stream.stages import Companion, Decoder, SoundMaker
from stream.summary import Summary, software_versions, summarise
from stream.text_source import TextSource
from stream.timeline_reader import Reader
from stream.trace import Tracer
from stream.windows import Windower, open_windower

if TYPE_CHECKING:
    from stream.telemetry import Telemetry

__all__ = ["LiveSession", "run_live"]

_log = logging.getLogger(__name__)

_BLOCK_S = 0.005  # of the null and the WAV sink; a device takes at least 20 ms
_DEVICE_BLOCK_S = 0.02
_FADE_S = 0.005
_MARGIN_S = 0.01  # for the event loop to notice that little sound is left
_LOOK_S = 0.05  # how soon the end of the time, or a stop, is noticed
_FLUSH_S = 0.5
_FADE_OUT_S = 0.5  # longest wait for silence before the sink is closed after a failure
# Python lets another thread run after this; its default of 5 ms is most of the sound's margin.
_SWITCH_INTERVAL_S = 0.001


def run_live(
    settings: LiveSettings,
    *,
    companion: Companion | None = None,
    observers: Iterable[Observer] = (),
    on_message: Callable[[str], None] | None = None,
    wrap_decoder: Callable[[Decoder], Decoder] | None = None,
) -> Summary:
    """Run a live session to its end.

    It ends when `settings.seconds` are over, when the source has ended, or on an abort (key `a`,
    MQTT, SIGINT), after which `Summary.aborted` is true and the command line leaves with 4. A
    stream that is lost is waited for: `give_up_s`, or `ended_after_s` if it is one of ours (it
    says so in its description), because a replay or demo closes its stream when it has ended.

    Parameters
    ----------
    settings : LiveSettings
    companion : callable, optional
        Given each decoded `Sound` (one channel), returns what is played on the left beside it.
    observers : iterable of Observer
        See what flows.
    on_message : callable, optional
        Told sentences for the operator, in the event loop's thread; the log if not given.
    wrap_decoder : callable, optional
        For benchmarks: given the decoder, returns the one that is used.

    Returns
    -------
    summary : Summary
        Also written to `settings.out`/summary.json.

    Raises
    ------
    BundleError, SourceError, SettingError, FileError, DeviceError
        Before any sound, if something does not fit.
    SourceError
        If the source was lost for good.
    StageError
        If a stage failed too often in a row; the sound was faded out and the recording closed.
    """
    session = LiveSession(
        settings,
        companion=companion,
        observers=observers,
        on_message=on_message,
        wrap_decoder=wrap_decoder,
    )
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        return asyncio.run(session.run())
    finally:
        sys.setswitchinterval(before)


class LiveSession:
    """One live session; `run_live` makes and runs it. Used from its own event loop only."""

    def __init__(
        self,
        settings: LiveSettings,
        *,
        companion: Companion | None = None,
        observers: Iterable[Observer] = (),
        on_message: Callable[[str], None] | None = None,
        wrap_decoder: Callable[[Decoder], Decoder] | None = None,
    ) -> None:
        self.settings = settings
        self.name = settings.session_name or datetime.now().strftime("%Y%m%d-%H%M%S")
        self.aborted = False
        self.ended_because = ""
        self.warnings: list[str] = []
        self._companion = companion
        self._observers = list(observers)
        self._on_message = on_message
        self._wrap_decoder = wrap_decoder
        self._stopping = False
        self._ran_to_its_end = False
        self._t_start = 0.0
        self._publish_at = 0.0
        self._source: LslSource | None = None
        self._sink: Sink | None = None
        self._folder: SessionFolder | None = None
        self._recorder: Recorder | None = None
        self._recording: RecordingObserver | None = None
        self._telemetry: Telemetry | None = None
        self._lost_since: float | None = None
        # Made by `_open`.
        self._bundle: Bundle
        self._chain: Chain
        self._windower: Windower
        self._player: Player
        self._monitor: Monitor
        self._feedback: FeedbackValue
        self._outputs: Outputs
        self._controls: Controls

    # -- from start to end -----------------------------------------------------------------------

    async def run(self) -> Summary:
        """Open everything, run, close everything in order, and say what came of it."""
        error: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                line = await self._open(stack)
                try:
                    await line.run()
                    self._ran_to_its_end = True
                finally:
                    await self._fade_out()
                    self._outputs.tell_skipped(now=True)
        except HearbackError as failure:
            if not hasattr(self, "_monitor"):
                raise  # nothing had begun
            self.ended_because = f"{type(failure).__name__}: {failure}"
            error = failure
        summary = self._summarise()
        if self._folder is not None:
            try:
                self._folder.write_json("summary.json", summary.to_json())
            except HearbackError as failure:
                _log.error("%s", failure)
        if error is not None:
            raise error
        return summary

    def stop(self, reason: str) -> None:
        """End the session: what has come in is still played."""
        self.ended_because = self.ended_because or reason
        self._stopping = True

    def command(self, command: Command) -> None:
        """Do what the operator wants."""
        name = command.name
        if name == "abort":
            self._player.abort()  # first of all silence
            self.aborted = True
            self.stop(f"aborted by {command.origin}")
        elif name == "quit":
            self.stop(f"ended by {command.origin}")
        elif name in ("pause", "resume"):
            self._controls.paused = name == "pause"
            if self._controls.paused:
                self._player.pause()
            else:
                self._player.resume()
        self._monitor.event(
            "command", name=name, argument=command.argument, origin=command.origin, at=command.at
        )
        if name == "prompt":
            try:
                self._feedback.set_target(command.argument)
            except SettingError as error:
                self._tell(str(error))

    # -- opening -----------------------------------------------------------------------------------

    async def _open(self, stack: AsyncExitStack) -> Pipeline:
        """Check and open everything; what is pushed last on the stack is closed first."""
        settings = self.settings
        configure(lan=settings.lan)
        self._bundle = await asyncio.to_thread(load_bundle, settings.bundle)
        self._chain = await asyncio.to_thread(
            open_chain, self._bundle, device=settings.device, threads=settings.threads
        )
        decoder: Decoder = self._chain
        if self._wrap_decoder is not None:
            decoder = self._wrap_decoder(decoder)
        cost_s = await asyncio.to_thread(self._warm_up, decoder)
        stack.push_async_callback(self._close_files)
        source = LslSource(
            StreamQuery(name=settings.stream),
            history_s=settings.history_s,
            timeout_s=settings.find_s,
        )
        self._source = await stack.enter_async_context(source)
        match = self._check_stream()
        self._windower = open_windower(self._bundle, period_s=self._period_s(), order=match.order)
        pace, sink_block_s = self._open_player(stack)
        self._open_folder(match)
        self._open_outputs(stack)
        self._monitor = Monitor(
            Tracer(
                self._folder.trace if self._folder is not None else None,
                newest_before_stop_s=0.0 if self._is_bold else self._period_s(),
            ),
            max_stage_errors=settings.max_stage_errors,
            observers=[
                *([self._folder] if self._folder is not None else []),
                *([self._recording] if self._recording is not None else []),
                self._outputs,
                *self._observers,
            ],
        )
        await self._open_markers(stack)
        self._controls = stack.enter_context(
            Controls(asyncio.get_running_loop(), clock=clock, keys=settings.keyboard)
        )
        self._controls.start(self.command)
        stack.enter_context(Display(self._snapshot, on=settings.display))
        assert self._sink is not None
        stack.push_async_callback(asyncio.to_thread, self._sink.stop)
        self._sink.start()
        flushing = asyncio.create_task(self._keep_flushing(), name="session: files")
        stack.callback(flushing.cancel)
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again
        stack.callback(gc.unfreeze)
        reader = self._source.timeline.reader("live")
        self._t_start = clock()
        return Pipeline(
            events=self._events(reader),
            windower=self._windower,
            decoder=decoder,
            maker=SoundMaker(self._chain.renderer, self._bundle.manifest.lag_s, self._companion),
            player=self._player,
            pace=pace,
            monitor=self._monitor,
            clock=clock,
            hold_s=max(1.0, settings.hold_hops * pace.hop_s),
            hold_below_s=sink_block_s + _FADE_S + _MARGIN_S,
            decoder_cost_s=cost_s,
        )

    def _warm_up(self, decoder: Decoder) -> float:
        """Let every stage work once before a stream is opened; return what decoding takes, s.

        First calls load parts of SciPy, plan transforms and allocate: up to seconds on a busy
        machine, in which the first windows would grow old.
        """
        bundle, manifest = self._bundle, self._bundle.manifest
        windower = open_windower(bundle)
        n = 2 * (windower.window_samples + windower.hop_samples)
        stamps = np.arange(n, dtype=np.float64)
        zeros = np.zeros((n, manifest.input.n_channels), np.float32)
        windower.push(Chunk(zeros, stamps, stamps, 0, 0, 0.0))
        self._chain.warm_up(bundle.n_features)
        nothing = FeatureWindow(np.zeros(bundle.n_features, np.float32), -1, 0, 1, 0.0, 0.0)
        start = clock()
        decoder.decode(nothing)
        return clock() - start

    def _check_stream(self) -> InputMatch:
        assert self._source is not None
        info = self._source.info
        return check_input(
            self._bundle.manifest.input,
            name=info.name,
            n_channels=info.n_channels,
            sfreq_hz=info.recorded_sfreq_hz or info.sfreq_hz,
            labels=info.labels,
            bold=info.bold,
        )

    def _period_s(self) -> float:
        """Return the time from one sample to the next as it passes in this room."""
        assert self._source is not None
        info = self._source.info
        return 1.0 / (info.sfreq_hz or self._bundle.manifest.input.sfreq_hz * info.speed)

    @property
    def _is_bold(self) -> bool:
        return self._bundle.manifest.modality == "bold"

    def _open_player(self, stack: AsyncExitStack) -> tuple[SoundClock, float]:
        settings = self.settings
        rate = self._chain.renderer.sample_rate_hz
        hop_s = self._windower.hop_samples * self._period_s()
        block_s = _DEVICE_BLOCK_S if settings.sink.startswith("device") else _BLOCK_S
        # A block and a fade must be there whenever the sink asks.
        least_s = max(LEAST_LEAD_S, block_s + _FADE_S + 2.5 * _MARGIN_S)
        wanted_s = lead_for(hop_s) if settings.lead_s is None else settings.lead_s
        lead_s = max(wanted_s, least_s)
        self._player = Player(
            sample_rate_hz=rate,
            n_channels=1 if self._companion is None else 2,
            ceiling_dbfs=settings.ceiling_dbfs,
            lead_s=lead_s,
            fade_s=_FADE_S,
            max_queue_s=max(2.0, 3 * hop_s + lead_s),
        )
        self._sink = open_sink(settings.sink, self._player, block_s=block_s)
        stack.push_async_callback(asyncio.to_thread, self._sink.stop)
        pace = SoundClock(
            sample_rate_hz=rate,
            hop_samples=self._windower.hop_samples,
            sfreq_hz=1.0 / self._period_s(),
            lead_s=lead_s,
            slow_lead_s=least_s if settings.lead_s is None else None,
        )
        return pace, block_s

    def _open_folder(self, match: InputMatch) -> None:
        out = self.settings.out
        if out is None:
            return
        assert self._source is not None
        info = self._source.info
        self._folder = SessionFolder(out)
        self._folder.write_json(
            "settings.json",
            {
                "command": "live",
                "session": self.name,
                **asdict(self.settings),
                "bundle_sha256": self._bundle.digest,
                "bundle_name": self._bundle.manifest.name,
                "participant": self._bundle.manifest.participant,
                "stream_described": info.described,
                "source_id": info.source_id,
                "speed": info.speed,
                "channels_left_out": match.left_out,
                "device_used": self._chain.device,
                "providers": self._chain.providers,
                "versions": software_versions(),
            },
        )
        self._recorder = Recorder(out, on_failure=self._tell_from_thread())
        self._recorder.start()
        self._recorder.add_source(
            info,
            self._source.timeline.reader("recorder"),
            clock_offsets=self._source.clock_offsets,
        )
        self._recording = RecordingObserver(self._recorder)
        self._played = SoundFileWriter(
            out / "played.wav",
            sample_rate_hz=self._player.sample_rate_hz,
            n_channels=self._player.n_channels,
        )
        self._player.add_tap(self._played.put, self._played.skip)

    async def _open_markers(self, stack: AsyncExitStack) -> None:
        if self.settings.markers and self._recorder is None:
            self._tell("Markers are recorded only with --out; they are left out.")
            return
        for name in self.settings.markers:
            markers = TextSource(StreamQuery(name=name), timeout_s=self.settings.find_s)
            await asyncio.to_thread(markers.start)
            stack.push_async_callback(asyncio.to_thread, markers.stop)
            assert self._recorder is not None
            self._recorder.add_source(
                markers.info,
                markers.timeline.reader("recorder"),
                clock_offsets=markers.clock_offsets,
            )

    def _open_outputs(self, stack: AsyncExitStack) -> None:
        settings, manifest = self.settings, self._bundle.manifest
        self._feedback = FeedbackValue(manifest.chain, self._chain.library)
        outlets: Outlets | None = None
        if settings.outlets:
            outlets = Outlets(
                self.name, manifest.chain, bundle=self._bundle.digest, lag_s=manifest.lag_s
            )
            outlets.start()
            stack.push_async_callback(asyncio.to_thread, outlets.close)
        if settings.mqtt is not None:
            from stream.telemetry import Telemetry

            self._telemetry = Telemetry(
                settings.mqtt,
                self.name,
                on_command=self.command,
                loop=asyncio.get_running_loop(),
                clock=clock,
            )
            self._telemetry.start()
            self._telemetry.state("starting", bundle=self._bundle.digest)
            stack.push_async_callback(self._close_telemetry, self._telemetry)
        self._outputs = Outputs(
            self._feedback,
            stream=settings.stream,
            clock=clock,
            outlets=outlets,
            telemetry=self._telemetry,
            recorder=self._recorder,
            library=self._chain.library,
        )

    async def _close_telemetry(self, telemetry: Telemetry) -> None:
        ended = "aborted" if self.aborted else "ended" if self._ran_to_its_end else "failed"
        await asyncio.to_thread(telemetry.close, state=ended)

    # -- while it runs -----------------------------------------------------------------------------

    async def _events(self, reader: Reader) -> AsyncIterator[TimelineEvent]:
        """Yield what the source brings, until there is a reason to stop."""
        seconds = self.settings.seconds
        until = self._t_start + seconds if seconds is not None else float("inf")
        try:
            while not self._stopping:
                for event in reader.read():
                    if isinstance(event, StateChange):
                        self._note_state(event)
                    yield event
                if reader.ended:
                    self.stop("the source ended")
                elif clock() >= until:
                    self.stop("the time was up")
                elif self._lost_since is not None:
                    self._check_lost(clock() - self._lost_since)
                else:
                    await _wait_for(reader)
                    continue
                await asyncio.sleep(0 if self._stopping else _LOOK_S)
        finally:
            reader.close()

    def _note_state(self, change: StateChange) -> None:
        if change.state is SourceState.ENDED and change.detail.startswith("failed"):
            raise SourceError(f"Reading stream '{self.settings.stream}' {change.detail}.")
        lost = change.state in (SourceState.LOST, SourceState.STALLED)
        self._lost_since = (self._lost_since or change.raised) if lost else None

    def _check_lost(self, gone_s: float) -> None:
        assert self._source is not None
        ours = self._source.info.first_index is not None
        if ours and self._source.state is SourceState.LOST and gone_s > self.settings.ended_after_s:
            self.stop("the source closed its stream")
        elif gone_s > self.settings.give_up_s:
            raise SourceError(
                f"Stream '{self.settings.stream}' has been gone for {gone_s:.0f} s. Check its "
                "sender, and start again; what came before is recorded."
            )

    async def _keep_flushing(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._publish_latency()
            self._outputs.tell_skipped()
            if self._folder is None:
                continue
            await asyncio.to_thread(self._folder.flush)
            failure = self._folder.failure
            if failure and failure != told:
                self._tell(f"{failure}. The session goes on; what comes waits in memory.")
            told = failure

    def _publish_latency(self) -> None:
        assert self._source is not None
        if self._telemetry is None or clock() < self._publish_at:
            return
        self._publish_at = clock() + 1.0
        monitor, counts = self._monitor, self._source.timeline.accounting()
        self._outputs.latency(
            monitor,
            {
                "delivered": counts.delivered,
                "lost": counts.lost,
                "gaps": counts.gaps,
                "windows": monitor.windows,
                "skipped_windows": monitor.skipped_windows,
                "underruns": self._player.statistics().underruns,
            },
        )

    async def _fade_out(self) -> None:
        """Be silent before anything is closed."""
        if self._player.idle:
            return
        self._player.abort()
        until = clock() + _FADE_OUT_S
        # The audio thread must not be made to set an event.
        while not self._player.idle and clock() < until:  # noqa: ASYNC110
            await asyncio.sleep(_BLOCK_S)

    def _tell(self, sentence: str) -> None:
        """Say something to the operator, and keep it."""
        self.warnings.append(sentence)
        if self._on_message is not None:
            self._on_message(sentence)
        else:
            _log.warning("%s", sentence)
        self._monitor.event("message", text=sentence)

    def _tell_from_thread(self) -> Callable[[str], None]:
        loop = asyncio.get_running_loop()

        def tell(sentence: str) -> None:
            try:
                loop.call_soon_threadsafe(self._tell, sentence)
            except RuntimeError:  # the session is over
                self.warnings.append(sentence)

        return tell

    def _snapshot(self) -> Snapshot:
        assert self._source is not None
        monitor, tracer = self._monitor, self._monitor.tracer
        counts = self._source.timeline.accounting()
        return Snapshot(
            state=f"{self._player.state}, source {self._source.state}",
            seconds=max(0.0, clock() - self._t_start) if self._t_start else 0.0,
            age_ms=tracer.age.summary(),
            stage_ms=tracer.stage_ms(),
            windows=monitor.windows,
            skipped=monitor.skipped_windows,
            delivered=counts.delivered,
            lost=counts.lost,
            gaps=counts.gaps,
            underruns=self._player.statistics().underruns,
            message=self.warnings[-1] if self.warnings else "",
        )

    # -- closing -----------------------------------------------------------------------------------

    async def _close_files(self) -> None:
        """Close what records, after everything that brings something was stopped."""
        if self._recording is not None:
            self._recording.finish()
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.close)
            await asyncio.to_thread(self._played.close)
        if self._folder is not None and hasattr(self, "_monitor"):
            self._monitor.tracer.close_all("session ended")
            await asyncio.to_thread(self._folder.flush)

    def _summarise(self) -> Summary:
        assert self._source is not None
        assert self._sink is not None
        counts = self._source.timeline.accounting()
        recording: dict[str, Any] = {}
        if self._recorder is not None:
            written = self._recorder.statistics()
            recording = {
                "path": str(written.path),
                "n_bytes": written.n_bytes,
                "failures": written.failures,
                "lost": written.lost,
                "streams": {stream.name: stream.written for stream in written.streams},
            }
        return summarise(
            self._monitor,
            self._player.statistics(),
            sent=counts.sent,
            delivered=counts.delivered,
            lost=counts.lost,
            gaps=counts.gaps,
            duplicates=counts.duplicates,
            late=counts.late,
            invalid=counts.invalid,
            aborted=self.aborted,
            ended_because=self.ended_because,
            renderer_delay_ms=1e3 * self._chain.renderer.delay_s,
            n_filled=self._windower.n_filled,
            n_restarts=self._windower.n_resets,
            seconds=round(clock() - self._t_start, 3),
            device=self._chain.device,
            sink=self.settings.sink,
            sink_failure=self._sink.statistics().failure,
            bundle=self._bundle.digest,
            stream=self.settings.stream,
            out=None if self.settings.out is None else str(self.settings.out),
            recording=recording,
            warnings=self.warnings,
        )


async def _wait_for(reader: Reader) -> None:
    try:
        async with asyncio.timeout(_LOOK_S):
            await reader.wait_async()
    except TimeoutError:
        pass
