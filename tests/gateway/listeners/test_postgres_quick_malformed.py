"""The compiled lane over requests and answers that are nearly right: as the interpreted lane, and as no lane at all.

Seeds are fixed: what is played is the same in every run.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from gateway.listeners import postgres_express
from gateway.protocols.postgres import client
from gateway.protocols.postgres.express import read_extended_python, read_query_python
from gateway.protocols.postgres.frames import frame, split_frames
from gateway.protocols.postgres.server import encode_data_row
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import SYNC, RawClient, parse, query, rows
from tests.gateway.listeners.test_postgres_express import SSN, _without_ids, again, run, shut_lane
from tests.gateway.listeners.test_postgres_quick import Watched, gateway, watched

__all__ = ["gateway", "watched"]  # fixtures

pytestmark = pytest.mark.skipif(postgres_express.QuickLane is None, reason="nobody compiled it")

WITH_VALUE = "select ssn from people where id = $1"
# Integers of the server's own width: what is played once is not what was remembered, but has its shape.
SOUND = [query(SSN), query(SSN.replace("7", "9;")), run(SSN), again("kept"), again("typed", b"7")]
ODD = [
    b"\0",
    b"\xff",
    b"7",
    b";",
    b"'",
    b"--",
    b"/*",
    b" ",
    b"\n",
    b"\xc3\xa9",
    b"\0\1",
    b"\xff\xff\xff\xff",
    b"\0\0\0\4",
]


def altered(frames: bytes, source: random.Random) -> bytes:
    """The same kinds of messages, each framed well, with something else in one of them."""
    parts = split_frames(frames)
    chosen = source.randrange(len(parts))
    built = []
    for number, (kind, body) in enumerate(parts):
        if number == chosen and kind != SYNC[0]:
            at, gone = source.randrange(len(body) + 1), source.randrange(3)
            body = body[:at] + source.choice(ODD) * source.randrange(2) + body[at + gone :]
        built.append(frame(bytes([kind]), body))
    return b"".join(built)


def streams(seed: int) -> list[list[bytes]]:
    source = random.Random(seed)
    return [
        [each if source.random() < 0.5 else altered(each, source) for each in source.choices(SOUND, k=5)]
        for _ in range(10)
    ]


async def heard_of(gateway: Gateway, requests: list[bytes]) -> tuple[list[Any], list[Any]]:
    """What the client hears up to the end of its connection, if it does not leave first, and what was recorded."""
    raw = await RawClient.connect(gateway)
    before = len(gateway.record.entries)
    heard: list[Any] = []
    typed = client.encode_parse(client.Parse("typed", WITH_VALUE, (23,)))
    for request in [parse(SSN, "kept") + typed + SYNC, *SOUND, *SOUND, *requests]:
        raw.writer.write(request)
        try:
            heard.append(_without_ids(await raw.until_ready()))
        except (asyncio.IncompleteReadError, ConnectionError):
            heard.append("closed")
            break
    raw.close()
    recorded = [(e.kind, dict(e.body), e.sensitive) for e in gateway.record.entries[before:]]
    return heard, [entry for entry in recorded if entry[0].startswith("statement.")]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.by_turns(2)
async def test_requests_that_are_nearly_right(
    gateway: Gateway, watched: type[Watched], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for requests in streams(seed):
        with monkeypatch.context() as shut:
            shut_lane(shut)
            expected = await heard_of(gateway, requests)
        with monkeypatch.context() as interpreted:
            interpreted.setattr(postgres_express, "QuickLane", None)
            between = await heard_of(gateway, requests)

        assert between == expected
        assert await heard_of(gateway, requests) == expected

    assert sum(watched.requests) > 10
    assert not all(watched.requests[-20:])


async def at_rest(gateway: Gateway, watched: type[Watched]) -> tuple[RawClient, Any]:
    raw = await RawClient.connect(gateway)
    for _ in range(3):
        await raw.ask(query(SSN))
        await raw.ask(run(SSN))
    assert watched.requests[-1]
    return raw, watched.lanes[-1].real


async def test_what_no_twin_reads_is_left_untouched(gateway: Gateway, watched: type[Watched]) -> None:
    raw, lane = await at_rest(gateway, watched)
    source, refused = random.Random(7), 0
    recorded = len(gateway.record.entries)

    for _ in range(3000):
        data = bytearray(source.choice(SOUND))
        for _ in range(source.randrange(1, 4)):
            data[source.randrange(len(data))] = source.choice(b"\0\1\4\xff7QPBDES ")
        cut = bytes(data[: source.choice([len(data), source.randrange(len(data) + 1)])])
        if read_query_python(cut) is None and read_extended_python(cut) is None:
            refused += 1
            assert lane.request(cut) is False
            assert lane.answer(cut) is False

    assert refused > 1000
    assert len(gateway.record.entries) == recorded
    assert rows(await raw.ask(query(SSN))) == [[b"[REDACTED]"]]
    raw.close()


@pytest.mark.parametrize("request_sent", [query(SSN), run(SSN)], ids=["simple", "extended"])
async def test_answers_that_are_nearly_right_are_left_to_the_ordinary_way(
    gateway: Gateway, watched: type[Watched], monkeypatch: pytest.MonkeyPatch, request_sent: bytes
) -> None:
    source, refused, lying = random.Random(11), [], False
    description = frame(b"T", b"\0\1ssn\0" + bytes(18))
    sound = frame(b"1") + frame(b"2") + description + encode_data_row([b"078-05-0007"])
    sound += frame(b"C", b"SELECT 1\0") + frame(b"Z", b"I")

    def answer(self: Watched, data: bytes) -> bool:
        """First something the server never said."""
        if lying:
            wrong = bytearray(sound)
            for _ in range(source.randrange(1, 4)):
                wrong[source.randrange(len(wrong))] = source.choice(b"\0\1\4\xff7DTCZE")
            refused.append(
                self.real.answer(bytes(wrong[: source.choice([len(wrong), source.randrange(len(wrong) + 1)])]))
            )
        return Watched.answer(self, data)

    monkeypatch.setattr(watched, "answer", answer)
    raw, _ = await at_rest(gateway, watched)
    lying = True
    for _ in range(60):
        assert rows(await raw.ask(request_sent)) == [[b"[REDACTED]"]]
    raw.close()

    assert len(refused) >= 60
    assert not any(refused)  # its columns are none of those the statement was described with
