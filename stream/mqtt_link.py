"""A connection to an MQTT broker that comes back by itself, in a thread of its own.

It has an event loop of its own too: connecting (name look-up, TLS) blocks inside paho, and a broker
that hangs must not slow the loop that makes sound.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from stream.mqtt_address import MqttAddress
from stream.outbox import Outbox, OutgoingMessage

if TYPE_CHECKING:
    import aiomqtt

__all__ = ["MqttLink"]

logger = logging.getLogger(__name__)

# aiomqtt and paho log every refused attempt; what matters of it is said here, once.
_quiet = logging.getLogger("hearback.mqtt")
_quiet.propagate = False
_quiet.addHandler(logging.NullHandler())

P = ParamSpec("P")
R = TypeVar("R")

_KEEPALIVE_S = 5  # a hanging broker is noticed after two of these
_TIMEOUT_S = 5.0  # for the answer to one message
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 5.0  # before a new attempt; doubles
_INCOMING = 64  # messages that may wait to be read; a flood beyond them is discarded


class MqttLink:
    """Sends what is in an outbox and hands over what comes on one topic.

    Parameters
    ----------
    address : MqttAddress
    base : str
        What stands before the topic of each message.
    outbox : Outbox
    last_will : callable
        Makes the message that the broker shall publish when this connection is lost.
    on_connect : callable
        Called on each connection, before anything is sent.
    listen_to : str, optional
        Topic below `base` to subscribe to.
    on_message : callable
        Called with the payload and whether it was retained.
    max_incoming_bytes : int
        The broker keeps larger messages to itself.
    """

    def __init__(
        self,
        address: MqttAddress,
        base: str,
        outbox: Outbox,
        *,
        last_will: Callable[[], OutgoingMessage],
        on_connect: Callable[[], None],
        listen_to: str | None,
        on_message: Callable[[bytes, bool], None],
        max_incoming_bytes: int,
    ) -> None:
        self.address = address
        self.sent = 0
        self.connections = 0
        self.connected = threading.Event()
        self._base = base
        self._outbox = outbox
        self._last_will = last_will
        self._on_connect = on_connect
        self._listen_to = listen_to
        self._on_message = on_message
        self._max_incoming_bytes = max_incoming_bytes
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._told_unreachable = False

    # -- from any thread ------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
            self._thread.start()

    def notify(self) -> None:
        """Tell the thread that there is something in the outbox."""
        self._call(self._wake.set)

    def close(self, timeout_s: float) -> bool:
        """Send what waits and disconnect; return whether that worked in time."""
        thread, self._thread = self._thread, None
        if thread is None:
            return False
        was_connected = self.connected.is_set()
        self._closing = True
        self.notify()
        thread.join(timeout_s if was_connected else min(timeout_s, _FIRST_WAIT_S))
        if not thread.is_alive():
            return was_connected
        self._call(_cancel_all)
        thread.join(_FIRST_WAIT_S)
        return False

    def _call(self, call: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(call)

    # -- in its own thread ----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._connect_until_closed())
        except asyncio.CancelledError:
            pass
        except Exception:
            logger.exception("Telemetry failed and is off; the sound goes on.")
        finally:
            self.connected.clear()
            self._loop = None

    async def _connect_until_closed(self) -> None:
        """Connect, and again whenever the connection is lost."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(_DaemonPool())
        loop.set_exception_handler(_note)
        self._wake.set()  # for what was put before
        self._loop = loop
        wait_s = _FIRST_WAIT_S
        while not self._closing:
            before = self.connections
            try:
                await self._talk()
                return
            except Exception as error:  # aiomqtt, paho, sockets and TLS share no base but this
                self._tell_unreachable(error)
            finally:
                self.connected.clear()
            wait_s = _FIRST_WAIT_S if self.connections > before else wait_s
            # Not all sessions of a lab at the same moment.
            pause_s = wait_s * random.uniform(0.8, 1.2)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            deadline = loop.time() + pause_s
            while not self._closing and (left := deadline - loop.time()) > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), left)

    async def _talk(self) -> None:
        """Talk to the broker until the session closes or the connection is lost."""
        import aiomqtt
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        # The broker keeps what is larger to itself: nobody can fill our memory.
        properties.MaximumPacketSize = self._max_incoming_bytes
        will = self._last_will()
        client = aiomqtt.Client(
            self.address.host,
            self.address.port,
            username=self.address.user,
            password=self.address.password,
            identifier=f"hearback-{secrets.token_hex(8)}",
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(f"{self._base}/{will.topic}", will.payload, will.qos, will.retain),
            timeout=_TIMEOUT_S,
            keepalive=_KEEPALIVE_S,
            clean_start=True,
            properties=properties,
            tls_context=await asyncio.to_thread(_tls_context) if self.address.tls else None,
            max_queued_incoming_messages=_INCOMING,
            logger=_quiet,
        )
        try:
            async with client:
                await self._subscribe(client)
                self._note_connected()
                await _first_of(self._send(client), self._receive(client))
        finally:
            _drop_socket(client)

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        """Ask for commands; for none that are retained, and to be told which are."""
        from paho.mqtt.subscribeoptions import SubscribeOptions

        if self._listen_to is not None:
            options = SubscribeOptions(
                qos=1,
                retainAsPublished=True,
                retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND,
            )
            await client.subscribe(f"{self._base}/{self._listen_to}", options=options)

    def _note_connected(self) -> None:
        self.connections += 1
        if self._told_unreachable:
            logger.warning("MQTT broker %s is back.", self.address.described)
            self._told_unreachable = False
        self._on_connect()
        self.connected.set()

    async def _send(self, client: aiomqtt.Client) -> None:
        """Publish what waits, one after another, until the session closes."""
        while True:
            message = self._outbox.take()
            if message is None:
                if self._closing:
                    return
                self._wake.clear()
                if not len(self._outbox):
                    await self._wake.wait()
                continue
            try:
                await client.publish(
                    f"{self._base}/{message.topic}",
                    message.payload,
                    qos=message.qos,
                    retain=message.retain,
                )
            except BaseException:
                if message.qos:
                    self._outbox.put_back(message)
                raise
            self.sent += 1

    async def _receive(self, client: aiomqtt.Client) -> None:
        """Hand over what comes until the connection is lost."""
        async for message in client.messages:
            payload = message.payload
            data = payload if isinstance(payload, (bytes, bytearray)) else b""
            try:
                self._on_message(bytes(data), message.retain)
            except Exception:
                logger.exception("A message on %s/%s failed.", self._base, self._listen_to)

    def _tell_unreachable(self, error: Exception) -> None:
        """Say once that the broker is gone, not at each attempt."""
        if not self._told_unreachable and not self._closing:
            self._told_unreachable = True
            logger.warning(
                "MQTT broker %s cannot be reached (%s). Telemetry waits for it; the sound goes on.",
                self.address.described,
                error or type(error).__name__,
            )


class _DaemonPool(ThreadPoolExecutor):
    """Runs each call in a daemon thread: a hanging connect must not keep the program alive."""

    def submit(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future: Future[R] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name="telemetry connect", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: nobody waits for these threads."""


class _Socket(ssl.SSLSocket):
    """Closes itself if the other side cannot be trusted; paho leaves it open (2.2.0)."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLWantReadError:
            raise
        except OSError:
            self.close()
            raise


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.sslsocket_class = _Socket
    return context


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run until one ends; cancel the others and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _drop_socket(client: aiomqtt.Client) -> None:
    """Close a connection that aiomqtt leaves open, as it does when the broker never answers."""
    paho = client._client
    open_socket: Any = paho.socket()
    if open_socket is not None:
        with contextlib.suppress(OSError):
            open_socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(Exception):
            paho.loop_read()  # finds the end of the stream and closes for good


def _cancel_all() -> None:
    for task in asyncio.all_tasks():
        task.cancel()


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep what aiomqtt leaves unawaited after a loss out of the operator's terminal."""
    logger.debug("In the MQTT loop: %s", context.get("message"), exc_info=context.get("exception"))
