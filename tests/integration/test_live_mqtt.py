from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from stream.config import LiveSettings
from stream.live import LiveSession
from stream.summary import Summary
from tests.integration.broker import Broker
from tests.integration.sessions import replayed, write_bundle, write_recording

pytestmark = [pytest.mark.lsl, pytest.mark.mqtt]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


def test_a_session_is_seen_and_aborted_over_mqtt(tmp_path: Path, broker: Broker) -> None:
    write_bundle(tmp_path / "bundle")
    recording = write_recording(tmp_path / "noise.csv", seconds=60.0)
    name = f"s-{uuid.uuid4().hex[:8]}"
    seen: dict[str, list[dict[str, Any]]] = {}

    async def watch(client: aiomqtt.Client) -> None:
        """Look on until feedback has come, then abort, until the session says so."""
        async for message in client.messages:
            topic = str(message.topic).rsplit("/", 1)[-1]
            assert isinstance(message.payload, bytes)
            seen.setdefault(topic, []).append(json.loads(message.payload))
            if topic == "feedback" and len(seen["feedback"]) == 5:
                await client.publish(
                    f"hearback/{name}/command", json.dumps({"v": 1, "command": "abort"}), qos=1
                )
            if topic == "state" and seen["state"][-1]["state"] == "aborted":
                return

    async def main(stream: str) -> Summary:
        settings = LiveSettings(
            tmp_path / "bundle",
            stream,
            sink="null",
            mqtt=f"mqtt://127.0.0.1:{broker.port}",
            session_name=name,
            find_s=30.0,
        )
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe(f"hearback/{name}/#")
            watching = asyncio.create_task(watch(client))
            summary = await LiveSession(settings).run()
            await asyncio.wait_for(watching, 30.0)
        return summary

    with replayed(recording) as replay:
        summary = asyncio.run(main(replay.stream))
    assert summary.aborted
    assert summary.ended_because == "aborted by mqtt"
    states = [item["state"] for item in seen["state"]]
    assert "running" in states  # "starting" is replaced by it if the broker is slow to connect
    assert states.index("running") < states.index("aborted")
    assert all(0.0 <= item["value"] <= 1.0 for item in seen["feedback"])
    assert [item["seq"] for item in seen["feedback"]] == sorted(
        item["seq"] for item in seen["feedback"]
    )
