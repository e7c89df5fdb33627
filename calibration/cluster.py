"""Many calibrations, one after the other here, or at once on a Dask cluster: the same results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from models.errors import SettingError, SourceError

__all__ = ["run_jobs"]

Job = TypeVar("Job")
Result = TypeVar("Result")
_log = logging.getLogger(__name__)


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    scheduler: str | None = None,
    on_done: Callable[[int, Result], None] | None = None,
) -> list[Result]:
    """Return `work(job)` for each job, in their order.

    Parameters
    ----------
    work : callable
        A function of a module, not a closure: on a cluster it is called in other processes, which
        need the same version of hearback and the same paths.
    jobs : sequence
        Plain records; each holds all that its result depends on, seeds too.
    scheduler : str, optional
        "tcp://HOST:PORT" of a Dask scheduler; "local" for a cluster of processes on this machine;
        None: in this process, one after the other.
    on_done : callable, optional
        Called with the number of a job and its result as soon as it is there.

    Raises
    ------
    SettingError
        If `scheduler` is no such address.
    SourceError
        If the scheduler does not answer, or lost a worker.
    Exception
        What `work` raised for the first job that failed, after the others were called off.
    """
    tell = on_done or (lambda _number, _result: None)
    if scheduler is None:
        results = []
        for number, job in enumerate(jobs):
            results.append(work(job))
            tell(number, results[-1])
        return results
    if scheduler != "local" and "://" not in scheduler:
        raise SettingError(
            f"--scheduler is tcp://HOST:PORT of a Dask scheduler, or local; got {scheduler!r}."
        )
    return _on_cluster(work, jobs, scheduler, tell)


def _on_cluster(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    scheduler: str,
    tell: Callable[[int, Result], None],
) -> list[Result]:
    from distributed import Client, LocalCluster, as_completed

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    local = None
    try:
        if scheduler == "local":
            # One thread each: the linear algebra inside is parallel already.
            local = LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=min(2, len(jobs)),
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,  # what fails is told once, by us
            )
        client = Client(local or scheduler, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        if local is not None:
            local.close()
        raise SourceError(
            f"No Dask scheduler answers at {scheduler}. Start one with `dask scheduler` and "
            "workers with `dask worker`, or leave --scheduler out to calculate here."
        ) from error
    try:
        with client:
            futures = [client.submit(work, job, pure=False) for job in jobs]
            number = {future.key: k for k, future in enumerate(futures)}
            done: dict[int, Result] = {}
            for future in as_completed(futures):  # type: ignore[no-untyped-call]
                k = number[future.key]
                done[k] = future.result()
                tell(k, done[k])
            return [done[k] for k in range(len(jobs))]
    finally:
        if local is not None:
            local.close()
