"""A database that lies: whatever it says, its own session ends in an error or an answer, and nobody else notices.

The liar holds protected values, so it could always print them into some text of its own choosing; what must not happen
is that a value travels where masks would have met it: as a row, as copied data, in an error, a notice or a setting.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from gateway.protocols.postgres import server
from gateway.protocols.postgres.frames import FrameBuffer, frame, split_frames
from gateway.protocols.postgres.server import Field, encode_data_row, encode_row_description
from gateway.protocols.postgres.startup import encode_cancel
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from gateway.upstreams.postgres_session import PostgresOpener
from gateway.upstreams.registry import UpstreamFailed
from tests.fuzz.streams import FIRST_SEED, SOAKING, mutated
from tests.fuzz.test_client_streams import answer_to_the_end
from tests.gateway.listeners.harness import HOST, PORT, Gateway, direct_dsn
from tests.gateway.listeners.raw import RawClient, bind, describe, execute, parse, query, rows
from tests.turn import TURN

# One loop, in which one analyst serves them all.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SSN = b"078-05-0007"
OK = frame(b"R", struct.pack("!I", 0))
KEY = frame(b"K", struct.pack("!I", 7) + b"1234")
READY = server.encode_ready("I")
STATE = {
    "show role": "none",
    "show session authorization": "postgres",
    "show search_path": '"$user", public',
    "show standard_conforming_strings": "on",
    "show client_encoding": "UTF8",
}
PEOPLE = (Field("id", 0, 1, 23, 0), Field("ssn", 0, 3, 25, 0))
ROW = encode_data_row([b"7", SSN])
DONE = frame(b"C", b"SELECT 1\0")
NOTICE = frame(b"N", b"SNOTICE\0VNOTICE\0C00000\0Mseen " + SSN + b"\0\0")
TEXT = "select id, ssn from people where id = 7"


@dataclass
class Liar:
    """Follows the protocol until it is asked to execute something of the client's: then it says `lie`.

    `described` answers Describe; `handshake` replaces the whole of what it says before it is ready.
    """

    lie: Callable[[], bytes] = lambda: ROW + DONE
    described: bytes = encode_row_description(PEOPLE)
    handshake: bytes = OK + KEY + READY
    unsolicited: bytes = b""  # said right after the handshake, to nobody
    endless: bytes = b""  # said again and again, once asked
    port: int = 0
    said: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            length = int.from_bytes(await reader.readexactly(4), "big")
            if (await reader.readexactly(length - 4))[:4] == encode_cancel(0, b"")[4:8]:
                return
            writer.write(self.handshake + self.unsolicited)
            frames, texts, portals = FrameBuffer(1 << 20), {}, {}
            while data := await reader.read(1 << 16):
                for kind, body in split_frames(frames.feed(data)):
                    await self._answer(chr(kind), body, writer, texts, portals)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway had enough
        finally:
            writer.close()

    async def _answer(
        self, kind: str, body: bytes, writer: asyncio.StreamWriter, texts: dict[bytes, str], portals: dict[bytes, str]
    ) -> None:
        match kind:
            case "P":
                name, text, _ = body.split(b"\0", 2)
                texts[name] = text.decode()
                writer.write(server.PARSE_COMPLETE_FRAME)
            case "B":
                portal, name, _ = body.split(b"\0", 2)
                portals[portal] = texts.get(name, "")
                writer.write(server.BIND_COMPLETE_FRAME)
            case "C":
                writer.write(server.CLOSE_COMPLETE_FRAME)
            case "D":
                writer.write(self.described)
            case "S":
                writer.write(READY)
            case "Q":
                writer.write(self.described + self.lie() + READY)
            case "E":
                text = portals.get(body.split(b"\0")[0], "")
                if text.startswith("show "):
                    writer.write(encode_data_row([STATE.get(text, "x").encode()]) + frame(b"C", b"SHOW\0"))
                    return
                while self.endless:
                    writer.write(self.endless)
                    self.said += len(self.endless)
                    await writer.drain()
                writer.write(self.lie())


@dataclass
class Stage:
    """Where these tests' liars speak, each behind the same port, and an analyst who read the schema once for all."""

    analyst: PostgresAnalyst
    port: int = 0
    liar: Liar = field(default_factory=Liar)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.liar.serve(reader, writer)

    @asynccontextmanager
    async def among_others(self, liar: Liar) -> AsyncIterator[Gateway]:
        """A gateway with the liar behind connection `liar` and the real database behind `people`."""
        self.liar = liar
        for side in self.analyst._sides.values():  # the schema is kept; each statement is one nobody has seen yet
            for remembered in (side.analyses, side.alike, side.estimates):
                remembered.clear()
        gateway = await Gateway(analyst=self.analyst, upstream_port=PORT, others={"liar": self.port}).start()
        try:
            yield gateway
        finally:
            await gateway.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    async def dsn_for(_: object) -> str:
        return direct_dsn()

    set_up = Stage(PostgresAnalyst(dsn_for))
    server_ = await asyncio.start_server(set_up.serve, HOST, 0)
    set_up.port = server_.sockets[0].getsockname()[1]
    yield set_up
    await set_up.analyst.close()
    server_.close()


