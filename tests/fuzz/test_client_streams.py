"""Whatever a client sends, in whatever state: the gateway lives, answers others, and runs nothing it did not authorise.

On failure the seed is in the message: `HOOPWEB_FUZZ_SEED=<seed>` starts there.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import re
import resource

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from gateway.protocols.postgres import client
from gateway.protocols.postgres.startup import encode_cancel, encode_ssl_request, encode_startup
from tests.fuzz.conftest import Range
from tests.fuzz.streams import FIRST_SEED, SOAKING, Messages, hostile_stream, mutated, pieces
from tests.gateway.listeners.harness import HOST, direct_dsn
from tests.gateway.listeners.raw import RawClient, query, rows

COUNT = 20_000 if SOAKING else 300
AT_ONCE = 8
ENDED_WITHIN_S = 60.0
QUIET_S = 0.3
LAST_WORDS = query("select 'the last words'")
SSN = re.compile(rb"078-05-\d{4}")


async def shoot(range_: Range, seed: int) -> None:
    """One connection: bring it into a state, send the stream in pieces, hang up, and hear what comes back."""
    preparation, stream, sizes = hostile_stream(seed)
    raw = await RawClient.connect(range_.gateway)
    if preparation:
        raw.writer.write(query(preparation))
        await raw.until("Z", "G")
    try:
        for piece in pieces(stream, sizes):
            raw.writer.write(piece)
            await asyncio.sleep(0)
        raw.writer.write(client.SYNC_FRAME + LAST_WORDS)
    except OSError:
        pass  # cut off for what it sent
    heard = await until_last_words(raw) + await answer_to_the_end(raw.reader)
    raw.close()

    assert not SSN.search(heard), f"seed {seed}: a protected value came through"


async def until_last_words(raw: RawClient) -> bytes:
    """What comes until everything was answered, then hang up; also when it stays quiet (held, or waiting for more)."""
    heard = bytearray()
    with contextlib.suppress(TimeoutError, ConnectionError):
        while b"the last words" not in heard and (data := await asyncio.wait_for(raw.reader.read(1 << 16), QUIET_S)):
            heard += data
    with contextlib.suppress(OSError):
        raw.writer.write_eof()
    return bytes(heard)


async def answer_to_the_end(reader: asyncio.StreamReader) -> bytes:
    heard = bytearray()
    try:
        while data := await asyncio.wait_for(reader.read(1 << 16), ENDED_WITHIN_S):
            heard += data
    except ConnectionError:
        pass
    return bytes(heard)


@pytest.mark.timeout(7200 if SOAKING else 300)
async def test_no_stream_crashes_hangs_leaks_or_runs_what_was_not_authorised(range_: Range) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> None:
        async with gate:
            try:
                await asyncio.wait_for(shoot(range_, seed), 2 * ENDED_WITHIN_S)
            except TimeoutError:
                raise AssertionError(f"seed {seed}: the session neither answered nor ended") from None

    await asyncio.gather(*(one(seed) for seed in range(FIRST_SEED, FIRST_SEED + COUNT)))

    await nothing_is_left(range_)
    await serves(range_)
    assert range_.tap.forbidden == []
    authorised = range_.authorised()
    unauthorised = {
        text: number for text, number in range_.tap.executed.items() if number > authorised.get(text.rstrip(";"), 0)
    }
    assert {text for text in unauthorised if text.strip(" ;")} == set()
    assert sum(range_.tap.executed.values()) > COUNT // 8, "hardly anything ran, so the test proves nothing"
    assert not range_.gateway.record.of("session.broke")
    reasons = {entry.body["reason"] for entry in range_.gateway.record.of("session.closed")}
    assert "internal-error" not in reasons, "a stream met a bug of ours"


@pytest.mark.timeout(3600 if SOAKING else 300)
async def test_no_handshake_crashes_or_hangs(range_: Range) -> None:
    settings = {"user": "demo-agent", "database": "people", "options": "-c statement_timeout=5s"}
    openings = [encode_startup(settings), encode_ssl_request(), encode_cancel(1, b"1234"), b"\x16\x03\x01\x00\x05hello"]
    password = b"p" + (12).to_bytes(4, "big") + b"a-token\0"

    async def one(seed: int) -> None:
        random_ = random.Random(seed)
        stream = b"".join(random_.choices(openings, k=random_.randint(1, 3))) + random_.choice([b"", password])
        stream = mutated(stream + Messages(random_).stream(), random_)
        reader, writer = await asyncio.open_connection(HOST, range_.gateway.listener.port)
        try:
            for piece in pieces(stream, random_.choice([[1], [1 << 16], [3, 11]])):
                writer.write(piece)
                await asyncio.sleep(0)
            writer.write_eof()
        except OSError:
            pass
        await answer_to_the_end(reader)
        writer.close()

    for start in range(FIRST_SEED, FIRST_SEED + COUNT, AT_ONCE):
        await asyncio.gather(*(one(seed) for seed in range(start, start + AT_ONCE)))

    await nothing_is_left(range_)
    await serves(range_)
    assert range_.tap.executed.total() == 1, "only the control may have run anything"


async def test_streams_do_not_grow_the_process(range_: Range) -> None:
    """Sessions that ended are forgotten: objects of a second and a third volley replace those of the first."""

    async def volley(first: int) -> int:
        for seed in range(first, first + 15):
            await shoot(range_, seed)
        await nothing_is_left(range_)
        range_.gateway.record.entries.clear()
        range_.gateway.sink.by_statement.clear()
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    await volley(FIRST_SEED)
    before = await volley(FIRST_SEED)
    after = await volley(FIRST_SEED)

    assert after - before < 8 * 1024, f"grew by {after - before} KiB over streams it had seen before"


async def nothing_is_left(range_: Range) -> None:
    """Every session is over, here and at the database."""
    for _ in range(600):
        if not len(range_.gateway.registry) and not range_.tap.open:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{len(range_.gateway.registry)} sessions here and {range_.tap.open} there did not end")


async def serves(range_: Range) -> None:
    raw = await RawClient.connect(range_.gateway)
    answer = rows(await raw.ask(query("select 41 + 1")))
    raw.close()

    assert answer == [[b"42"]]


async def test_tap_would_notice_a_statement_nobody_authorised(range_: Range) -> None:
    """The control: a client that reaches the database past the gateway is counted."""
    async with await psycopg.AsyncConnection.connect(_past(range_)) as past:
        await past.execute("select ssn from people where id = %s", (1,))
        await past.execute("select 1")
        await past.execute("select 2; select 3")

    assert range_.tap.executed["select ssn from people where id = $1"] == 1
    assert range_.tap.executed["select 1"] == 1
    assert range_.tap.forbidden == [client.QUERY]
    assert range_.authorised() == {}


def _past(range_: Range) -> str:
    return make_conninfo(direct_dsn(), port=range_.tap.port, sslmode="disable", gssencmode="disable")
