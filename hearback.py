"""The command line of hearback; run from a clone, it first makes its own environment.

`python3 hearback.py demo` in a fresh clone needs Python 3.11 and nothing else: what is missing is
installed into `.venv` beside this file, and the command goes on in there. Installed, the same file is
the console script `hearback`. Each command imports what it needs when it runs, so `--help` is instant.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

_CLONE = Path(__file__).resolve().parent
_NEEDED = ("typer", "rich", "numpy", "scipy", "pylsl", "mne", "nibabel", "pyxdf", "onnxruntime")


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
    wanted = hashlib.sha256((_CLONE / "pyproject.toml").read_bytes()).hexdigest()
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
        done = subprocess.run([*pip, "-e", f"{_CLONE}[{extras}]"])
        if done.returncode:
            sys.exit("The installation failed; pip says why above. Is there a network connection?")
        stamp.write_text(wanted)
    arguments = [str(python), str(Path(__file__).resolve()), *sys.argv[1:]]
    if os.name == "nt":  # there execv returns to the shell at once
        sys.exit(subprocess.run(arguments).returncode)
    os.execv(str(python), arguments)


if __name__ == "__main__":
    _testing = sys.argv[1:2] == ["test"]
    _missing = [
        name
        for name in (*_NEEDED, *(("pytest", "mne_lsl") if _testing else ()))
        if importlib.util.find_spec(name) is None
    ]
    if _missing:
        _make_environment("cpu,dev" if _testing else "cpu")

import typer  # noqa: E402  (only now is it sure to be there)

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

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object last.")]
LanFlag = Annotated[
    bool,
    typer.Option("--lan", help="Look for LSL streams in the whole network, not on this machine."),
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
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task(label, total=None)

        def update(done: float, total: float | None = None) -> None:
            bar.update(task, completed=done, total=total)

        yield update


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


@app.command(epilog="Try it:  hearback record --stream EEG --seconds 60 --out sessions/today")
def record(
    *,
    stream: Annotated[list[str], typer.Option(help="Name of a stream; may be given again.")],
    seconds: Annotated[float, typer.Option(help="How long to record, s.", min=0.0)],
    out: Annotated[Path, typer.Option(help="Folder for recording.xdf and events.jsonl.")],
    lan: LanFlag = False,
    json_: JsonFlag = False,
) -> None:
    """Record LSL streams to XDF, losing nothing at a clean stop."""


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
