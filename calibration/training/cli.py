"""`hearback train small` and one command for each stage; the rest is imported when they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from calibration.training.settings import StageName, TrainingSettings

__all__ = ["register"]

STOPPED = 4  # saved, and can be resumed
_COMMANDS = {
    "small": "Train the small generator, stage after stage; what is stopped goes on with --resume.",
    "encoder": "Train the encoders of sounds and captions.",
    "judge": "Train the encoder of another seed, which scores.",
    "codec": "Train the way from mel frames to latents and back.",
    "tokens": "Train the masked autoencoder that makes tokens; needs nothing before it.",
    "vocoder": "Train the way from mel frames to sound; needs codec.",
    "generator": "Train the many-step generator; needs encoder, judge, codec and tokens.",
    "distill": "Train the few-step generator; needs the many-step one.",
}


def register(app: typer.Typer) -> None:
    """Add the commands to the group `hearback train`."""
    for name, words in _COMMANDS.items():
        app.command(
            name=name,
            help=f"{words}\n\nSeveral GPUs: accelerate launch -m hearback train {name} ...",
            epilog=f"Try it:  hearback train {name} --out trained --budget 60 --resume",
        )(train)


def train(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML file of the recipe; default: the shipped one.")
    ] = None,
    size: Annotated[
        Literal["tiny", "small"] | None, typer.Option(help="Of the networks; default tiny.")
    ] = None,
    sounds: Annotated[
        str | None,
        typer.Option(help="procedural, folder:PATH or midi:PATH; several with '+' between them."),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Where to train; default cpu.")
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"] | None, typer.Option(help="Default auto.")
    ] = None,
    compile_: Annotated[
        bool | None,
        typer.Option(
            "--compile",
            help="Compile the generator's network first: some minutes, then 1.6 times as fast.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the CPU; default 1.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that render sounds.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Of everything; default 0.")] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Exported generator to begin from: its encoders, codec and vocoder are kept, its "
            "denoiser learns on, from other sounds for example.",
        ),
    ] = None,
    scale: Annotated[float, typer.Option(help="Of all steps and sounds; .1 for a trial.")] = 1.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in the folder.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option(metavar="MIN", help="Save and leave after so many minutes.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
) -> None:
    """Train all stages, or the one that the command is named after."""
    import logging
    import sys

    from calibration.training.processes import processes
    from calibration.training.progress import training_progress
    from calibration.training.run import stages_left, summary
    from calibration.training.run import train as run_stages
    from calibration.training.settings import STAGES
    from calibration.training.stopping import save_on_signals

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True
    )
    first = processes().first
    if not first:
        logging.disable(logging.INFO)
    given = {
        name: value
        for name, value in (
            ("size", size),
            ("device", device),
            ("precision", precision),
            ("compiled", compile_),
            ("threads", threads),
            ("seed", seed),
        )
        if value is not None
    }
    run = _settings(config, given, sounds=sounds, scale=scale)
    stages: tuple[StageName, ...] = tuple(n for n in STAGES if n == context.info_name) or STAGES
    with (
        save_on_signals() as stop,
        training_progress(run, stages_left(out, stages), quiet=not first) as (report, every_s),
    ):
        done = run_stages(
            run,
            out,
            stages=stages,
            resume=resume,
            budget_min=budget,
            workers=workers,
            begin=from_,
            stop=stop,
            progress=report,
            every_s=every_s,
        )
    if first:
        if not done:
            typer.echo("Stopped before the end; go on with --resume.", err=True)
        if json_:
            typer.echo(json.dumps({"done": done, **summary(out, stages)}, allow_nan=False))
    if not done:
        raise typer.Exit(STOPPED)


def _settings(
    config: Path | None, given: dict[str, Any], *, sounds: str | None, scale: float
) -> TrainingSettings:
    from dataclasses import replace

    from calibration.training.settings import TrainingSettings, scaled
    from models.settings import load_settings, settings_from_dict

    if config is not None:
        run = load_settings(config, TrainingSettings, given=given)
    else:
        run = settings_from_dict(TrainingSettings, given)
    if sounds is not None:
        run = replace(run, sounds=replace(run.sounds, source=sounds))
    return run if scale == 1.0 else scaled(run, scale)
