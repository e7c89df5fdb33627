"""What holds for the whole suite: a Lab Streaming Layer of its own, and no silent skips in CI."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Generator

# Before anything can load liblsl or start a pool of threads: streams of other programs (and of
# another run of this suite) must not be seen, and spinning threads would starve what is live.
os.environ.setdefault("HEARBACK_LSL_SESSION", f"test-{uuid.uuid4()}")
os.environ.pop("LSLAPICFG", None)
os.environ.pop("HEARBACK_LSL", None)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import pytest

# A busy machine makes every example slow now and then; how long a test may take is said below.
hypothesis.settings.register_profile("hearback", deadline=None)
hypothesis.settings.load_profile("hearback")

# A script's shell starts what it leaves in the background deaf to interrupts, and so would be all
# that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_SLOW_S = 600
_REAL_PARTS = ("lsl", "mqtt", "audio", "data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that calculate for minutes the time for it, on a busy machine too."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_S))


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
