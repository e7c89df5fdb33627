"""Telemetry against a real Mosquitto that dies, hangs and comes back."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from stream.commands import sign_command
from stream.messages import Command
from stream.telemetry import Telemetry
from tests.integration.broker import Broker, wait_until

pytestmark = pytest.mark.mqtt

SECRET = "a secret of this test, long enough"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


@pytest.fixture
def session() -> str:
    return f"s-{uuid.uuid4()}"


class Witness:
    """Another client on the broker, not made by us: sees everything, can say anything."""

    def __init__(self, broker: Broker, *, user: tuple[str, str] | None = None) -> None:
        self.messages: list[tuple[str, dict[str, Any], bool]] = []
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        if user is not None:
            self.client.username_pw_set(*user)
        self.client.on_message = self._on_message
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert self._subscribed.wait(30)

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        with self._lock:
            try:
                values = json.loads(message.payload)
            except (ValueError, RecursionError):
                values = {}
            self.messages.append((message.topic, values, message.retain))

    def of(self, topic: str) -> list[dict[str, Any]]:
        """Return the payloads that came on topics ending so."""
        with self._lock:
            return [values for name, values, _ in self.messages if name.endswith(f"/{topic}")]

    def states(self) -> list[str]:
        """Return the states that came; at least once may be twice, so repetitions count once."""
        states = [values["state"] for values in self.of("state")]
        return [new for old, new in pairwise(["", *states]) if new != old]

    def say(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        message = self.client.publish(topic, payload, qos=1, retain=retain)
        message.wait_for_publish(30)
        assert message.is_published()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def witness(broker: Broker) -> Iterator[Witness]:
    made = Witness(broker)
    yield made
    made.close()


def publish(telemetry: Telemetry, seqs: range) -> None:
    """Publish the feedback of some windows."""
    for seq in seqs:
        telemetry.feedback(0.5, seq=seq, t_brain=0.0, age_ms=10.0)


def test_everything_that_is_published_arrives_in_its_documented_form(
    broker: Broker, witness: Witness, session: str
) -> None:
    with Telemetry(f"{broker.url}/lab/one", session, clock=lambda: 12.5) as telemetry:
        telemetry.state("running", bundle="b")
        telemetry.feedback(0.25, seq=7, t_brain=12.0, age_ms=float("nan"), label="violin")
        telemetry.latency(age_ms={"p50": 1.0}, stage_ms={"decode": {"p50": 2.0}})
        telemetry.event("gap", {"reason": "dropped", "n_lost": 3})
        assert wait_until(lambda: witness.of("feedback") and witness.of("latency"))
    assert wait_until(lambda: witness.states()[-1:] == ["ended"])
    head = {"v": 1, "session": session, "t": 12.5}
    assert witness.of("feedback") == [
        head | {"value": 0.25, "seq": 7, "t_brain": 12.0, "age_ms": None, "label": "violin"}
    ]
    assert witness.of("latency") == [
        head | {"age_ms": {"p50": 1.0}, "stage_ms": {"decode": {"p50": 2.0}}, "counts": {}}
    ]
    assert witness.of("event") == [
        head | {"kind": "gap", "detail": {"reason": "dropped", "n_lost": 3}}
    ]
    assert all(topic.startswith(f"lab/one/{session}/") for topic, _, _ in witness.messages)
    late = Witness(broker)
    try:
        assert wait_until(lambda: late.states() == ["ended"])
        assert [retained for _, _, retained in late.messages] == [True]
    finally:
        late.close()


def test_a_session_that_dies_is_offline(broker: Broker, witness: Witness, session: str) -> None:
    code = (
        "import sys, time\nfrom stream.telemetry import Telemetry\n"
        "t = Telemetry(sys.argv[1], sys.argv[2]); t.state('running'); t.start(); time.sleep(99)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, broker.url, session])
    try:
        assert wait_until(lambda: witness.states() == ["running"], 60)
    finally:
        process.kill()
        process.wait()
    assert wait_until(lambda: witness.states() == ["running", "offline"])


@pytest.mark.parametrize("fault", ["kill", "suspend"])
def test_a_dead_or_hanging_broker_costs_old_messages_only(
    fault: str, broker: Broker, witness: Witness, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    seq = 0
    with Telemetry(broker.url, session) as telemetry:
        telemetry.state("running")
        assert wait_until(lambda: witness.states() == ["running"])
        broker.kill() if fault == "kill" else broker.suspend()

        def noticed() -> bool:
            nonlocal seq
            publish(telemetry, range(seq, seq := seq + 10))
            return not telemetry.connected

        # A hanging broker is noticed by its silence: two keep-alive times, or one unanswered event.
        telemetry.event("gap", {"n_lost": 1})
        assert wait_until(noticed, 60)
        # The broker answers nothing now; each of these calls returns all the same.
        publish(telemetry, range(seq, seq := seq + 2000))
        sent = telemetry.statistics().sent
        broker.start() if fault == "kill" else broker.resume()
        assert telemetry.wait_connected(60)
        # The newest 64 waited and are sent; the oldest were dropped, and counted.
        assert wait_until(lambda: telemetry.statistics().sent >= sent + 64, 60)

        first = seq

        def flows_again() -> bool:  # the witness has to find its way back, too
            nonlocal seq
            publish(telemetry, range(seq, seq := seq + 1))
            return any(values["seq"] >= first for values in witness.of("feedback"))

        assert wait_until(flows_again, 60)
        assert telemetry.statistics().dropped > 1000
        assert telemetry.statistics().connections == 2
        # The broker had said "offline", or forgot; now it knows again.
        assert wait_until(lambda: witness.states()[-1] == "running", 60)
    told = [r.getMessage() for r in caplog.records if r.name == "stream.mqtt_link"]
    assert sum("cannot be reached" in text for text in told) == 1
    assert sum("is back" in text for text in told) == 1


def test_a_broker_that_comes_late_is_found(tmp_path: Path, session: str) -> None:
    broker = Broker(tmp_path)
    with Telemetry(broker.url, session) as telemetry:
        telemetry.state("running")
        publish(telemetry, range(1))
        assert not telemetry.connected
        broker.start()
        try:
            assert telemetry.wait_connected(60)
        finally:
            broker.kill()


def test_closing_never_waits_for_a_broker_that_hangs(broker: Broker, session: str) -> None:
    telemetry = Telemetry(broker.url, session)
    telemetry.start()
    assert telemetry.wait_connected(30)
    broker.suspend()
    telemetry.event("gap", {})
    closing = threading.Thread(target=telemetry.close, kwargs={"timeout_s": 0.5})
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    broker.resume()


def test_a_wrong_password_is_told_without_the_password(
    tmp_path: Path, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Broker(tmp_path, password=("lab", "right-password")) as broker:
        url = f"mqtt://lab:wrong-password@127.0.0.1:{broker.port}"
        with Telemetry(url, session):
            assert wait_until(lambda: "cannot be reached" in caplog.text)
        good = url.replace("wrong", "right")
        with Telemetry(good, session) as telemetry:
            assert telemetry.wait_connected(30)
    assert "password@" not in caplog.text
    assert "wrong-password" not in caplog.text


def test_tls_takes_a_trusted_certificate_and_no_other(
    tmp_path: Path, session: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Broker(tmp_path, tls=True) as broker:
        url = broker.url.replace("mqtt://", "mqtts://")
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with Telemetry(url, session):
            assert wait_until(lambda: "cannot be reached" in caplog.text)
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
        monkeypatch.setenv("SSL_CERT_FILE", str(broker.certificate))
        with Telemetry(url, session) as telemetry:
            assert telemetry.wait_connected(30)


def test_closing_never_waits_for_a_broker_that_never_answers(session: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        telemetry = Telemetry(f"mqtt://127.0.0.1:{silent.getsockname()[1]}", session)
        telemetry.state("running")
        telemetry.start()
        connection, _ = silent.accept()
        closing = threading.Thread(target=telemetry.close)
        closing.start()
        closing.join(30)
        assert not closing.is_alive()
        connection.settimeout(30)
        while connection.recv(4096):  # the connection is closed, not left open
            pass
        connection.close()


def commands_of(url: str, session: str, **options: Any) -> tuple[Telemetry, list[Command]]:
    """Start telemetry that keeps its commands."""
    came: list[Command] = []
    telemetry = Telemetry(url, session, on_command=came.append, clock=lambda: 3.0, **options)
    telemetry.start()
    assert telemetry.wait_connected(30)
    return telemetry, came


def test_commands_arrive_and_rubbish_does_not(
    broker: Broker, witness: Witness, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"hearback/{session}/command"
    telemetry, came = commands_of(broker.url, session)
    rubbish: list[bytes | str] = [
        b"",
        b"\xff\xfe",
        "abort",
        "[1]",
        '{"v": 1}',
        '{"v": 2, "command": "abort"}',
        '{"v": 1, "command": "reboot"}',
        '{"v": 1, "command": ["abort"]}',
        '{"v": 1, "command": "abort", "argument": "now"}',
        '{"v": 1, "command": "abort", "extra": 1}',
        '{"v": 1, "command": "prompt", "argument": "' + "x" * 300 + '"}',
        '{"v": 1, "command": "prompt", "argument": "' + "x" * 2000 + '"}',
        '{"v": 1, "command": "prompt", "argument": "a\\u0007b"}',
        "[" * 2000,
    ]
    with caplog.at_level(logging.WARNING):
        for payload in rubbish:
            witness.say(topic, payload)
        for name in ("pause", "resume", "abort"):
            witness.say(topic, json.dumps({"v": 1, "command": name}))
        witness.say(topic, '{"v": 1, "command": "prompt", "argument": "violin"}')
        assert wait_until(lambda: len(came) == 4)
    assert [(c.name, c.argument, c.origin, c.at) for c in came] == [
        ("pause", "", "mqtt", 3.0),
        ("resume", "", "mqtt", 3.0),
        ("abort", "", "mqtt", 3.0),
        ("prompt", "violin", "mqtt", 3.0),
    ]
    assert telemetry.statistics().refused == len(rubbish)
    ignored = [r for r in caplog.records if "was ignored" in r.getMessage()]
    assert len(ignored) == 1
    telemetry.close()


def test_a_message_too_large_is_kept_by_the_broker(
    broker: Broker, witness: Witness, session: str
) -> None:
    telemetry, came = commands_of(broker.url, session)
    witness.say(f"hearback/{session}/command", b"x" * 1_000_000)
    witness.say(f"hearback/{session}/command", '{"v": 1, "command": "pause"}')
    assert wait_until(lambda: len(came) == 1)
    assert telemetry.statistics().refused == 0
    assert telemetry.statistics().connections == 1
    telemetry.close()


def test_retained_commands_are_ignored(broker: Broker, witness: Witness, session: str) -> None:
    topic = f"hearback/{session}/command"
    witness.say(topic, '{"v": 1, "command": "abort"}', retain=True)
    telemetry, came = commands_of(broker.url, session)
    witness.say(topic, '{"v": 1, "command": "resume"}', retain=True)
    witness.say(topic, '{"v": 1, "command": "pause"}')
    assert wait_until(lambda: bool(came))
    assert [c.name for c in came] == ["pause"]
    assert telemetry.statistics().refused == 1
    telemetry.close()


def test_a_command_given_while_we_were_away_is_not_carried_out_later(
    broker: Broker, witness: Witness, session: str
) -> None:
    topic = f"hearback/{session}/command"
    telemetry, came = commands_of(broker.url, session)
    telemetry.close()
    witness.say(topic, '{"v": 1, "command": "abort"}')
    telemetry, came = commands_of(broker.url, session)
    witness.say(topic, '{"v": 1, "command": "pause"}')
    assert wait_until(lambda: bool(came))
    assert [c.name for c in came] == ["pause"]
    telemetry.close()


def test_signed_commands_are_taken_once_and_unsigned_ones_not(
    broker: Broker, witness: Witness, session: str
) -> None:
    topic = f"hearback/{session}/command"
    telemetry, came = commands_of(broker.url, session, secret=SECRET)
    good = sign_command(SECRET, session, command="prompt", argument="violín")
    witness.say(topic, '{"v": 1, "command": "abort"}')
    witness.say(topic, sign_command(SECRET + "!", session, command="abort"))
    witness.say(topic, sign_command(SECRET, "another", command="abort"))
    witness.say(topic, good.replace(b'"prompt"', b'"abort"'))
    witness.say(topic, good)
    witness.say(topic, good)
    witness.say(topic, sign_command(SECRET, session, command="pause"))
    assert wait_until(lambda: len(came) == 2)
    assert [(c.name, c.argument) for c in came] == [("prompt", "violín"), ("pause", "")]
    assert telemetry.statistics().refused == 5
    telemetry.close()
