"""A Dask cluster gives what one process gives."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.cluster import run_jobs
from models.errors import SettingError, SourceError


def _draw(seed: int) -> list[float]:
    return np.random.default_rng(seed).normal(size=3).tolist()  # type: ignore[no-any-return]


def _fail(number: int) -> int:
    if number == 1:
        raise SettingError("number 1 fails")
    return number


def test_jobs_are_done_in_order_in_this_process() -> None:
    told: list[int] = []
    results = run_jobs(_draw, [3, 1, 2], on_done=lambda k, _: told.append(k))
    assert results == [_draw(3), _draw(1), _draw(2)]
    assert told == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # distributed's own, at its end
def test_a_cluster_of_processes_gives_the_same() -> None:
    assert run_jobs(_draw, [3, 1, 2], scheduler="local") == run_jobs(_draw, [3, 1, 2])
    with pytest.raises(SettingError, match="number 1"):
        run_jobs(_fail, [0, 1, 2], scheduler="local")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_scheduler_at_an_address_is_used() -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:  # type: ignore[no-untyped-call]
        address = cluster.scheduler_address
        assert address.startswith("tcp://")
        assert run_jobs(_draw, [5, 6], scheduler=address) == run_jobs(_draw, [5, 6])


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(SettingError, match="tcp://"):
        run_jobs(_draw, [1], scheduler="nonsense")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_does_not_answer_is_told() -> None:
    with pytest.raises(SourceError, match="No Dask scheduler answers"):
        run_jobs(_draw, [1], scheduler="tcp://127.0.0.1:9")
