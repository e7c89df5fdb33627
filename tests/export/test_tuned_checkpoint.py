from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.tuned_checkpoint import NOTE_FILE, TunedCheckpoint, read_tuned_checkpoint
from models.errors import FileError

_NOTE = TunedCheckpoint("ab" * 16, ("cd" * 16, "ef" * 16), pooling="mean-max", fill="last")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_tuned_checkpoint(tmp_path) is None
    (tmp_path / NOTE_FILE).write_text(json.dumps(_NOTE.to_json()))
    assert read_tuned_checkpoint(tmp_path) == _NOTE


@pytest.mark.parametrize(
    "text",
    [
        "{",
        json.dumps(_NOTE.to_json() | {"schema": 2}),
        json.dumps(_NOTE.to_json() | {"pooling": "median"}),
        json.dumps({"weights": "ab"}),
    ],
)
def test_a_note_that_cannot_be_understood_is_never_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / NOTE_FILE).write_text(text)
    with pytest.raises(FileError, match="nobody knows what may score it"):
        read_tuned_checkpoint(tmp_path)
