"""The settings of a live calibration: what is played to whom, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.errors import SettingError

__all__ = ["LiveCalibration"]


@dataclass(frozen=True, slots=True)
class LiveCalibration:
    """What is played to whom, and how.

    Raises
    ------
    SettingError
        If a number is out of range.
    """

    stream: str  # name of the LSL stream, EEG or BOLD
    stimuli: Path  # folder of sounds, or table
    out: Path  # of the bundle; the session is recorded beside it, in OUT.session
    sink: str | None = None  # as `stream.sinks.open_sink`; None: the loudspeaker
    repeats: int = 3  # blocks; each holds every sound once and is a run of its own
    gap_s: float = 1.0  # silence between two sounds
    lan: bool = False  # look in the whole network
    seed: int = 0  # of the order
    ceiling_dbfs: float = -12.0
    lead_s: float | None = None  # silence before a run; None: 2 s of EEG, 6 s of BOLD
    tail_s: float | None = None  # recorded after a run; None: 2 s of EEG, 15 s of BOLD
    bold_gap_s: float = 6.0  # the least for BOLD, where answers to sounds overlap
    start_volume: int = 1  # BOLD: begin when so many volumes have come
    markers: str = "hearback-calibration"  # name of the marker stream
    keyboard: bool = True
    find_s: float = 5.0  # for finding the stream
    meet_s: float = 3.0  # for programs that follow the markers to connect, if there are any
    give_up_s: float = 60.0  # a stream that was lost is waited for so long

    def __post_init__(self) -> None:
        for name, low, high in (
            ("repeats", 1, 1_000),
            ("gap_s", 0.0, 600.0),
            ("bold_gap_s", 0.0, 600.0),
            ("start_volume", 1, 10_000),
            ("find_s", 0.1, 3_600.0),
            ("meet_s", 0.0, 3_600.0),
            ("give_up_s", 0.0, 86_400.0),
            ("ceiling_dbfs", -120.0, 0.0),
            ("seed", 0, 2**63),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                flag = f"--{name.replace('_', '-')}"
                raise SettingError(f"{flag} must lie between {low:g} and {high:g}, got {value}.")
        for name in ("lead_s", "tail_s"):
            value = getattr(self, name)
            if value is not None and not 0.1 <= value <= 600.0:
                raise SettingError(f"{name} must lie between 0.1 and 600 s, got {value}.")
