"""The command line of hearback; run from a clone, it first makes its own environment.

`python3 hearback.py demo` in a fresh clone needs Python 3.11 and nothing else: what is missing is
installed into `.venv` beside this file, and the command goes on in there. Installed, the same file
is the console script `hearback`. Each command imports what it needs when it runs, so `--help` is
instant.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

_CLONE = Path(__file__).resolve().parent
_NEEDED = ("typer", "rich", "numpy", "scipy", "pylsl", "mne", "nibabel", "pyxdf", "onnxruntime")
# What a command needs beyond the live path: its extra, and packages that tell whether it is there.
_CALIBRATE = ("calibrate", ("onnx", "h5py", "mne_bids", "matplotlib", "dask"))
_TRAIN = ("train", (*_CALIBRATE[1], "torch", "accelerate", "safetensors", "onnxscript"))
_EXTRAS = {
    "test": ("dev", ("pytest", "xdist", "mne_lsl", "torch", "himalaya")),
    **dict.fromkeys(("simulate", "calibrate", "evaluate", "reproduce"), _CALIBRATE),
    **dict.fromkeys(("train", "export"), _TRAIN),
}


def _make_environment(extras: str) -> NoReturn:
    """Install this clone with `extras` into `.venv`, then run the same command in there."""
    if sys.version_info < (3, 11):  # noqa: UP036  (an older Python may well be what runs this file)
        sys.exit(
            f"hearback needs Python 3.11 or newer, this is {sys.version.split()[0]}. "
            "Run it with a newer one, for example: python3.12 hearback.py demo"
        )
    environment = _CLONE / ".venv"
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = environment / f"hearback-{extras.replace(',', '-')}"
    recipe = b"".join((_CLONE / n).read_bytes() for n in ("pyproject.toml", "constraints.txt"))
    wanted = hashlib.sha256(recipe).hexdigest()
    if not python.exists():
        sys.stderr.write("Making the environment .venv (once) ...\n")
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(environment)], capture_output=True, text=True
        )
        if made.returncode:
            sys.exit(
                "Python's venv module cannot make an environment here. On Debian and Ubuntu: "
                "sudo apt-get install -y python3-venv libportaudio2   and run this again."
            )
    if not stamp.exists() or stamp.read_text() != wanted:
        sys.stderr.write(f"Installing hearback[{extras}] into .venv (once, 1-3 minutes) ...\n")
        sys.stderr.flush()
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        tested = ["-c", str(_CLONE / "constraints.txt")]
        done = subprocess.run([*pip, *tested, "-e", f"{_CLONE}[{extras}]"])
        if done.returncode:
            sys.exit("The installation failed; pip says why above. Is there a network connection?")
        stamp.write_text(wanted)
    arguments = [str(python), str(Path(__file__).resolve()), *sys.argv[1:]]
    if os.name == "nt":  # there execv returns to the shell at once
        sys.exit(subprocess.run(arguments).returncode)
    os.execv(str(python), arguments)


if __name__ == "__main__":
    _extra, _also = _EXTRAS.get("".join(sys.argv[1:2]), ("", ()))
    if any(importlib.util.find_spec(name) is None for name in (*_NEEDED, *_also)):
        _make_environment(f"cpu,{_extra}" if _extra else "cpu")

import typer  # noqa: E402  (only now is it sure to be there)

from calibration.cli import register as register_calibration  # noqa: E402
from calibration.finetune.cli import register as register_brain  # noqa: E402
from calibration.reproduce.cli import register as register_reproduce  # noqa: E402
from calibration.training.cli import register as register_training  # noqa: E402
from export.cli import register as register_export  # noqa: E402
from stream.bench.cli import register as register_bench  # noqa: E402

app = typer.Typer(
    name="hearback",
    help="Hear what a brain hears, while it hears it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Try it:  hearback demo",
)

Modality = Literal["eeg", "fmri"]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object last.")]
LanFlag = Annotated[
    bool,
    typer.Option("--lan", help="Look for LSL streams in the whole network, not on this machine."),
]
RealtimeFlag = Annotated[
    bool,
    typer.Option("--realtime", help="Come before all ordinary programs of the machine (Linux)."),
]
SeedOption = Annotated[
    int | None, typer.Option(help="Of the generator's noise; default: the bundle's.")
]
StrengthOption = Annotated[
    float | None,
    typer.Option(help="1: all generated; towards 0: nearer to the retrieved sound."),
]


@contextmanager
def _progress(label: str, *, quiet: bool) -> Iterator[Any]:
    """Show a bar on standard error; yields `update(done, total)` for the part that works."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    if not quiet and not console.is_terminal:
        _say(f"{label} ...")  # a file or a pipe gets a line in place of the bar
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(label, total=None)

        def update(done: float, total: float | None = None, label: str = label) -> None:
            bar.update(task, completed=done, total=total, description=label)

        yield update


