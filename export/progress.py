"""What is being done, on standard error: a bar on a terminal, a line for each thing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

__all__ = ["Update", "step_progress"]

Update: TypeAlias = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is (0: unknown)."""


@contextmanager
def step_progress(*, quiet: bool) -> Iterator[Update]:
    """Show what is being done; yields what is to be called on every step of it.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    shown = console.is_terminal and not quiet
    said: set[str] = set()
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("starting", total=None)

        def update(what: str, done: float, total: float) -> None:
            bar.update(task, description=what, completed=done, total=total or None)
            if not shown and not quiet and what not in said:
                said.add(what)
                console.print(f"{what} ...", highlight=False, markup=False, soft_wrap=True)

        yield update
