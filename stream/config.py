"""The typed configuration of a live session, from the command line or one TOML file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from export.runtime import Device
from models.errors import SettingError
from models.settings import load_settings, settings_from_dict

__all__ = ["LiveSettings", "make_live_settings"]


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """What a live session is to do; the file has the same names, e.g. `sink = "null"`.

    Without `out` nothing is kept but the summary that is printed. With it, everything that comes
    in and goes out is recorded there.

    Raises
    ------
    SettingError
        If a value is out of its range.
    """

    bundle: Path
    stream: str  # name of the LSL stream
    sink: str = "device"  # "device", "device:NAME", "null" or a .wav file
    seconds: float | None = None  # None: until the source ends, or an abort
    out: Path | None = None  # folder of the session, made here
    mqtt: str | None = None  # mqtt://[user:password@]host[:port]/[prefix]
    session_name: str | None = None  # in MQTT topics and outlets; None: made from the time
    device: Device = "cpu"
    threads: int = 1  # of each network, on the CPU
    seed: int | None = None  # of a generator's noise; None: the bundle's own
    strength: float | None = None  # how much of the retrieved sound is made anew; None: likewise
    ceiling_dbfs: float = -12.0
    markers: tuple[str, ...] = ()  # names of marker streams to record
    outlets: bool = True  # LSL outlets: embedding, feedback value, markers
    keyboard: bool = True  # commands by key, if there is a terminal
    display: bool = True  # live percentiles, if there is a terminal
    lan: bool = False  # other machines may be seen; otherwise this one only
    lead_s: float | None = None  # sound that waits when a window's is added; None: `lead_for`
    hold_hops: float = 2.5  # how long the last sound goes on without a new one; 1 s at least
    max_stage_errors: int = 5  # in a row; then the session ends
    find_s: float = 5.0  # how long the stream is looked for
    history_s: float = 60.0  # how far a stage may fall behind the stream without losing samples
    give_up_s: float = 30.0  # a lost source ends the session after so long
    ended_after_s: float = 4.0  # the same for a replay or demo: it closes its stream at its end

    def __post_init__(self) -> None:
        limits = {
            "seconds": (1e-3, math.inf),
            "threads": (1, 1024),
            "seed": (0, 2**63 - 1),
            "strength": (0.0, 1.0),
            "ceiling_dbfs": (-120.0, 0.0),
            "lead_s": (0.0, 10.0),
            "hold_hops": (0.0, 1000.0),
            "max_stage_errors": (1, 1_000_000),
            "find_s": (0.0, 3600.0),
            "history_s": (1.0, 86_400.0),
            "give_up_s": (0.1, math.inf),
            "ended_after_s": (0.1, math.inf),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # NaN is refused too
                raise SettingError(
                    f"Setting '{name}' must lie between {low:g} and {high:g}, got {value:g}."
                )
        if self.device not in get_args(Device):
            raise SettingError(
                f"Setting 'device' must be one of {list(get_args(Device))}, got {self.device!r}."
            )
        if not self.stream.strip():
            raise SettingError("Name the stream: --stream NAME. `hearback streams` lists them.")


def make_live_settings(config: Path | None = None, **given: Any) -> LiveSettings:
    """Return the settings of a session from a TOML file (or none) and from the command line.

    Parameters
    ----------
    config : Path, optional
    **given
        Fields of `LiveSettings`; what is None counts as not given, anything else wins over the
        file.

    Raises
    ------
    FileError
        If the file cannot be read.
    SettingError
        If a setting is unknown, missing, of the wrong type or out of its range.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if config is not None:
        return load_settings(config, LiveSettings, given=given)
    return settings_from_dict(LiveSettings, {}, given=given)