def _described(info: Any) -> dict[str, Any]:
    """Return what a stream says about itself, for `streams --json`."""
    names = ("name", "type", "n_channels", "sfreq_hz", "format", "unit", "source_id", "hostname")
    values = {name: getattr(info, name) for name in names}
    values |= {"labels": list(info.labels), "counts_samples": info.counter_channel is not None}
    if info.bold is not None:
        values |= {"shape": list(info.bold.shape), "tr_s": info.bold.tr_s}
    return values


def _say(text: str) -> None:
    """Write a line for the person at the terminal; results go to standard output instead."""
    typer.echo(text, err=True)


def _result(values: dict[str, Any]) -> None:
    """Write the one JSON object that `--json` promises, last on standard output."""
    typer.echo(json.dumps(values, allow_nan=False))


@app.command(epilog="Try it:  hearback streams --json")
def streams(
    *,
    wait_s: Annotated[float, typer.Option(help="How long to listen for answers, s.")] = 1.5,
    lan: LanFlag = False,
    json_: JsonFlag = False,
) -> None:
    """List the LSL streams that can be heard now."""
    from stream.lsl import configure, find_streams

    configure(lan=lan)
    found = find_streams(wait_s)
    if json_:
        _result({"streams": [_described(info) for info in found]})
        return
    if not found:
        where = "network" if lan else "machine; --lan looks in the whole network"
        _say(f"No LSL stream on this {where}. Start a sender, or try: hearback replay FILE")
    for info in found:
        typer.echo(info.described)


@app.command(epilog="Try it:  hearback record --stream EEG --seconds 60 --out sessions/today")
def record(
    *,
    stream: Annotated[list[str], typer.Option(help="Name of a stream; may be given again.")],
    seconds: Annotated[float, typer.Option(help="How long to record, s.")],
    out: Annotated[Path, typer.Option(help="Folder for recording.xdf and events.jsonl.")],
    lan: LanFlag = False,
    json_: JsonFlag = False,
) -> None:
    """Record LSL streams to XDF; a clean stop (also Ctrl-C) loses nothing."""
    from stream.record import RecordSettings, run_record

    with _progress("recording", quiet=json_) as update:
        summary = run_record(
            RecordSettings(
                tuple(stream), seconds, out, lan=lan, on_progress=update, on_message=_say
            )
        )
    for item in summary.streams:
        _say(f"{item.name}: {item.written} written, {item.lost} lost in {item.gaps} gaps")
    _say(f"Recorded {summary.seconds:.1f} s to {summary.path}")
    if json_:
        _result(summary.to_json())


@app.command(epilog="Try it:  hearback replay recording.xdf --speed 2 --fault 'drop:at=10,n=50'")
def replay(
    path: Annotated[
        Path, typer.Argument(help="XDF, BrainVision, EDF, BDF, EEGLAB, FIF, NIfTI, CSV, or BIDS.")
    ],
    *,
    speed: Annotated[float, typer.Option(help="Times as fast as recorded.")] = 1.0,
    loop: Annotated[bool, typer.Option(help="Begin again at the end.")] = False,
    fault: Annotated[
        str,
        typer.Option(
            help="Faults to make, ';' between them: drop:at=S,n=N stall:at=S,for=S jitter:sd=S "
            "skew:ppm=P duplicate:at=S,n=N late:at=S,by=S kill:at=S,for=S seed=N"
        ),
    ] = "",
    name: Annotated[str | None, typer.Option(help="Name of the outlet.")] = None,
    select: Annotated[str | None, typer.Option(help="Replay only the signal of this name.")] = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="Replay only signals of this type.")
    ] = None,
    index: Annotated[
        int | None, typer.Option(help="Replay only the signal of this number.")
    ] = None,
    channels: Annotated[str | None, typer.Option(help="Only these, as in: C3,Cz,C4")] = None,
    unit: Annotated[str | None, typer.Option(help="Unit, where the file names none.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="NIfTI mask of the voxels to send; default: automatic.")
    ] = None,
    tr_s: Annotated[float | None, typer.Option(help="TR, where the file names none, s.")] = None,
    events: Annotated[Path | None, typer.Option(help="events.tsv for the markers.")] = None,
    subject: Annotated[str | None, typer.Option(help="BIDS participant.")] = None,
    session: Annotated[str | None, typer.Option(help="BIDS session.")] = None,
    task: Annotated[str | None, typer.Option(help="BIDS task.")] = None,
    run_: Annotated[str | None, typer.Option("--run", help="BIDS run.")] = None,
    wait_s: Annotated[float, typer.Option(help="Wait so long for a receiver; 0: do not.")] = 60.0,
    lan: LanFlag = False,
    json_: JsonFlag = False,
) -> None:
    """Replay a recording as LSL streams, with its markers, at its own pace."""
    from stream.lsl import configure
    from stream.replay import ReplayProgress, ReplaySettings, run_replay

    settings = ReplaySettings(
        path,
        speed=speed,
        loop=loop,
        fault=fault,
        name=name,
        select=select,
        kind=kind,
        index=index,
        unit=unit,
        mask=mask,
        tr_s=tr_s,
        events=events,
        subject=subject,
        session=session,
        task=task,
        run=run_,
        wait_s=wait_s,
        channels=tuple(channels.split(",")) if channels else None,
        lan=lan,
    )
    configure(lan=lan)
    with _progress("waiting for a receiver", quiet=json_) as update:

        def on_progress(progress: ReplayProgress) -> None:
            total = progress.total_s if progress.total_s != float("inf") else None
            update(progress.position_s, total, label=progress.state)

        def on_open(_recording: Any, sent: Sequence[Any]) -> None:
            for item in sent:
                _say(f"Stream '{item.name}' ({item.type}) is ready.")

        summary = run_replay(settings, on_progress=on_progress, on_open=on_open)
    for warning in summary.warnings:
        _say(f"Note: {warning}")
    for item in summary.streams:
        _say(f"{item.name}: {item.sent} sent")
    if json_:
        _result(summary.to_json())


