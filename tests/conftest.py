"""What holds for the whole suite: a Lab Streaming Layer of its own, and no silent skips in CI."""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator

# Before anything can load liblsl or start a pool of threads: streams of other programs (and of
# another run of this suite) must not be seen, and spinning threads would starve what is live.
os.environ.setdefault("HEARBACK_LSL_SESSION", f"test-{uuid.uuid4()}")
os.environ.pop("LSLAPICFG", None)
os.environ.pop("HEARBACK_LSL", None)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

_REAL_PARTS = ("lsl", "mqtt", "audio", "data")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI (HEARBACK_NO_SKIPS=1) a real part that was skipped is a failure."""
    report = yield
    if (
        os.environ.get("HEARBACK_NO_SKIPS") == "1"
        and report.skipped
        and any(item.get_closest_marker(name) for name in _REAL_PARTS)
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
    return report
