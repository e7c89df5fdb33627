"""Command line of the training: `python -m calibration.training small --out DIR`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import FrameType

from models.errors import HearbackError

__all__ = ["main"]

_log = logging.getLogger("calibration.training")


def main(arguments: list[str] | None = None) -> int:
    """Train the embedded generator; return the exit code.

    Parameters
    ----------
    arguments : list of str, optional
        In place of the command line's.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True
    )
    stop = Event()

    def end(number: int, _frame: FrameType | None) -> None:
        _log.info("Signal %d: saving after this step.", number)
        stop.set()

    before = {kind: signal.signal(kind, end) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        done = _train(options, stop)
    except HearbackError as error:
        _log.error("%s", error)
        return error.exit_code
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if not done:
        _log.info("Stopped before the end; go on with --resume.")
    return 0 if done else 4


def _train(options: argparse.Namespace, stop: Event) -> bool:
    from calibration.training.loop import Progress
    from calibration.training.run import train
    from calibration.training.settings import STAGES, TrainingSettings, scaled
    from models.settings import load_settings, settings_from_dict

    given = {
        name: value
        for name in ("size", "device", "threads", "seed", "precision")
        if (value := getattr(options, name)) is not None
    }
    if options.config is not None:
        run = load_settings(options.config, TrainingSettings, given=given)
    else:
        run = settings_from_dict(TrainingSettings, given)
    run = scaled(replace(run), options.scale) if options.scale != 1.0 else run

    def report(at: Progress) -> None:
        losses = " ".join(f"{name} {value:.4f}" for name, value in at.losses.items())
        _log.info(
            "%s %d/%d  %s  %.2f it/s  %.0f min left",
            *(at.stage, at.step, at.steps, losses, at.steps_per_s, at.left_s / 60.0),
        )

    names = options.stages.split(",") if options.stages else STAGES
    return train(
        run,
        options.out,
        stages=names,
        resume=options.resume,
        budget_min=options.budget,
        workers=options.workers,
        stop=stop,
        progress=report,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m calibration.training",
        description="Train the embedded generator from its seed, stage by stage.",
        epilog="Example: python -m calibration.training small --out small --budget 60 --resume",
    )
    parser.add_argument("what", choices=["small"], help="the embedded generator, all its parts")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--size", choices=["tiny", "small"], help="default tiny")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default cpu")
    parser.add_argument("--threads", type=int, help="threads of the CPU, default 1")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], help="default auto")
    parser.add_argument("--seed", type=int, help="default 0")
    parser.add_argument("--config", type=Path, help="TOML file of the recipe")
    parser.add_argument("--stages", help="some of the stages, with commas; default all")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the folder")
    parser.add_argument("--budget", type=float, metavar="MIN", help="save and leave after so long")
    parser.add_argument("--workers", type=int, default=1, help="processes that render sounds")
    parser.add_argument("--scale", type=float, default=1.0, help="of all steps; .1 for a trial")
    return parser


if __name__ == "__main__":
    sys.exit(main())
