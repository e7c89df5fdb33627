"""`python -m calibration.training small --out DIR`: what `hearback train` does, by itself."""

from __future__ import annotations

import sys

import typer

from calibration.training.cli import register
from models.errors import HearbackError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Train; return the exit code.

    Parameters
    ----------
    arguments : list of str, optional
        In place of the command line's.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    register(app)
    try:
        code = app(arguments, prog_name="python -m calibration.training", standalone_mode=False)
    except HearbackError as error:
        typer.echo(str(error), err=True)
        return error.exit_code
    except typer.Exit as left:
        return left.exit_code
    except typer.TyperException as error:
        typer.echo(error.format_message(), err=True)
        return error.exit_code
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
