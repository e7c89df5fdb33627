"""The command `hearback train brain`; everything else is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

__all__ = ["brain", "register"]

STOPPED = 4  # saved, and can be resumed


def register(app: typer.Typer) -> None:
    """Add the command to the group `hearback train`."""
    app.command(
        name="brain",
        epilog="Try it:  hearback train brain --config brain.toml --out tuned --resume",
    )(brain)


def brain(
    *,
    config: Annotated[
        Path, typer.Option(help="TOML file: recordings, the generator's folder, tables of options.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tuned generator and its decoder.")],
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to train.")] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in the folder.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option(metavar="MIN", help="Save and leave after so many minutes.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Then write a bundle with both tuned parts: a folder to make."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
) -> None:
    """Tune a generator and an acoustic decoder on one participant's recordings."""
    import logging
    import sys

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True
    )
    log = logging.getLogger(__name__)
    settings = _settings(config)

    def report(at: Any) -> None:
        losses = " ".join(f"{name} {value:.4f}" for name, value in at.losses.items())
        log.info("%s %d/%d  %s  %.2f it/s", at.stage, at.step, at.steps, losses, at.steps_per_s)

    from calibration.finetune.bundle import bundle_tuned, check_bundle
    from calibration.finetune.run import train_brain
    from calibration.training.stopping import save_on_signals

    if bundle is not None:
        check_bundle(settings, bundle)
    with save_on_signals() as stop:
        found = train_brain(
            settings,
            out,
            device=device,
            resume=resume,
            budget_min=budget,
            stop=stop,
            progress=report,
        )
    if found is None:
        typer.echo("Stopped before the end; go on with --resume.", err=True)
        if json_:
            typer.echo(json.dumps({"done": False}))
        raise typer.Exit(STOPPED)
    gained = found.tuned
    typer.echo(
        f"{found.participant}: {found.n_windows} windows of {found.n_clips} clips; held-out loss "
        f"under decoded conditions {gained['held_out_loss_before']:.4f} before, "
        f"{gained['held_out_loss']:.4f} after. Wrote {out}",
        err=True,
    )
    values: dict[str, Any] = {"done": True, **found.to_json()}
    if bundle is not None:
        from calibration.told import told_result
        from export.progress import step_progress

        try:
            with step_progress(quiet=json_) as update:
                result = bundle_tuned(settings, out, bundle, progress=update)
        except KeyboardInterrupt:
            typer.echo("Stopped before the bundle; go on with --resume.", err=True)
            raise typer.Exit(STOPPED) from None
        told_result(result, lambda text: typer.echo(text, err=True))
        typer.echo(f"Bundle and report.html: {bundle}", err=True)
        values["bundle"] = {**result.line(), "bundle": str(bundle)}
    if json_:
        from calibration.json_values import json_values

        typer.echo(json.dumps(json_values(values), allow_nan=False))


def _settings(config: Path) -> Any:
    from calibration.finetune.settings import BrainTraining
    from models.settings import load_settings

    return load_settings(config, BrainTraining)
