from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.input_check import check_input
from models.errors import SourceError
from models.spec import InputSpec

NAMES = ("Fz", "Cz", "Pz", "O1")
EEG = InputSpec("eeg", 4, 250.0, channels=NAMES)
BOLD = InputSpec("bold", 2000, 1 / 1.5, unit="a.u.", mask_sha256="a" * 64)


@dataclass(frozen=True)
class Volumes:
    tr_s: float = 1.5
    mask_sha256: str = "a" * 64


def eeg(**changes: Any) -> Any:
    values: dict[str, Any] = {"name": "cap", "n_channels": 4, "sfreq_hz": 250.0, "labels": NAMES}
    return check_input(EEG, **{**values, **changes})


def bold(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "name": "scan",
        "n_channels": 2000,
        "sfreq_hz": 0.66667,
        "bold": Volumes(),
    }
    return check_input(BOLD, **{**values, **changes})


def test_the_same_stream_passes_untouched() -> None:
    samples = np.zeros((3, 4), np.float32)
    assert eeg().order is None
    assert eeg().apply(samples) is samples
    assert bold().order is None


@settings(deadline=None)
@given(st.permutations([*NAMES, "EOG", "trigger"]))
def test_channels_are_sorted_by_their_names(labels: list[str]) -> None:
    match = eeg(n_channels=6, labels=labels)
    columns = np.array([[{"Fz": 0, "Cz": 1, "Pz": 2, "O1": 3}.get(x, 9) for x in labels]], "f4")
    np.testing.assert_array_equal(match.apply(columns), [[0, 1, 2, 3]])
    assert set(match.left_out) == {"EOG", "trigger"}


def test_case_matters_only_where_it_tells_channels_apart() -> None:
    assert eeg(labels=("FZ", "CZ ", "PZ", "o1")).order is None
    match = eeg(n_channels=5, labels=("fz", "Fz", "Cz", "Pz", "O1"))
    np.testing.assert_array_equal(match.order, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ("Fz", "Cz", "Pz", "O2")}, "lacks 'O1'"),
        ({"labels": ("Fz", "Fz", "Cz", "Pz", "O1"), "n_channels": 5}, "2 channels named 'Fz'"),
        ({"labels": ()}, "names 0 of its 4 channels"),
        ({"labels": ("", "", "", "")}, "names 0 of its 4 channels"),
        ({"sfreq_hz": 256.0}, "expects 250 Hz, 'cap' has 256 Hz"),
        ({"sfreq_hz": 0.0}, "no fixed rate"),
        ({"bold": Volumes()}, "is a BOLD stream"),
    ],
)
def test_an_eeg_stream_that_does_not_fit_is_refused(changes: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        eeg(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bold": Volumes(tr_s=2.0)}, r"expects TR 1\.5 s, 'scan' has 2 s"),
        ({"bold": None, "sfreq_hz": 0.0}, "has no fixed TR"),
        ({"n_channels": 1999}, "expects 2000 voxels, 'scan' has 1999"),
        ({"bold": Volumes(mask_sha256="b" * 64)}, "has mask bbbbbbbbbbbb"),
        ({"bold": Volumes(mask_sha256="")}, "does not say which mask"),
        ({"bold": None}, "does not say which mask"),
    ],
)
def test_a_bold_stream_that_does_not_fit_is_refused(changes: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        bold(**changes)


def test_a_bundle_without_names_counts_channels() -> None:
    spec = InputSpec("eeg", 4, 250.0)
    assert check_input(spec, name="x", n_channels=4, sfreq_hz=250.0).order is None
    with pytest.raises(SourceError, match="expects 4 channels, 'x' has 5"):
        check_input(spec, name="x", n_channels=5, sfreq_hz=250.0)