@app.command(epilog="Try it:  hearback live my-bundle --stream EEG --out sessions/today")
def live(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    *,
    stream: Annotated[str | None, typer.Option(help="Name of the LSL stream.")] = None,
    sink: Annotated[
        str | None, typer.Option(help="device (default), device:NAME, null, or a .wav file.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="How long; default: until the source ends.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the whole session in this folder.")] = None,
    mqtt: Annotated[str | None, typer.Option(help="mqtt://[user:password@]host[:port]")] = None,
    markers: Annotated[
        list[str] | None, typer.Option(help="Marker stream to record; may be given again.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu (default), cuda or tensorrt.")] = None,
    ceiling_dbfs: Annotated[
        float | None, typer.Option(help="The sound never goes above this peak; default -12.")
    ] = None,
    seed: SeedOption = None,
    strength: StrengthOption = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with these and more settings.")
    ] = None,
    lan: LanFlag = False,
    realtime: RealtimeFlag = False,
    json_: JsonFlag = False,
) -> None:
    """Run a live session: sound, feedback, recording. Space pauses, a aborts, q ends."""
    from stream.config import make_live_settings
    from stream.live import run_live
    from stream.priority import ask_for_real_time

    if realtime:
        ask_for_real_time()
    settings = make_live_settings(
        config,
        bundle=bundle,
        stream=stream,
        sink=sink,
        seconds=seconds,
        out=out,
        mqtt=mqtt,
        markers=tuple(markers) if markers else None,
        device=device,
        ceiling_dbfs=ceiling_dbfs,
        seed=seed,
        strength=strength,
        lan=lan or None,
        display=False if json_ else None,
    )
    _finish(run_live(settings, on_message=_say), json_=json_)


@app.command(epilog="Try it:  hearback run my-bundle recording.xdf --out sessions/offline")
def run(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    path: Annotated[Path, typer.Argument(help="The recording.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for played.wav and what was decoded.")],
    select: Annotated[str | None, typer.Option(help="Name of the signal in the recording.")] = None,
    fault: Annotated[str, typer.Option(help="Faults, as in replay: drop and duplicate.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or tensorrt.")] = "cpu",
    seed: SeedOption = None,
    strength: StrengthOption = None,
    mask: Annotated[
        Path | None, typer.Option(help="NIfTI mask of the voxels; default: the bundle's.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="BIDS participant.")] = None,
    session: Annotated[str | None, typer.Option(help="BIDS session.")] = None,
    task: Annotated[str | None, typer.Option(help="BIDS task.")] = None,
    run_: Annotated[str | None, typer.Option("--run", help="BIDS run.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Run a recording through a bundle as fast as possible: the same decisions as live, no LSL."""
    from stream.offline import OfflineSettings, run_offline

    given = {"mask": mask, "subject": subject, "session": session, "task": task, "run": run_}
    settings = OfflineSettings(
        bundle,
        path,
        out,
        device=device,  # type: ignore[arg-type]
        signal=select,
        fault=fault,
        seed=seed,
        strength=strength,
        read={name: value for name, value in given.items() if value is not None},
    )
    with _progress("running", quiet=json_) as update:
        summary = run_offline(settings, on_progress=update)
    _finish(summary, json_=json_)


@app.command(epilog="Try it:  hearback demo --modality eeg")
def demo(
    *,
    modality: Annotated[
        Modality | None, typer.Option(help="What the listener is measured by.")
    ] = None,
    chain: Annotated[
        Literal["direct", "retrieval", "semantic", "coarse-to-fine"] | None,
        typer.Option(help="How its sound is made; default: the best that is there."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="How long; default 30 for EEG, 60 to 90 for fMRI.")
    ] = None,
    sink: Annotated[
        str | None, typer.Option(help="device, null or a .wav file; default: device, else demo.wav")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the whole session in this folder.")] = None,
    seed: Annotated[int, typer.Option(help="Which stimuli the listener hears.")] = 0,
    bundles: Annotated[
        Path | None,
        typer.Option(help="Folder of demo bundles; default: those that come along."),
    ] = None,
    realtime: RealtimeFlag = False,
    json_: JsonFlag = False,
) -> None:
    """Hear it work: a simulated listener in a second process, decoded live over LSL.

    Left: what the listener hears. Right: what is decoded from the simulated brain, both in step.
    """
    from calibration.demo import DemoSettings, run_demo
    from stream.priority import ask_for_real_time

    if realtime:
        ask_for_real_time()
    settings = DemoSettings(
        modality=modality,
        chain=chain,
        seconds=seconds,
        sink=sink,
        out=out,
        seed=seed,
        bundles=bundles,
    )
    summary = run_demo(settings, on_message=_say)
    _say(summary.told)
    _finish(summary, json_=json_)


register_calibration(app)
register_reproduce(app)
register_export(app)
register_bench(app)
_train = typer.Typer(
    help="Train the small generator, or tune one on a participant's brain.", no_args_is_help=True
)
register_training(_train)
register_brain(_train)
app.add_typer(_train, name="train", epilog="Try it:  hearback train small --out trained --resume")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Try it:  hearback test -m 'not slow'",
)
def test(context: typer.Context) -> None:
    """Run the tests of this clone, two files at a time; what follows goes to pytest."""
    given = context.args
    shared = ["-n", "2", "--dist", "loadfile"]
    alone = any(name in ("-n", "-p", "--pdb", "--version") for name in given)
    command = [sys.executable, "-m", "pytest", *([] if alone else shared), *given]
    sys.exit(subprocess.run(command, cwd=_CLONE).returncode)


def _finish(summary: Any, *, json_: bool) -> None:
    """Print what a session came to; leave with 4 after an abort."""
    values = summary.to_json()
    if json_:
        _result(values)
    else:
        age = values["age_ms"]["p50"]
        sent = "unknown" if values["sent"] is None else values["sent"]
        _say(
            f"{values['seconds_played']:.1f} s played, {values['underruns']} underruns, peak "
            f"{values['peak_dbfs']:.1f} dBFS. Samples: {sent} sent, "
            f"{values['delivered']} delivered, {values['lost']} lost in {values['gaps']} gaps. "
            f"Windows: {values['windows']}, {values['skipped_windows']} skipped. Age of the sound: "
            + ("unknown." if age is None else f"{age:.0f} ms.")
        )
        if values.get("out"):
            _say(f"The session is in {values['out']}")
    if values.get("aborted"):
        raise typer.Exit(4)


def _check_one_installation() -> None:
    """Refuse to run with packages that another installed wheel has put over ours.

    Our four packages have plain names; a wheel that ships a `models/` of its own would overwrite
    ours in silence.
    """
    homes = set()
    for name in ("stream", "models", "export", "calibration"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            sys.exit(f"The package {name!r} of hearback is not installed; install hearback again.")
        homes.add(Path(spec.origin).resolve().parents[1])
    if len(homes) != 1:
        places = ", ".join(sorted(map(str, homes)))
        sys.exit(
            f"hearback's packages lie in different folders ({places}): another package has taken a "
            "name of ours. Install hearback into an environment of its own."
        )


def main() -> None:
    """Run a command; turn what goes wrong into one sentence and an exit code."""
    _check_one_installation()
    # Spinning threads take the core that audio needs; must be set before NumPy or ONNX load.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except Exception as error:
        if os.environ.get("HEARBACK_DEBUG"):
            raise
        from models.errors import HearbackError

        known = isinstance(error, (HearbackError, OSError))
        text = str(error) if known else f"Unexpected {type(error).__name__}: {error}"
        _say(f"hearback: {text}")
        if not known:
            _say("This is a fault of hearback; HEARBACK_DEBUG=1 shows where.")
        sys.exit(error.exit_code if isinstance(error, HearbackError) else 3 if known else 1)


if __name__ == "__main__":
    main()
