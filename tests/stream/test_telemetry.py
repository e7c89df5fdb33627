"""Addresses, the outbox and the gate of commands; the broker itself is in tests/integration."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SettingError
from stream import commands
from stream.commands import CommandGate, sign_command
from stream.mqtt_address import MqttAddress, check_session_name, parse_mqtt_url
from stream.outbox import Outbox, OutgoingMessage
from stream.telemetry import TOPICS, Telemetry

SECRET = "sixteen letters and more"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://localhost", MqttAddress("localhost", 1883)),
        ("mqtt://10.0.0.2:99/", MqttAddress("10.0.0.2", 99)),
        ("mqtts://b.example/lab/one", MqttAddress("b.example", 8883, True, "lab/one")),
        ("mqtt://[::1]:7", MqttAddress("::1", 7)),
        ("mqtt://u:p%40ss@h", MqttAddress("h", 1883, False, "hearback", "u", "p@ss")),
    ],
)
def test_a_url_is_an_address(url: str, address: MqttAddress) -> None:
    assert parse_mqtt_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://localhost",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://h:port",
        "mqtt://h:99999",
        "mqtt://h:0",
        "mqtt://h/a b",
        "mqtt://h/#",
        "mqtt://h/+/x",
        "mqtt://h/a//b",
        "mqtt://h/x?y=1",
        "mqtt://[::1",
        "mqtt://h/" + "a/" * 20,
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match="MQTT"):
        parse_mqtt_url(url)


@settings(deadline=None)
@given(st.text())
def test_any_url_is_an_address_or_refused(text: str) -> None:
    for url in (text, f"mqtt://{text}", f"mqtt://h/{text}"):
        try:
            parse_mqtt_url(url)
        except SettingError:
            continue


def test_no_message_shows_a_password() -> None:
    address = parse_mqtt_url("mqtt://u:hidden@h")
    assert "hidden" not in repr(address) + address.described
    for url in ("mqtt://u:hidden@h:x", "mqtt://u:hidden@h/#", "mqtt://u:hidden@", "u:hidden@h"):
        with pytest.raises(SettingError) as caught:
            parse_mqtt_url(url)
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "LOCALHOST"])
def test_a_broker_on_this_machine_is_known_by_its_address(host: str) -> None:
    assert parse_mqtt_url(f"mqtt://{host}").on_this_machine


@pytest.mark.parametrize("host", ["10.0.0.1", "broker", "localhost.example", "0.0.0.0", "[::2]"])
def test_any_other_broker_is_not_on_this_machine(host: str) -> None:
    assert not parse_mqtt_url(f"mqtt://{host}").on_this_machine


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "a b", "x" * 65, "é"])
def test_a_session_name_that_cannot_stand_in_a_topic_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="session name"):
        check_session_name(name)


def message(topic: str, text: str = "") -> OutgoingMessage:
    return OutgoingMessage(topic, text.encode(), 0, retain=False)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b"]), max_size=60))
def test_the_outbox_keeps_the_newest_of_each_topic_in_order(topics: list[str]) -> None:
    capacities = {"a": 1, "b": 5}
    outbox = Outbox(capacities)
    put = [message(topic, str(i)) for i, topic in enumerate(topics)]
    for item in put:
        outbox.put(item)
    expected = [
        item
        for topic, capacity in capacities.items()
        for item in [i for i in put if i.topic == topic][-capacity:]
    ]
    assert len(outbox) == len(expected)
    assert outbox.dropped == len(put) - len(expected)
    taken = [outbox.take() for _ in expected]
    assert taken == expected
    assert outbox.take() is None


def test_what_could_not_be_sent_is_first_again_three_times_at_most() -> None:
    outbox = Outbox({"a": 2})
    outbox.put(message("a", "1"))
    outbox.put(message("a", "2"))
    for expected in (b"1", b"1", b"1", b"2"):
        taken = outbox.take()
        assert taken is not None
        assert taken.payload == expected
        outbox.put_back(taken)
    assert outbox.dropped == 1


def test_the_outbox_loses_nothing_between_threads() -> None:
    outbox = Outbox({"a": 100_000})

    def fill() -> None:
        for _ in range(2_000):
            outbox.put(message("a"))

    threads = [threading.Thread(target=fill) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outbox) == 8_000


class Clock:
    """Milliseconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


def signed(**changes: Any) -> bytes:
    values: dict[str, Any] = {"command": "abort", "time_ms": 1_000_000} | changes
    return sign_command(SECRET, "s", **values)


