"""One live session from opening to closing: who is there, in which order, and who hears of what."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from datetime import datetime

from export.bundle import Bundle, load_bundle
from models.errors import HearbackError, SettingError
from stream.any_source import any_source
from stream.chain import Chain, open_chain
from stream.config import LiveSettings
from stream.control import Controls
from stream.display import Display, Snapshot
from stream.live_files import LiveFiles, session_settings
from stream.live_outputs import LiveOutputs
from stream.live_report import live_summary, snapshot
from stream.live_sound import LiveSound, warm_up
from stream.live_source import Ending, LiveSource
from stream.lsl import StreamQuery, clock, configure, resolve
from stream.lsl_source import LslSource
from stream.messages import Command
from stream.monitor import Monitor, Observer
from stream.pipeline import Pipeline
from stream.source_info import read_info
from stream.stages import Companion, Decoder, SoundMaker
from stream.summary import Summary
from stream.text_source import TextSource
from stream.trace import Tracer
from stream.windows import Windower, open_windower

__all__ = ["LiveSession"]

_log = logging.getLogger(__name__)

_FLUSH_S = 0.5


class LiveSession:
    """One live session; `stream.live.run_live` makes and runs it, in its own event loop.

    Parameters
    ----------
    settings, companion, observers, on_message, wrap_decoder
        As for `run_live`.
    """

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
        self.warnings: list[str] = []
        self._companion = companion
        self._observers = list(observers)
        self._on_message = on_message
        self._wrap_decoder = wrap_decoder
        self._ending = Ending()
        self._ran_to_its_end = False
        self._t_start = 0.0
        self._files: LiveFiles | None = None
        # Made by `_open`.
        self._bundle: Bundle
        self._chain: Chain
        self._source: LiveSource
        self._windower: Windower
        self._sound: LiveSound
        self._monitor: Monitor
        self._outputs: LiveOutputs
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
                    await self._sound.fade_out()
                    self._outputs.observer.tell_skipped(now=True)
        except HearbackError as failure:
            if not hasattr(self, "_monitor"):
                raise  # nothing had begun
            self._ending.reason = f"{type(failure).__name__}: {failure}"
            error = failure
        summary = self._summarise()
        if self._files is not None:
            try:
                self._files.folder.write_json("summary.json", summary.to_json())
            except HearbackError as failure:
                _log.error("%s", failure)
        if error is not None:
            raise error
        return summary

    def command(self, command: Command) -> None:
        """Do what the operator wants."""
        name, player = command.name, self._sound.player
        if name == "abort":
            player.abort()  # first of all silence
            self.aborted = True
            self._ending.ask(f"aborted by {command.origin}")
        elif name == "quit":
            self._ending.ask(f"ended by {command.origin}")
        elif name in ("pause", "resume"):
            self._controls.paused = name == "pause"
            if self._controls.paused:
                player.pause()
            else:
                player.resume()
        self._monitor.event(
            "command", name=name, argument=command.argument, origin=command.origin, at=command.at
        )
        if name == "prompt":
            try:
                self._outputs.feedback.set_target(command.argument)
            except SettingError as error:
                self._tell(str(error))

    # -- opening -----------------------------------------------------------------------------------

    async def _open(self, stack: AsyncExitStack) -> Pipeline:
        """Check and open everything; what is pushed last on the stack is closed first."""
        settings = self.settings
        configure(lan=settings.lan)
        self._bundle = await asyncio.to_thread(load_bundle, settings.bundle)
        manifest = self._bundle.manifest
        self._chain = await asyncio.to_thread(
            open_chain,
            self._bundle,
            device=settings.device,
            threads=settings.threads,
            seed=settings.seed,
            strength=settings.strength,
        )
        decoder: Decoder = self._chain
        if self._wrap_decoder is not None:
            decoder = self._wrap_decoder(decoder)
        cost_s = await asyncio.to_thread(warm_up, self._bundle, self._chain, decoder)
        stack.push_async_callback(self._close_files)
        source = await stack.enter_async_context(
            LslSource(
                StreamQuery(name=settings.stream),
                history_s=settings.history_s,
                timeout_s=settings.find_s,
            )
        )
        self._source = LiveSource(source, manifest, settings, self._ending)
        period_s = self._source.period_s
        self._windower = open_windower(
            self._bundle, period_s=period_s, order=self._source.match.order
        )
        self._sound = LiveSound(
            settings,
            sample_rate_hz=self._chain.renderer.sample_rate_hz,
            n_channels=1 if self._companion is None else 2,
            hop_samples=self._windower.hop_samples,
            period_s=period_s,
        )
        stack.push_async_callback(self._sound.stop)
        self._open_files()
        self._controls = stack.enter_context(
            Controls(asyncio.get_running_loop(), clock=clock, keys=settings.keyboard)
        )
        files = self._files
        self._outputs = LiveOutputs(
            settings,
            self.name,
            self._bundle,
            self._chain,
            recorder=files.recorder if files is not None else None,
            on_command=self.command,
        )
        stack.push_async_callback(self._close_outputs)
        self._monitor = Monitor(
            Tracer(
                files.folder.trace if files is not None else None,
                newest_before_stop_s=0.0 if manifest.modality == "bold" else period_s,
            ),
            max_stage_errors=settings.max_stage_errors,
            observers=[
                *(files.observers if files is not None else []),
                self._outputs.observer,
                *self._observers,
            ],
        )
        await self._open_markers(stack)
        self._controls.start(self.command)
        stack.enter_context(Display(self._snapshot, on=settings.display))
        stack.push_async_callback(self._sound.stop)
        self._sound.sink.start()
        flushing = asyncio.create_task(self._keep_flushing(), name="session: files")
        stack.callback(flushing.cancel)
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again
        stack.callback(gc.unfreeze)
        reader = source.timeline.reader("live")
        self._t_start = clock()
        return Pipeline(
            events=self._source.events(reader, t_start=self._t_start),
            windower=self._windower,
            decoder=decoder,
            maker=SoundMaker(self._chain.renderer, manifest.lag_s, self._companion),
            player=self._sound.player,
            pace=self._sound.pace,
            monitor=self._monitor,
            clock=clock,
            hold_s=self._sound.hold_s,
            hold_below_s=self._sound.always_s,
            decoder_cost_s=cost_s,
        )

    def _open_files(self) -> None:
        if self.settings.out is None:
            return
        self._files = LiveFiles(
            self.settings.out,
            self._source,
            self._sound.player,
            on_failure=self._tell_from_thread(),
        )
        self._files.folder.write_json(
            "settings.json",
            session_settings(self.settings, self.name, self._bundle, self._chain, self._source),
        )

    async def _open_markers(self, stack: AsyncExitStack) -> None:
        if self.settings.markers and self._files is None:
            self._tell("Markers are recorded only with --out; they are left out.")
            return
        for name in self.settings.markers:
            markers = await asyncio.to_thread(self._start_markers, name)
            stack.push_async_callback(asyncio.to_thread, markers.stop)
            assert self._files is not None
            self._files.add_markers(markers)

    def _start_markers(self, name: str) -> LslSource | TextSource:
        settings = self.settings
        found = resolve(name, timeout_s=settings.find_s)  # text, or numbers from a trigger box
        markers = any_source(
            read_info(found), history_s=settings.history_s, timeout_s=settings.find_s
        )
        markers.start()
        return markers

    async def _close_outputs(self) -> None:
        ended = "aborted" if self.aborted else "ended" if self._ran_to_its_end else "failed"
        await self._outputs.close(ended)

    # -- while it runs -----------------------------------------------------------------------------

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._outputs.tick(self._monitor, self._sound.player, self._source.source)
            if self._files is not None:
                await self._files.flush()

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
        seconds = max(0.0, clock() - self._t_start) if self._t_start else 0.0
        return snapshot(
            self._monitor,
            self._sound.player,
            self._source.source,
            seconds=seconds,
            message=self.warnings[-1] if self.warnings else "",
        )

    # -- closing -----------------------------------------------------------------------------------

    async def _close_files(self) -> None:
        if self._files is not None:
            await self._files.close(self._monitor.tracer if hasattr(self, "_monitor") else None)

    def _summarise(self) -> Summary:
        settings = self.settings
        kept_time = self._sound.sink.statistics()
        return live_summary(
            self._monitor,
            self._sound.player,
            self._source.source,
            aborted=self.aborted,
            ended_because=self._ending.reason,
            renderer_delay_ms=1e3 * self._chain.renderer.delay_s,
            n_filled=self._windower.n_filled,
            n_restarts=self._windower.n_resets,
            seconds=round(clock() - self._t_start, 3),
            **self._chain.summary(),
            sink=settings.sink,
            sink_failure=kept_time.failure,
            sink_stalls=kept_time.stalls,
            sink_missed_s=round(kept_time.missed_s, 6),
            bundle=self._bundle.digest,
            stream=settings.stream,
            out=None if settings.out is None else str(settings.out),
            recording={} if self._files is None else self._files.recorded(),
            warnings=self.warnings,
        )
