"""TCP delivers bytes, not messages: however either stream is cut, the same things happen."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from gateway.listeners.postgres_client import ClientConnection
from gateway.protocols.postgres.client import SYNC_FRAME
from gateway.protocols.postgres.frames import MAX_UPSTREAM_MESSAGE, FrameBuffer, ProtocolViolation, split_frames
from gateway.protocols.postgres.startup import encode_startup, packet_length
from tests.fuzz.conftest import Range
from tests.fuzz.streams import FIRST_SEED, SOAKING, Messages, mutated, pieces
from tests.gateway.listeners.raw import RawClient, bind, close, describe, execute, parse, query

CUTS = st.lists(st.integers(1, 60), min_size=1, max_size=8)
WORDS = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
EXAMPLES = 5_000 if SOAKING else 60


class Socket(asyncio.Transport):
    """The end of a socket that only takes orders."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None: ...


def heard_from_client(stream: bytes, cuts: Sequence[int]) -> tuple[list[tuple[int, bytes]], bool]:
    """The frames a client's stream holds for the session, and whether it broke the protocol."""

    async def listen() -> tuple[list[tuple[int, bytes]], bool]:
        async def nobody(_: ClientConnection) -> None: ...

        connection = ClientConnection(nobody)
        connection._transport = Socket()
        connection.accept_statements()
        frames = []
        for piece in pieces(stream, list(cuts)):
            connection.data_received(piece)
            while (found := connection.pop()) is not None:
                frames.append(found)
        return frames, connection.violation is not None

    return asyncio.run(listen())


@seed(FIRST_SEED)
@settings(max_examples=EXAMPLES, deadline=None)
@given(number=st.integers(0, 1 << 32), cuts=CUTS)
def test_client_stream_means_the_same_however_it_is_cut(number: int, cuts: list[int]) -> None:
    random_ = random.Random(number)
    stream = mutated(Messages(random_).stream(), random_)

    assert heard_from_client(stream, cuts) == heard_from_client(stream, [len(stream) + 1])


def heard_from_server(stream: bytes, cuts: Sequence[int]) -> tuple[list[tuple[int, bytes]], bool]:
    buffer, frames = FrameBuffer(MAX_UPSTREAM_MESSAGE), []
    for piece in pieces(stream, list(cuts)):
        with contextlib.suppress(ProtocolViolation):
            frames += split_frames(buffer.feed(piece))
    return frames, buffer.violation is not None


@seed(FIRST_SEED)
@settings(max_examples=EXAMPLES, deadline=None)
@given(number=st.integers(0, 1 << 32), cuts=CUTS)
def test_server_stream_means_the_same_however_it_is_cut(number: int, cuts: list[int]) -> None:
    random_ = random.Random(number)
    stream = mutated(Messages(random_).stream(), random_)

    assert heard_from_server(stream, cuts) == heard_from_server(stream, [len(stream) + 1])


@seed(FIRST_SEED)
@settings(max_examples=EXAMPLES, deadline=None)
@given(settings_=st.dictionaries(WORDS.filter(bool), WORDS, max_size=5))
def test_startup_packet_is_whole_at_its_last_byte_and_not_before(settings_: dict[str, str]) -> None:
    packet = encode_startup(settings_)
    if len(packet) > 10_000:
        return

    assert [packet_length(packet[:size]) for size in (0, 3, 4, len(packet))] == [0, 0, len(packet), len(packet)]


# What a client asks in one recorded conversation: both protocols, formats, portions, COPY, errors and skipping.
CONVERSATION = (
    query("select id, ssn, born from people where id < 200"),
    query("begin; select ssn from people where id = 7; select 1/0; select 2"),
    SYNC_FRAME + query("rollback"),
    parse("select id, ssn, born from people where id < 50", "s") + describe("S", "s") + SYNC_FRAME,
    query("begin"),
    bind("s", "p", (1, 0, 1)) + describe("P", "p") + execute("p", 20) + execute("p", 20) + execute("p") + SYNC_FRAME,
    bind("s", "q") + execute("q") + parse("select nothing") + bind("s", "r") + SYNC_FRAME,
    query("commit"),
    close("S", "s") + SYNC_FRAME,
    query("copy (select id, ssn, born from people where id < 50) to stdout"),
    query("copy (select id, ssn from people where id < 9) to stdout (format csv, header)"),
)


async def conversation(range_: Range, cuts: list[int]) -> list[tuple[str, bytes]]:
    raw, got = await RawClient.connect(range_.gateway), []
    for message in CONVERSATION:
        for piece in pieces(message, cuts):
            raw.writer.write(piece)
            await raw.writer.drain()
            await asyncio.sleep(0)
        got += await raw.until_ready()
    raw.close()
    return [(kind, _lasting(kind, body)) for kind, body in got]


def _lasting(kind: str, body: bytes) -> bytes:
    """Errors name their session: keep their code."""
    return next((part for part in body.split(b"\0") if part[:1] == b"C"), b"") if kind in "EN" else body


@pytest.mark.parametrize("chunk_bytes", [1, 3, 61, 1000])
async def test_conversation_is_answered_alike_however_both_streams_are_cut(range_: Range, chunk_bytes: int) -> None:
    whole = await conversation(range_, [1 << 20])

    range_.tap.chunk_bytes = chunk_bytes
    cut = await conversation(range_, [chunk_bytes])

    assert cut == whole
    assert [kind for kind, _ in whole].count("D") > 250
    assert not any(b"078-05-" in body for _, body in whole)
