"""The command `hearback bench`; everything else is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from export.progress import step_progress

__all__ = ["register"]

Model = Literal["musicldm", "audioldm2", "audioldm2-speech"]
Engine = Literal["eager", "compile", "cudagraph", "compile-cudagraph", "onnx"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Try it:  hearback bench my-generator --changes 100 --minutes 0.2")(bench)


def bench(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle with a generator, or an exported generator.")
    ] = None,
    *,
    device: Annotated[
        Literal["cpu", "cuda", "tensorrt"], typer.Option(help="Refused where it is not there.")
    ] = "cpu",
    stretch: Annotated[
        float | None, typer.Option(help="Length of the stretches, s; default: the shortest.")
    ] = None,
    changes: Annotated[int, typer.Option(help="How often the condition changes.")] = 1_000,
    minutes: Annotated[
        float | None,
        typer.Option(help="Length of the running stream; default: until the changes are done."),
    ] = None,
    busy: Annotated[
        bool, typer.Option("--busy", help="Also with a busy job on each core.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Of the CPU.")] = 1,
    ring_s: Annotated[
        float, typer.Option(help="Sound that waits when the next stretch is begun, s.")
    ] = 0.1,
    warm_up_s: Annotated[float, typer.Option(help="Before anything is timed, s.")] = 5.0,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Come before all ordinary programs (Linux).")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Time the full-size architectures instead.")
    ] = False,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="With --full: no checkpoint is needed.")
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help=f"With --full: {', '.join(get_args(Model))}; may be given again. Default: all."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="With --full: length of the sound, s.")] = 2.56,
    steps: Annotated[
        list[int] | None, typer.Option(help="With --full; may be given again. Default: 1 2 4 200.")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help=f"With --full: {', '.join(get_args(Engine))}; may be given again. Default: all "
            "that the device has."
        ),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="With --full; default: 5 on a CPU, 200 on a GPU.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
) -> None:
    """Measure how soon a changed condition is heard, and whether sound ever runs out."""
    if realtime:
        from stream.priority import ask_for_real_time

        ask_for_real_time()
    if full:
        if bundle is not None or not random_weights:
            from models.errors import SettingError

            raise SettingError(
                "--full times the published architectures without a checkpoint: say hearback bench "
                "--full --random-weights, and no bundle."
            )
        values = _full(
            model=model, engine=engine, seconds=seconds, steps=steps, device=device,
            repeats=repeats, threads=threads, quiet=json_,
        )  # fmt: skip
    else:
        values = _one(
            bundle, device=device, stretch=stretch, changes=changes, minutes=minutes, busy=busy,
            threads=threads, ring_s=ring_s, warm_up_s=warm_up_s, quiet=json_,
        )  # fmt: skip
    if json_:
        typer.echo(json.dumps(values, allow_nan=False))


def _one(
    bundle: Path | None,
    *,
    device: Literal["cpu", "cuda", "tensorrt"],
    stretch: float | None,
    changes: int,
    minutes: float | None,
    busy: bool,
    threads: int,
    ring_s: float,
    warm_up_s: float,
    quiet: bool,
) -> dict[str, Any]:
    """Measure a generator and show the tables."""
    from models.errors import SettingError
    from stream.bench.run import BenchSettings, run_bench
    from stream.bench.table import bench_tables

    if bundle is None:
        raise SettingError(
            "Give a bundle with a generator or an exported generator, or --full --random-weights."
        )
    settings = BenchSettings(
        bundle,
        device=device,
        stretch_s=stretch,
        changes=changes,
        minutes=minutes,
        busy=busy,
        threads=threads,
        ring_s=ring_s,
        warm_up_s=warm_up_s,
    )
    with step_progress(quiet=quiet) as update:
        values = run_bench(settings, progress=update).to_json()
    if not quiet:
        _print(bench_tables(values))
    return values


def _full(
    *,
    model: list[str] | None,
    engine: list[str] | None,
    seconds: float,
    steps: list[int] | None,
    device: str,
    repeats: int | None,
    threads: int,
    quiet: bool,
) -> dict[str, Any]:
    """Time the full-size architectures and show the table."""
    import importlib

    from models.errors import DeviceError, SettingError
    from stream.bench.machine import describe_machine, load_average
    from stream.bench.table import full_tables

    for option, known, given in (
        ("--model", get_args(Model), model),
        ("--engine", get_args(Engine), engine),
    ):
        unknown = [name for name in given or [] if name not in known]
        if unknown:
            raise SettingError(
                f"{option} is one of {', '.join(known)}, got {unknown[0]!r}. It may be given again."
            )
    # By name: the live path must not depend on torch, and what this module does is to run it.
    try:
        full_size: Any = importlib.import_module("export.bench.full_size")
    except ImportError as error:
        raise DeviceError(
            f"--full needs torch and diffusers ({error}). Install them with: pip install "
            "'hearback[train]'"
        ) from error
    settings = full_size.FullSettings(
        models=tuple(model or ("musicldm", "audioldm2", "audioldm2-speech")),
        seconds=seconds,
        steps=tuple(steps or (1, 2, 4, 200)),
        device=device,
        engines=tuple(engine) if engine else None,
        repeats=repeats,
        threads=threads,
    )
    before = load_average()
    with step_progress(quiet=quiet) as update:
        rows, hardware = full_size.time_full(settings, progress=update)
    if not quiet:
        _print(full_tables(rows, seconds=seconds, hardware=hardware))
    packages = ("torch", "diffusers", "transformers", "onnxruntime")
    return {
        "models": list(settings.models),
        "seconds": seconds,
        "steps": list(settings.steps),
        "provider": device,
        "threads": threads,
        "hardware": hardware,
        "machine": describe_machine(packages),
        "load": {"before": before, "after": load_average()},
        "rows": rows,
    }


def _print(parts: list[Any]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a file or a pipe has no width of its own
    for part in parts:
        console.print(part, highlight=False)
