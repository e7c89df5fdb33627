from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingError
from stream.channel import Channel, ChannelClosedError


async def _drain(channel: Channel[int]) -> list[int]:
    return [item async for item in channel]


def test_channel_drops_oldest_when_full() -> None:
    async def scenario() -> None:
        channel: Channel[int] = Channel(2, "drop_oldest")
        dropped = [await channel.send(item) for item in range(5)]
        await channel.close()
        assert dropped == [None, None, 0, 1, 2]
        assert await _drain(channel) == [3, 4]
        statistics = channel.statistics()
        assert (statistics.sent, statistics.received, statistics.dropped) == (5, 2, 3)

    asyncio.run(scenario())


def test_channel_that_waits_loses_nothing_and_never_holds_more_than_its_capacity() -> None:
    async def scenario() -> None:
        channel: Channel[int] = Channel(3, "wait")
        held: list[int] = []

        async def send() -> None:
            for item in range(100):
                await channel.send(item)
                held.append(channel.statistics().waiting)
            await channel.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            received = group.create_task(_drain(channel))
        assert received.result() == list(range(100))
        assert max(held) <= 3

    asyncio.run(scenario())


def test_closing_lets_the_rest_out_and_ends_the_reader() -> None:
    async def scenario() -> None:
        channel: Channel[int] = Channel(4)
        await channel.send(1)
        await channel.close()
        assert await _drain(channel) == [1]
        assert await _drain(channel) == []

    asyncio.run(scenario())


def test_sending_into_a_closed_channel_is_an_error_also_for_a_sender_that_waits() -> None:
    async def scenario() -> None:
        channel: Channel[int] = Channel(1)
        await channel.send(1)
        waiting = asyncio.create_task(channel.send(2))
        for _ in range(10):  # until it waits for room
            await asyncio.sleep(0)
        await channel.close()
        with pytest.raises(ChannelClosedError):
            await waiting

    asyncio.run(scenario())


def test_cancelling_a_reader_loses_no_message() -> None:
    async def scenario() -> None:
        channel: Channel[int] = Channel(2)
        reader = asyncio.create_task(anext(channel))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await channel.send(7)
        assert await anext(channel) == 7

    asyncio.run(scenario())


def test_capacity_below_one_is_refused() -> None:
    with pytest.raises(SettingError, match="at least 1"):
        Channel(0)


@given(st.integers(1, 8), st.integers(0, 50), st.sampled_from(["wait", "drop_oldest"]))
def test_sent_is_received_plus_dropped_plus_waiting(capacity: int, n: int, policy: str) -> None:
    async def scenario() -> None:
        channel: Channel[int] = Channel(capacity, policy)  # type: ignore[arg-type]
        for item in range(n):
            if policy == "wait" and channel.statistics().waiting == capacity:
                await anext(channel)
            await channel.send(item)
        statistics = channel.statistics()
        assert statistics.sent == n
        assert statistics.sent == statistics.received + statistics.dropped + statistics.waiting
        assert statistics.waiting <= capacity

    asyncio.run(scenario())
