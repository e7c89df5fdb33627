"""An event loop in virtual time: an hour takes seconds, and a loaded machine changes nothing.

Timers cost no time: when nothing is ready and no thread computes, the clock jumps to the next one.
Threads of the stages are real; what they compute takes no virtual time unless they `sleep` here.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.BaseSelector):
    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = 0.0
        self.busy = 0  # threads that compute

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return self._real.select(0)
        if self.busy:
            return self._real.select(None)
        if timeout is None:
            found = self._real.select(10.0)  # a thread is just handing its result over
            assert found, "everything waits for ever"
            return found
        self.now += timeout
        return self._real.select(0)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop; `asyncio.Runner(loop_factory=VirtualLoop)`."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._virtual.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        self._virtual.busy += 1
        future = super().run_in_executor(executor, func, *args)

        def done(_: object) -> None:
            self._virtual.busy -= 1

        future.add_done_callback(done)
        return future

    def sleep_in_thread(self, seconds: float) -> None:
        """Sleep, in a thread of this loop's executor, for virtual time."""
        woken = threading.Event()

        def wake() -> None:
            self._virtual.busy += 1
            woken.set()

        def start() -> None:
            self._virtual.busy -= 1
            self.call_later(seconds, wake)

        self.call_soon_threadsafe(start)
        assert woken.wait(30.0)


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function, given the loop, to its end in virtual time."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))
