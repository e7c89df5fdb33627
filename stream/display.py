"""What the operator sees in the terminal: how old the sound is, stage by stage, and what was lost.

A compact table on standard error, redrawn a few times a second by a thread of its own; only where
there is a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stream.control import KEYS
from stream.trace import STAGES

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

__all__ = ["Display", "Snapshot", "table"]

_PER_SECOND = 4


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is shown."""

    state: str
    seconds: float
    age_ms: dict[str, float | None]
    stage_ms: dict[str, dict[str, float | None]]
    windows: int
    skipped: int
    delivered: int
    lost: int
    gaps: int
    underruns: int
    message: str = ""


def table(shown: Snapshot) -> Table:
    """Return the table of one moment."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=box.SIMPLE_HEAD,
        title=f"hearback live   {shown.state}   {shown.seconds:.0f} s",
        title_justify="left",
        caption=shown.message or "   ".join(f"{key}: {does}" for key, does in KEYS),
        caption_justify="left",
    )
    made.add_column("stage")
    made.add_column("p50 ms", justify="right")
    made.add_column("p99 ms", justify="right")
    for name in STAGES:
        if name in shown.stage_ms:
            made.add_row(name, *_numbers(shown.stage_ms[name]))
    made.add_section()
    made.add_row("age of what is heard", *_numbers(shown.age_ms), style="bold")
    made.add_section()
    bad = "red" if shown.lost or shown.gaps else ""
    made.add_row("samples, lost", str(shown.delivered), Text(str(shown.lost), style=bad))
    made.add_row("windows, skipped", str(shown.windows), str(shown.skipped))
    made.add_row("gaps, underruns", str(shown.gaps), str(shown.underruns))
    return made


def _numbers(values: dict[str, float | None]) -> tuple[str, str]:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    return shown(values.get("p50")), shown(values.get("p99"))


class Display:
    """The table on standard error, while the context lasts.

    Parameters
    ----------
    look : callable
        Returns what is to be shown; called from the display's thread.
    on : bool
        False: nothing is shown. Neither is it without a terminal.
    """

    def __init__(self, look: Callable[[], Snapshot], *, on: bool = True) -> None:
        self._look = look
        self._live: Live | None = None
        if on and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True),
                get_renderable=lambda: table(self._look()),
                refresh_per_second=_PER_SECOND,
                redirect_stdout=False,
                transient=False,
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
