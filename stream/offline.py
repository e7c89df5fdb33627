"""A whole recording through a bundle as fast as it goes: no LSL, the same windows and decisions.

The parts are those of the live session, one after the other in one thread: recording -> windows ->
decoder -> renderer -> player -> file. What differs is only the clock: every window is decoded, and
nothing is ever late.

played.wav is as long as the recording: the sound of a window lies where its last hop lies there
(and `renderer_delay_ms` later what it says); what was lost or could not be decoded is silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from export.bundle import MASK_FILE, load_bundle
from export.input_check import check_input
from export.runtime import Device
from models.errors import SettingError
from stream.chain import open_chain
from stream.faults import parse_faults
from stream.json_lines import JsonLines
from stream.messages import Chunk, FeatureWindow, Gap
from stream.monitor import Monitor, Observer
from stream.playback import Player
from stream.recorder_streams import event_record
from stream.recordings import RecordedSignal, Recording, read_recording, recording_events
from stream.session_folder import SessionFolder
from stream.sinks import OfflineSink
from stream.stages import Companion, SoundMaker
from stream.summary import Summary, summarise
from stream.trace import Tracer
from stream.windows import Windower, open_windower

__all__ = ["OfflineSettings", "run_offline"]

_CHUNK_S = 1.0
_FLUSH_EVERY = 64  # chunks
_BLOCK_S = 0.1  # of the sound; nobody waits for it


@dataclass(frozen=True, slots=True)
class OfflineSettings:
    """How a recording is run."""

    bundle: Path
    path: Path  # of the recording
    out: Path  # folder of the session, made here
    device: Device = "cpu"
    threads: int = 1
    seed: int | None = None  # of a generator's noise; None: the bundle's own
    strength: float | None = None  # how much of the retrieved sound is made anew; None: likewise
    ceiling_dbfs: float = -12.0
    max_stage_errors: int = 5
    signal: str | None = None  # name of the signal, where the recording holds several
    fault: str = ""  # as in a replay: drop and duplicate
    read: dict[str, Any] | None = None  # more for `read_recording`: channels, unit, mask, ...


def run_offline(
    settings: OfflineSettings,
    *,
    companion: Companion | None = None,
    observers: Iterable[Observer] = (),
    on_progress: Callable[[float, float], None] | None = None,
) -> Summary:
    """Run a recording through a bundle, as fast as possible.

    Parameters
    ----------
    settings : OfflineSettings
    companion : callable, optional
        As in a live session: the left channel for each sound.
    observers : iterable of Observer
        See what flows.
    on_progress : callable, optional
        Told (seconds of recording done, seconds in all) now and then.

    Returns
    -------
    summary : Summary
        Also in `out`/summary.json, beside played.wav and the files of `SessionFolder`.

    Raises
    ------
    BundleError, FileError, SourceError, SettingError, StageError, DeviceError
        With what was expected, what came and what to do.
    """
    began = time.perf_counter()
    bundle = load_bundle(settings.bundle)
    manifest = bundle.manifest
    read = dict(settings.read or {})
    if MASK_FILE in manifest.files:
        read.setdefault("mask", bundle.file(MASK_FILE))
    recording = read_recording(settings.path, **read)
    signal = recording.choose(name=settings.signal)
    match = check_input(
        manifest.input,
        name=signal.name,
        n_channels=signal.n_channels,
        sfreq_hz=signal.sfreq_hz,
        labels=signal.labels,
        bold=signal.bold,
    )
    if not len(signal.samples):
        raise SettingError(f"{settings.path} holds no samples. Choose another recording.")
    faults = parse_faults(settings.fault) if settings.fault else None
    chain = open_chain(
        bundle,
        device=settings.device,
        threads=settings.threads,
        seed=settings.seed,
        strength=settings.strength,
    )
    chain.warm_up(bundle.n_features)
    folder = SessionFolder(settings.out)
    events = JsonLines(settings.out / "events.jsonl")
    monitor = Monitor(
        Tracer(folder.trace),
        max_stage_errors=settings.max_stage_errors,
        observers=[folder, _EventWriter(signal.name, events), *observers],
    )
    windower = open_windower(bundle, period_s=signal.period_s, order=match.order)
    player = Player(
        sample_rate_hz=chain.renderer.sample_rate_hz,
        n_channels=1 if companion is None else 2,
        ceiling_dbfs=settings.ceiling_dbfs,
        lead_s=0.0,
        max_queue_s=1e6,
    )
    maker = SoundMaker(chain.renderer, manifest.lag_s, companion)
    folder.write_json("settings.json", _settings_json(settings, recording, signal, bundle.digest))
    wav = settings.out / "played.wav"
    computing = time.perf_counter()
    delivered = lost = duplicates = invalid = 0
    with OfflineSink(player, wav, block_s=_BLOCK_S, t_start=float(signal.stamps[0])) as sink:
        per_sample = Fraction(player.sample_rate_hz) / Fraction(1.0 / signal.period_s)
        run = _Run(windower, chain.decode, maker, player, monitor, sink, per_sample)
        n_chunk = max(1, round(_CHUNK_S / signal.period_s))
        for number, event in enumerate(recording_events(signal, n_chunk, faults=faults)):
            if isinstance(event, Gap):
                monitor.gap(event)
                lost += event.n_lost
                if event.reason == "duplicate":
                    duplicates += event.n_extra
                else:
                    invalid += event.n_extra
                continue
            delivered += len(event.stamps)
            run.chunk(event)
            if number % _FLUSH_EVERY == 0:
                folder.flush()
                events.flush()
                if on_progress is not None:
                    total = float(signal.stamps[-1] - signal.stamps[0])
                    on_progress(float(event.stamps[-1] - signal.stamps[0]), total)
        run.finish()
    run.report()
    took = time.perf_counter() - computing
    monitor.tracer.close_all("session ended")
    folder.flush()
    events.flush()
    length = len(signal.stamps) * signal.period_s
    summary = summarise(
        monitor,
        player.statistics(),
        sent=signal.n_sent,
        delivered=delivered + invalid,
        lost=lost,
        gaps=monitor.gaps,
        duplicates=duplicates,
        invalid=invalid,
        n_filled=windower.n_filled,
        n_restarts=windower.n_resets,
        ended_because="the recording ended",
        renderer_delay_ms=1e3 * chain.renderer.delay_s,
        seconds=round(time.perf_counter() - began, 3),
        realtime_factor=round(length / took, 1) if took > 0 else None,
        **chain.summary(),
        sink=str(wav),
        sink_failure=sink.statistics().failure,
        bundle=bundle.digest,
        stream=signal.name,
        out=str(settings.out),
        warnings=list(recording.warnings),
    )
    folder.write_json("summary.json", summary.to_json())
    return summary


@dataclass(slots=True)
class _Run:
    """The stages, one after the other."""

    windower: Windower
    decode: Callable[[FeatureWindow], Any]
    maker: SoundMaker
    player: Player
    monitor: Monitor
    sink: OfflineSink
    per_sample: Fraction  # samples of sound for one of the recording
    _first: int | None = None  # index of the recording's first sample
    _stop: int = 0  # one past its last

    def chunk(self, chunk: Chunk) -> None:
        """Take a chunk through all stages."""
        monitor, clock = self.monitor, time.perf_counter
        self._first = chunk.first if self._first is None else self._first
        self._stop = chunk.first + len(chunk.stamps)
        entered = clock()
        made, failures = self.windower.push(chunk)
        left = clock()
        for window in made:
            monitor.window(window, None)
            monitor.tracer.mark(window.seq, "features_in", entered)
            monitor.tracer.mark(window.seq, "features_out", left)
            monitor.worked("features")
        for failure in failures:
            monitor.windows += 1
            monitor.failed("features", failure.seq, failure.error)
        for window in made:
            self._window(window)

    def _window(self, window: FeatureWindow) -> None:
        monitor, clock = self.monitor, time.perf_counter
        mark = monitor.tracer.mark
        mark(window.seq, "decode_in", clock())
        try:
            condition = self.decode(window)
        except Exception as error:
            monitor.failed("decode", window.seq, error)
            return
        mark(window.seq, "decode_out", clock())
        monitor.worked("decode")
        monitor.condition(condition)
        mark(window.seq, "sound_in", clock())
        start = self._at(window.stop - self.windower.hop_samples)
        afresh = start > self.sink.position
        if afresh:
            self.sink.silence_until(start)
        n = self._at(window.stop) - self.sink.position
        if n <= 0:
            monitor.unheard(window, "superseded")
            return
        try:
            sound = self.maker.window(condition, n, afresh=afresh)
        except Exception as error:
            monitor.failed("sound", window.seq, error)
            return
        self.player.queue(sound)
        self.sink.pump()
        mark(window.seq, "sound_out", clock())
        monitor.worked("sound")
        monitor.sound(sound)
        monitor.tracer.close(window.seq, "rendered")
        self.report()

    def finish(self) -> None:
        """Play all there is, and silence to the end of the recording."""
        self.sink.silence_until(self._at(self._stop))

    def _at(self, index: int) -> int:
        """Return where a sample of the recording lies in the sound; exact, so nothing drifts."""
        return int((index - (self._first or 0)) * self.per_sample)

    def report(self) -> None:
        """Show what has been played to the observers."""
        for played in self.player.drain_played():
            for observer in self.monitor.observers:
                observer.on_played(played)


class _EventWriter(Observer):
    """Gaps and failures as lines of events.jsonl, as the recorder of a live session writes them."""

    def __init__(self, stream: str, lines: JsonLines) -> None:
        self._stream = stream
        self._lines = lines

    def on_gap(self, gap: Gap) -> None:
        self._lines.add({"t": gap.raised, **event_record(self._stream, gap)})

    def on_event(self, kind: str, details: dict[str, Any]) -> None:
        self._lines.add({"kind": kind, **details})


def _settings_json(
    settings: OfflineSettings, recording: Recording, signal: RecordedSignal, digest: str
) -> dict[str, Any]:
    return {
        "command": "run",
        "bundle": str(settings.bundle),
        "bundle_sha256": digest,
        "recording": str(settings.path),
        "format": recording.format,
        "stream": signal.name,
        "n_channels": signal.n_channels,
        "sfreq_hz": signal.sfreq_hz,
        "device": settings.device,
        "threads": settings.threads,
        "seed": settings.seed,
        "strength": settings.strength,
        "ceiling_dbfs": settings.ceiling_dbfs,
        "fault": settings.fault,
        "max_stage_errors": settings.max_stage_errors,
    }
