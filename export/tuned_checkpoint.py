"""What a full-size checkpoint says of its tuning to a brain: a file beside its networks.

Recordings that it learnt from must never score it, and tokens must enter it as they did then.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from export.strict_json import parse_object, record_from_json
from models.errors import FileError, SettingError

__all__ = ["NOTE_FILE", "TunedCheckpoint", "read_tuned_checkpoint"]

NOTE_FILE = "hearback.json"
_MAX_BYTES = 4 << 20
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class TunedCheckpoint:
    """What `hearback.json` says."""

    weights: str  # digest of the tuned denoiser
    trained_on: tuple[str, ...]  # digests of the recordings that were learnt from
    # How acoustic tokens entered it; None where it takes none.
    pooling: Literal["mean", "mean-max"] | None = None
    fill: Literal["last", "zeros"] | None = None
    last_blocks: int | None = None
    sampler: Literal["ddim", "ping_pong"] | None = None  # by which its steps follow one another
    schema: int = _SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; what is not said is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_tuned_checkpoint(folder: Path) -> TunedCheckpoint | None:
    """Return what a checkpoint says of its tuning, None if it was not tuned.

    Raises
    ------
    FileError
        If the file is damaged, or of a newer release.
    """
    path = folder / NOTE_FILE
    if not path.exists():
        return None
    try:
        values = parse_object(path.read_bytes(), NOTE_FILE, max_bytes=_MAX_BYTES)
        note: TunedCheckpoint = record_from_json(TunedCheckpoint, values, NOTE_FILE)
        if note.schema != _SCHEMA:
            raise SettingError(f"{NOTE_FILE} is of another release of hearback.")
    except (OSError, SettingError) as error:
        raise FileError(
            f"{path} says how the checkpoint was tuned, and cannot be read: {error} Tune it again, "
            "for without it nobody knows what may score it."
        ) from error
    return note
