from __future__ import annotations

import asyncio
import threading

import pytest

from stream.worker import Worker


def test_calls_run_in_order_in_one_thread_that_is_not_the_loop() -> None:
    async def scenario() -> None:
        seen: list[tuple[int, int]] = []
        async with Worker("decode") as worker:

            def call(i: int) -> None:
                seen.append((i, threading.get_ident()))

            await asyncio.gather(*(worker(call, i) for i in range(20)))
        assert [i for i, _ in seen] == list(range(20))
        assert len({ident for _, ident in seen}) == 1
        assert seen[0][1] != threading.get_ident()

    asyncio.run(scenario())


def test_the_loop_goes_on_while_a_call_computes() -> None:
    async def scenario() -> None:
        release = threading.Event()
        async with Worker("decode") as worker:
            call = asyncio.create_task(worker(release.wait, 30.0))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not call.done()
            release.set()
            assert await call is True

    asyncio.run(scenario())


def test_leaving_waits_for_the_call_in_flight_even_when_its_await_was_cancelled() -> None:
    async def scenario() -> None:
        started, release = threading.Event(), threading.Event()
        finished: list[bool] = []

        def long_call() -> None:
            started.set()
            release.wait(30.0)
            finished.append(True)

        async with Worker("decode") as worker:
            call = asyncio.create_task(worker(long_call))
            await asyncio.to_thread(started.wait, 30.0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not finished
            release.set()
        assert finished == [True]

    asyncio.run(scenario())


def test_an_exception_in_a_call_reaches_the_stage_that_waits() -> None:
    async def scenario() -> None:
        async with Worker("decode") as worker:
            with pytest.raises(ZeroDivisionError):
                await worker(lambda: 1 / 0)
            assert await worker(lambda: 42) == 42

    asyncio.run(scenario())
