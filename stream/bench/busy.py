"""A busy job on each core, as other programs of an experiment are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["busy_cores"]

# Arithmetic on arrays that do not fit into the first cache, with no pause; of ordinary priority,
# whatever this process has.
_JOB = """
import array, os
if hasattr(os, "sched_setscheduler"):
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
a = array.array("d", range(40000))
while True:
    sum(a)
"""


@contextmanager
def busy_cores(n: int) -> Iterator[None]:
    """Keep `n` cores busy with processes of their own for as long as the context lasts.

    Parameters
    ----------
    n : int
        0: nothing is started.
    """
    jobs = [subprocess.Popen([sys.executable, "-c", _JOB]) for _ in range(n)]
    try:
        yield
    finally:
        for job in jobs:
            job.kill()
        for job in jobs:
            job.wait()
