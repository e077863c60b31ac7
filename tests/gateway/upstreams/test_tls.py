"""The TLS layer by itself: a real socket, OpenSSL at the other end, both loops' transports underneath."""

from __future__ import annotations

import _ssl
import asyncio
import contextlib
import ctypes
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
import trustme
import uvloop

from gateway.upstreams import tls as tls_module
from gateway.upstreams.tls import TlsTransport, secure

HOST = "127.0.0.1"
SSL_OFFSET = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)  # of CPython's PySSLSocket
WITHIN_S = 10

pytestmark = pytest.mark.filterwarnings('ignore:Overriding the "event_loop_policy"')


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Both kinds of transports: the product runs on uvloop's, most tests on asyncio's."""
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


@dataclass(eq=False)
class Listening(asyncio.Protocol):
    """The server's side of one connection; `answer` is given everything that is decrypted."""

    context: ssl.SSLContext
    answer: Callable[[Listening, bytes], None]
    begins: asyncio.Event = field(default_factory=asyncio.Event)  # clear it to keep what comes behind the handshake
    got: bytearray = field(default_factory=bytearray)
    paused: list[bool] = field(default_factory=list)
    moved: asyncio.Event = field(default_factory=asyncio.Event)  # something of the above changed
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None
    transport: TlsTransport | None = None
    task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.raw = cast(asyncio.Transport, transport)

    async def _secure(self, hello: bytes) -> None:
        try:
            self.transport = await secure(self.raw, self, self.context, received=hello)
        except (ssl.SSLError, ConnectionError) as error:
            self.error = error
        else:
            await self.begins.wait()
            self.transport.begin()
        self.moved.set()

    def data_received(self, data: bytes) -> None:
        if self.task is None:  # the beginning of the handshake
            self.raw.pause_reading()
            self.task = asyncio.get_running_loop().create_task(self._secure(data))
            return
        self.got += data
        self.answer(self, data)
        self.moved.set()

    def pause_writing(self) -> None:
        self.paused.append(True)
        self.moved.set()

    def resume_writing(self) -> None:
        self.paused.append(False)
        self.moved.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self.moved.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not reached():
                self.moved.clear()
                await self.moved.wait()