async def heard(gateway: Gateway, *messages: bytes, quiet_s: float = 2, within_s: float = 60) -> bytes:
    """Everything the liar's client gets until it is cut off, or has its answers, or has waited and hangs up."""
    raw, got = await RawClient.connect(gateway, database="liar"), bytearray()
    raw.writer.write(b"".join(messages))
    with contextlib.suppress(TimeoutError, ConnectionError):
        while got.count(READY[:5]) < len(messages):
            if not (data := await asyncio.wait_for(raw.reader.read(65536), quiet_s)):
                break
            got += data
    with contextlib.suppress(OSError):
        raw.writer.write_eof()
    got += await asyncio.wait_for(answer_to_the_end(raw.reader), within_s)
    raw.close()
    return bytes(got)


async def others_are_served(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    assert rows(await raw.ask(query("select 41 + 1"))) == [[b"42"]]
    raw.close()


SIMPLE = query(TEXT)
EXTENDED = parse(TEXT) + bind() + describe() + execute() + b"S\0\0\0\4"
LIES: dict[str, Liar] = {
    "too-few-columns": Liar(lambda: encode_data_row([SSN]) + DONE),
    "too-many-columns": Liar(lambda: encode_data_row([b"7", b"x", SSN]) + DONE),
    "no-columns": Liar(lambda: frame(b"D", b"\0\0") + DONE),
    "row-cut-short": Liar(lambda: frame(b"D", struct.pack("!HiI", 2, 1, 0x37) + SSN) + DONE),
    "value-longer-than-row": Liar(lambda: frame(b"D", struct.pack("!Hi", 2, 1) + b"7" + struct.pack("!i", 999) + SSN)),
    "negative-length": Liar(lambda: frame(b"D", struct.pack("!Hi", 2, -7) + SSN) + DONE),
    "columns-change-under-the-statement": Liar(lambda: encode_row_description(PEOPLE[::-1]) + ROW + DONE),
    "described-narrower": Liar(described=encode_row_description(PEOPLE[:1])),
    "described-wider": Liar(lambda: encode_data_row([b"7", b"x", SSN]) + DONE,
                            described=encode_row_description((PEOPLE[0], *PEOPLE))),
    "described-as-nothing": Liar(described=frame(b"n")),
    "described-twice": Liar(described=encode_row_description(PEOPLE) * 2),
    "described-by-noise": Liar(described=frame(b"T", b"\0\2" + SSN)),
    "rows-after-the-end": Liar(lambda: ROW + DONE + ROW),
    "rows-instead-of-an-answer": Liar(described=ROW),
    "copy-out-of-nowhere": Liar(lambda: frame(b"H", b"\0\0\2\0\0\0\0") + frame(b"d", b"7\t" + SSN + b"\n")),
    "copy-data-of-nowhere": Liar(lambda: frame(b"d", b"7\t" + SSN + b"\n")),
    "copy-both": Liar(lambda: frame(b"W", b"\0\0\0") + frame(b"d", SSN)),
    "error-with-values": Liar(lambda: frame(b"E", b"SERROR\0VERROR\0C22P02\0Mbad: " + SSN + b"\0D" + SSN + b"\0\0")),
    "error-of-no-fields": Liar(lambda: frame(b"E", SSN)),
    "notice-with-values": Liar(lambda: NOTICE + ROW + DONE),
    "notification": Liar(lambda: frame(b"A", struct.pack("!I", 1) + b"c\0" + SSN + b"\0") + ROW + DONE),
    "setting-with-values": Liar(lambda: server.encode_parameter_status("application_name", SSN.decode()) + ROW + DONE),
    "setting-of-noise": Liar(lambda: frame(b"S", SSN)),
    "other-encoding": Liar(lambda: server.encode_parameter_status("client_encoding", "SJIS") + ROW + DONE),
    "unsolicited-row": Liar(unsolicited=ROW),
    "unsolicited-error": Liar(unsolicited=frame(b"E", b"SFATAL\0VFATAL\0C57P01\0M" + SSN + b"\0\0")),
    "unsolicited-ready": Liar(unsolicited=READY),
    "authentication-again": Liar(lambda: OK + ROW + DONE),
    "key-again": Liar(lambda: KEY + ROW + DONE),
    "message-of-no-type": Liar(lambda: frame(b"\0", SSN)),
    "length-of-nothing": Liar(lambda: b"D" + struct.pack("!I", 3) + SSN),
    "length-of-everything": Liar(lambda: b"D" + struct.pack("!I", 0x7FFFFFFF) + SSN),
    "ready-of-noise": Liar(lambda: ROW + DONE + frame(b"Z", b"")),
    "tag-without-end": Liar(lambda: frame(b"C", b"")),
    "answered-twice": Liar(lambda: ROW + DONE + ROW + DONE),
    "ready-amid-the-rows": Liar(lambda: ROW + READY + ROW + DONE),
    "ready-for-nobody": Liar(lambda: ROW + DONE + READY + READY),
    "bound-again": Liar(lambda: server.BIND_COMPLETE_FRAME + ROW + DONE),
    "suspended-unasked": Liar(lambda: ROW + frame(b"s") + ROW + DONE),
    "empty-after-rows": Liar(lambda: ROW + frame(b"I") + ROW),
    "row-of-a-negative-count": Liar(lambda: frame(b"D", struct.pack("!h", -1) + SSN) + DONE),
    "error-after-the-end": Liar(lambda: ROW + DONE + frame(b"E", b"SERROR\0VERROR\0C22P02\0M" + SSN + b"\0\0")),
    "error-without-end": Liar(lambda: frame(b"E", b"SERROR\0C22P02\0M" + SSN)),
    "copy-in-unasked": Liar(lambda: frame(b"G", b"\0\0\1\0\0") + ROW + DONE),
    "copy-done-unasked": Liar(lambda: frame(b"c") + ROW + DONE),
}  # fmt: skip


# Every lie in every run, told in answer to one of the two ways to ask, which change places.
WAYS = {"simple": SIMPLE, "extended": EXTENDED}
TOLD = [
    (name, way)
    for number, name in enumerate(LIES)
    for turn, way in enumerate(WAYS)
    if SOAKING or turn == (number + TURN) % len(WAYS)
]


@pytest.mark.parametrize(("name", "way"), TOLD)
async def test_lie_shows_no_value_and_harms_no_other_session(stage: Stage, name: str, way: str) -> None:
    async with stage.among_others(LIES[name]) as gateway:
        got = await heard(gateway, WAYS[way], WAYS[way])

        assert SSN not in got
        assert got[:1] in {b"E", b"T", b"1", b"N", b"S", b"A", b"D", b"C", b""}
        await others_are_served(gateway)
        reasons = {str(entry.body["reason"]) for entry in gateway.record.of("session.closed")}
        assert "internal-error" not in reasons


async def test_truth_is_masked_and_served(stage: Stage) -> None:
    """The control: the same server, telling no lie, is understood, so that the lies above are what was refused."""
    async with stage.among_others(Liar()) as gateway:
        got = await heard(gateway, SIMPLE, EXTENDED, quiet_s=60)

        assert [kind for kind, _ in split_frames(got)].count(ord("D")) == 2
        assert SSN not in got


HANDSHAKES: dict[str, bytes] = {
    "nothing-but-notices": NOTICE * 500,
    "ready-without-leave": READY,
    "rows": OK + ROW,
    "settings-without-end": OK + server.encode_parameter_status("a", "b") * 500,
    "key-too-long": OK + frame(b"K", b"x" * 300) + READY,
    "unfinished": OK,
    "a-refusal-with-secrets": frame(b"E", b"SFATAL\0VFATAL\0C28P01\0Mpassword " + SSN + b" is wrong\0\0"),
    "length-of-everything": b"R" + struct.pack("!I", 0x7FFFFFFF),
    "noise": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_handshake_that_lies_ends_in_one_refusal(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.among_others(Liar(handshake=HANDSHAKES[name])) as gateway:
        with monkeypatch.context() as hurried:
            hurried.setattr("gateway.upstreams.postgres.CONNECT_TIMEOUT_S", 1.0)
            with pytest.raises((AssertionError, asyncio.IncompleteReadError)):
                await RawClient.connect(gateway, database="liar")

        await others_are_served(gateway)


async def test_server_that_says_nothing_more_is_given_up_by_rest_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native sessions ask their first question when the client does, and the client may leave."""
    monkeypatch.setattr("gateway.upstreams.postgres_session.CONNECT_TIMEOUT_S", 0.5)
    left = asyncio.Event()

    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + KEY + READY)
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
        left.set()
        writer.close()

    async def credential(_: object) -> dict[str, str]:
        return {"username": "postgres", "password": "x"}

    server_ = await asyncio.start_server(greets, HOST, 0)
    gateway = Gateway(others={"liar": server_.sockets[0].getsockname()[1]})
    with pytest.raises(UpstreamFailed) as failed:
        await asyncio.wait_for(PostgresOpener(credential)(gateway.snapshot().connections["liar"]), 20)
    await asyncio.wait_for(left.wait(), 20)
    server_.close()

    assert failed.value.sqlstate == "08001"


@pytest.mark.parametrize("endless", [NOTICE * 50, ROW * 200], ids=["notices", "rows"])
async def test_endless_answer_is_paced_by_the_client_and_starves_nobody(stage: Stage, endless: bytes) -> None:
    liar = Liar(endless=endless)
    async with stage.among_others(liar) as gateway:
        raw = await RawClient.connect(gateway, database="liar")
        raw.writer.write(SIMPLE)
        await raw.receive()
        while liar.said < 1 << 19 and (before := liar.said) >= 0:
            await asyncio.sleep(0.2)  # the client reads nothing: the liar is heard until the buffers are full
            if liar.said == before:
                break
        await others_are_served(gateway)
        said = liar.said
        raw.close()

        await others_are_served(gateway)
    assert said < 64 << 20, "nobody held the liar back"


async def test_endless_settings_that_the_client_never_hears_starve_nobody(stage: Stage) -> None:
    """What is withheld cannot be paced by the client; it is read, dropped, and kept nowhere."""
    liar = Liar(endless=server.encode_parameter_status("TimeZone", SSN.decode()) * 50)
    async with stage.among_others(liar) as gateway:
        raw = await RawClient.connect(gateway, database="liar")
        raw.writer.write(SIMPLE)
        await raw.receive()
        while liar.said < 1 << 19:
            await asyncio.sleep(0.05)
        await others_are_served(gateway)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        while liar.said < 3 << 19:
            await asyncio.sleep(0.05)
        raw.close()

        await others_are_served(gateway)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024


@pytest.mark.timeout(3600 if SOAKING else 300)
async def test_mutated_answers_end_or_are_understood(stage: Stage) -> None:
    """Random wounds to an honest answer; a wound may turn a row into text, so only life and others count here."""
    honest, liar = ROW * 3 + DONE, Liar()
    async with stage.among_others(liar) as gateway:
        for seed in range(FIRST_SEED, FIRST_SEED + (3000 if SOAKING else 150)):
            lie = mutated(honest, random.Random(seed))
            liar.lie = lambda lie=lie: lie
            try:
                await _hang_up_soon(gateway)
            except TimeoutError:
                raise AssertionError(f"seed {seed}: the session did not end with its client") from None
        await others_are_served(gateway)

        assert not any(entry.body["reason"] == "internal-error" for entry in gateway.record.of("session.closed"))


async def _hang_up_soon(gateway: Gateway) -> None:
    """Ask, wait a moment for whatever comes, hang up; the gateway must close its end too."""
    raw = await RawClient.connect(gateway, database="liar")
    raw.writer.write(SIMPLE)
    with contextlib.suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        await asyncio.wait_for(raw.reader.readuntil(READY[:5]), 0.05)
    with contextlib.suppress(OSError):
        raw.writer.write_eof()
    await asyncio.wait_for(answer_to_the_end(raw.reader), 60)
    raw.close()