def test_a_signed_command_passes_once() -> None:
    gate = CommandGate("s", secret=SECRET, trusted=False, now_ms=Clock())
    data = signed()
    assert gate.admit(data, retained=False).command == "abort"
    with pytest.raises(SettingError, match="came before"):
        gate.admit(data, retained=False)
    gate.admit(signed(), retained=False)


def test_a_repeated_command_never_passes_again_however_long_one_waits() -> None:
    clock = Clock()
    gate = CommandGate("s", secret=SECRET, trusted=True, now_ms=clock)
    data = signed(time_ms=1_020_000)
    gate.admit(data, retained=False)
    for now in range(1_000_000, 1_200_000, 1_000):
        clock.now = now
        with pytest.raises(SettingError):
            gate.admit(data, retained=False)


@pytest.mark.parametrize("time_ms", [0, 969_999, 999_999, 1_030_001, 2**60, -1])
def test_a_command_of_another_time_is_refused(time_ms: int) -> None:
    gate = CommandGate("s", secret=SECRET, trusted=True, now_ms=Clock())
    with pytest.raises(SettingError, match="ago"):
        gate.admit(signed(time_ms=time_ms), retained=False)


@settings(deadline=None)
@given(st.data())
def test_no_changed_byte_of_a_signed_command_passes(data: st.DataObject) -> None:
    gate = CommandGate("s", secret=SECRET, trusted=True, now_ms=Clock())
    payload = bytearray(signed(command="prompt", argument="violin", nonce="n" * 16))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    try:
        admitted = gate.admit(bytes(payload), retained=False)
    except SettingError:
        return
    # Another way to write the same: a space for a space, an escaped letter.
    assert (admitted.command, admitted.argument) == ("prompt", "violin")


@pytest.mark.parametrize("nonce", ["", "short", "x" * 65])
def test_a_nonce_must_be_long_enough(nonce: str) -> None:
    gate = CommandGate("s", secret=SECRET, trusted=True, now_ms=Clock())
    with pytest.raises(SettingError, match="nonce"):
        gate.admit(signed(nonce=nonce), retained=False)


def test_a_stranger_without_the_secret_gets_nowhere() -> None:
    plain = b'{"v": 1, "command": "abort"}'
    with pytest.raises(SettingError, match="need a secret"):
        CommandGate("s", secret=None, trusted=False).admit(plain, retained=False)
    with pytest.raises(SettingError, match="not signed"):
        CommandGate("s", secret=SECRET, trusted=True).admit(plain, retained=False)
    CommandGate("s", secret=None, trusted=True).admit(plain, retained=False)
    with pytest.raises(SettingError, match="Retained"):
        CommandGate("s", secret=None, trusted=True).admit(plain, retained=True)
    with pytest.raises(SettingError, match="at least 16"):
        CommandGate("s", secret="short", trusted=True)


def test_the_example_in_the_documentation_signs_as_we_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert commands.__doc__ is not None
    example = re.search(r"( {6}import hashlib.*?\n)\n", commands.__doc__, re.DOTALL)
    assert example is not None
    code = re.sub(r"(?m)^ {6}", "", example[1])
    gate = CommandGate("SESSION", secret=SECRET, trusted=False)
    exec(code.replace('b"SECRET"', repr(SECRET.encode())), {})
    printed = capsys.readouterr().out.encode()
    assert gate.admit(printed, retained=False).command == "abort"


def test_a_signature_is_hmac_sha256_of_a_json_list() -> None:
    values = json.loads(signed(argument="", nonce="n" * 16))
    text = b'[1,"s","abort","","nnnnnnnnnnnnnnnn",1000000]'
    assert values["hmac"] == hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()


def test_the_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARBACK_MQTT_SECRET", "short")
    with pytest.raises(SettingError, match="at least 16"):
        Telemetry("mqtt://localhost", "s", clock=lambda: 0.0)


def test_what_is_published_before_the_start_waits_within_bounds() -> None:
    telemetry = Telemetry("mqtt://localhost:1", "s", clock=lambda: 0.0)
    for seq in range(100):
        telemetry.feedback(0.5, seq=seq, t_brain=0.0, age_ms=1.0)
    waiting = next(topic.waiting for topic in TOPICS if topic.name == "feedback")
    assert telemetry.statistics().dropped == 100 - waiting
    assert not telemetry.close()


def test_topics_are_documented() -> None:
    assert [topic.name for topic in TOPICS if topic.direction == "out"] == [
        "state",
        "event",
        "latency",
        "feedback",
    ]
    assert [topic.name for topic in TOPICS if topic.retained] == ["state"]
