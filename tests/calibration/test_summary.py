"""What a report says of a calibration, and what it keeps to itself."""

from __future__ import annotations

import pytest

from calibration.summary import peak_mb, told_target, versions


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("class", "class"),
        ("mel-statistics", "mel-statistics"),
        ("clap:/home/somebody/weights/music", "clap:music"),
        ("clap:laion/larger_clap_music", "clap:laion/larger_clap_music"),
    ],
)
def test_a_report_does_not_say_where_weights_lay(target: str, told: str) -> None:
    assert told_target(target) == told


def test_versions_and_memory_are_told() -> None:
    assert {"python", "numpy", "scipy"} <= set(versions())
    assert peak_mb() > 10