@dataclass
class Server:
    port: int
    authority: trustme.CA
    context: ssl.SSLContext
    accepted: list[Listening]
    arrived: asyncio.Event
    answer: Callable[[Listening, bytes], None] = lambda side, data: cast(TlsTransport, side.transport).write(data)
    begin_at_once: bool = True

    def client_context(self, *, trusting: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        (trusting or self.authority).configure_trust(context)
        return context

    async def side(self) -> Listening:
        async with asyncio.timeout(WITHIN_S):
            await self.arrived.wait()
        return self.accepted[-1]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    made = Server(0, authority, context, [], asyncio.Event())

    def accept() -> Listening:
        side = Listening(context, lambda side, data: made.answer(side, data))
        if made.begin_at_once:
            side.begins.set()
        made.accepted.append(side)
        made.arrived.set()
        return side

    listening = await asyncio.get_running_loop().create_server(accept, HOST, 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()
    for side in made.accepted:
        side.raw.abort()


@dataclass
class ByHand:
    """A client whose records are its own to cut, keep and send."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    tls: ssl.SSLObject

    @classmethod
    async def to(cls, server: Server, context: ssl.SSLContext | None = None) -> ByHand:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = (context or server.client_context()).wrap_bio(incoming, outgoing, server_hostname=HOST)
        return cls(*await asyncio.open_connection(HOST, server.port), incoming, outgoing, tls)

    async def hear(self) -> None:
        data = await asyncio.wait_for(self.reader.read(65536), WITHIN_S)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def does(self, step: Callable[[], object]) -> object:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.writer.write(self.outgoing.read())
                await self.hear()

    async def hears_goodbye(self) -> bytes:
        """What is said until close_notify; raises ssl.SSLEOFError when the stream merely ends."""
        heard = bytearray()
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while part := cast(bytes, await self.does(lambda: self.tls.read(65536))):
                heard += part
        return bytes(heard)

    async def shake_hands(self) -> None:
        """Up to its last flight, which is left in `outgoing`."""
        await self.does(self.tls.do_handshake)


def version(context: ssl.SSLContext, number: ssl.TLSVersion) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = number
    return context


@pytest.mark.parametrize("number", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_megabytes_pass_both_ways_unchanged(server: Server, number: ssl.TLSVersion) -> None:
    context = version(server.client_context(), number)
    reader, writer = await asyncio.open_connection(HOST, server.port, ssl=context, server_hostname=HOST)
    sent = bytes(range(256)) * 12_000

    writer.write(sent)
    echoed = await asyncio.wait_for(reader.readexactly(len(sent)), WITHIN_S)
    writer.close()

    assert echoed == sent


@pytest.mark.parametrize("size", [1, 7, 5000])
async def test_any_chunking_gives_the_same_bytes(server: Server, size: int) -> None:
    client = await ByHand.to(server)
    await client.shake_hands()
    sent = bytes(range(256)) * 80
    client.tls.write(sent)
    records = client.outgoing.read()

    for at in range(0, len(records), size):
        client.writer.write(records[at : at + size])
        if size > 1 or at % 500 == 0:
            await asyncio.sleep(0)
    side = await server.side()
    await side.until(lambda: len(side.got) >= len(sent))
    client.writer.close()

    assert bytes(side.got) == sent


async def test_what_comes_with_the_last_flight_waits_until_the_handshake_was_looked_at(server: Server) -> None:
    server.begin_at_once = False
    client = await ByHand.to(server)
    await client.shake_hands()
    client.tls.write(b"early")
    client.writer.write(client.outgoing.read())
    side = await server.side()
    await asyncio.wait_for(asyncio.shield(_secured(side)), WITHIN_S)
    await asyncio.sleep(0.05)
    kept = bytes(side.got)

    side.begins.set()
    await side.until(lambda: bool(side.got))
    client.writer.close()

    assert (kept, bytes(side.got)) == (b"", b"early")


async def _secured(side: Listening) -> None:
    while side.transport is None:
        await asyncio.sleep(0.01)


async def test_a_goodbye_is_answered_and_nothing_behind_it_is_heard(server: Server) -> None:
    client = await ByHand.to(server)
    await client.shake_hands()
    client.tls.write(b"last")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.writer.write(client.outgoing.read() + b"\x17\x03\x03\x00\x05plain")
    side = await server.side()
    await asyncio.wait_for(side.lost.wait(), WITHIN_S)
    await client.hears_goodbye()
    client.writer.close()

    assert bytes(side.got) == b"last"


async def test_our_goodbye_comes_behind_all_that_was_written(server: Server) -> None:
    sent = b"x" * 300_000

    def last_words(side: Listening, _: bytes) -> None:
        cast(TlsTransport, side.transport).write(sent)
        cast(TlsTransport, side.transport).close()

    server.answer = last_words
    client = await ByHand.to(server)
    await client.shake_hands()
    client.tls.write(b"?")
    client.writer.write(client.outgoing.read())
    heard = await client.hears_goodbye()
    client.writer.close()

    assert heard == sent


async def test_an_end_without_a_goodbye_ends_the_connection(server: Server) -> None:
    client = await ByHand.to(server)
    await client.shake_hands()
    client.tls.write(b"whole")
    client.writer.write(client.outgoing.read())
    client.tls.write(b"never whole")
    client.writer.write(client.outgoing.read()[:-1])
    client.writer.write_eof()
    side = await server.side()
    await asyncio.wait_for(side.lost.wait(), WITHIN_S)
    client.writer.close()

    assert bytes(side.got) == b"whole"


async def test_a_record_that_was_altered_ends_the_connection_unheard(server: Server) -> None:
    client = await ByHand.to(server)
    await client.shake_hands()
    client.writer.write(client.outgoing.read())
    client.tls.write(b"altered")
    record = bytearray(client.outgoing.read())
    record[-1] ^= 1
    client.writer.write(record)
    side = await server.side()
    await asyncio.wait_for(side.lost.wait(), WITHIN_S)
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        await client.does(lambda: client.tls.read(100))
    client.writer.close()

    assert bytes(side.got) == b""


async def test_a_client_hears_why_its_handshake_failed(server: Server) -> None:
    server.context.verify_mode = ssl.CERT_REQUIRED
    server.authority.configure_trust(server.context)
    client = await ByHand.to(server)

    await client.shake_hands()
    client.writer.write(client.outgoing.read())
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
        await client.does(lambda: client.tls.read(100))
    side = await server.side()
    await asyncio.wait_for(side.lost.wait(), WITHIN_S)
    client.writer.close()

    assert isinstance(side.error, ssl.SSLError)


async def test_a_peer_that_leaves_during_the_handshake_is_noticed(server: Server) -> None:
    client = await ByHand.to(server)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.writer.write(client.outgoing.read()[:50])
    client.writer.close()
    side = await server.side()
    await asyncio.wait_for(side.lost.wait(), WITHIN_S)
    await side.until(lambda: side.error is not None)

    assert isinstance(side.error, ConnectionError)


async def test_a_client_that_takes_nothing_stops_the_writer_and_going_on_lets_it_write(server: Server) -> None:
    def write_much(side: Listening, _: bytes) -> None:
        for _written in range(200):
            cast(TlsTransport, side.transport).write(b"y" * 100_000)
            if side.paused:
                break

    server.answer = write_much
    client = await ByHand.to(server)
    await client.shake_hands()
    client.tls.write(b"?")
    client.writer.write(client.outgoing.read())
    side = await server.side()
    await side.until(lambda: bool(side.paused))
    stopped = list(side.paused)

    reading = asyncio.create_task(_read_on(client))
    await side.until(lambda: len(side.paused) == 2)
    reading.cancel()
    client.writer.close()

    assert (stopped, side.paused) == ([True], [True, False])


async def test_a_client_that_half_closes_and_takes_nothing_is_left(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its session would wait for it for ever, with all it holds at the database."""
    monkeypatch.setattr(tls_module, "SHUTDOWN_TIMEOUT_S", 0.1)
    server.answer = lambda side, _: cast(TlsTransport, side.transport).write(b"y" * 50_000_000)
    client = await ByHand.to(server)
    await client.shake_hands()
    client.tls.write(b"?")
    client.writer.write(client.outgoing.read())
    side = await server.side()
    await side.until(lambda: bool(side.paused))

    client.writer.write_eof()
    await asyncio.wait_for(side.lost.wait(), WITHIN_S)
    client.writer.close()

    assert side.paused == [True]  # it never took the rest


def ask_for_a_key_update(tls: ssl.SSLObject) -> None:
    """OpenSSL's SSL_key_update(SSL_KEY_UPDATE_REQUESTED), which Python does not offer: `SSL *` follows the socket."""
    library = ctypes.CDLL(_ssl.__file__)
    session = ctypes.c_void_p(ctypes.c_void_p.from_address(id(tls._sslobj) + SSL_OFFSET).value)  # type: ignore[attr-defined]
    assert library.SSL_key_update(session, 1) == 1
    assert library.SSL_do_handshake(session) == 1


@pytest.mark.skipif(not hasattr(_ssl, "__file__"), reason="OpenSSL is linked into the interpreter")
async def test_a_client_that_takes_no_answers_to_its_key_updates_is_left(server: Server) -> None:
    """Else every one of them, sent in 27 bytes, would be kept until the token expires."""
    server.answer = lambda side, data: None
    client = await ByHand.to(server)
    await client.shake_hands()
    client.writer.write(client.outgoing.read())
    side = await server.side()

    lost: list[bool] = []
    for takes_them, end in ((True, b"one"), (False, b"onetwo")):
        if not takes_them:
            cast(TlsTransport, side.transport).pause_writing()  # as the socket says when it is full
        for _ in range(2000):
            ask_for_a_key_update(client.tls)
        client.tls.write(b"two" if lost else b"one")
        client.writer.write(client.outgoing.read())
        await side.until(lambda end=end: side.lost.is_set() or bytes(side.got) == end)  # type: ignore[misc]
        lost.append(side.lost.is_set())
    client.writer.close()

    assert lost == [False, True]


async def _read_on(client: ByHand) -> Awaitable[None]:
    while True:
        await client.does(lambda: client.tls.read(65536))


async def test_as_a_client_it_checks_the_servers_name_and_authority(server: Server) -> None:
    loop = asyncio.get_running_loop()
    for context, name, problem in (
        (server.client_context(), HOST, ""),
        (server.client_context(), "127.0.0.2", "mismatch"),
        (server.client_context(trusting=trustme.CA()), HOST, "unable to get local issuer|self.signed"),
    ):
        raw, protocol = await loop.create_connection(asyncio.Protocol, HOST, server.port)
        raw.pause_reading()
        if problem:
            with pytest.raises(ssl.SSLCertVerificationError, match=problem):
                await secure(raw, protocol, context, server_hostname=name)
        else:
            transport = await secure(raw, protocol, context, server_hostname=name)
            assert transport.ssl_object.version() == "TLSv1.3"
        raw.abort()
