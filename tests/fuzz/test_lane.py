"""A session whose lane is open hears, and leaves on the record, what one hears whose lane is shut.

On failure the seed is in the message: `HOOPWEB_FUZZ_SEED=<seed>` starts there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import psycopg
import pytest

from audit.domain.entry import Entry
from gateway.listeners import postgres_express
from gateway.protocols.postgres.frames import split_frames
from gateway.protocols.postgres.server import decode_error, decode_row_description
from tests.fuzz.lane import DROPPED, FILLED, GRANTED, HELD, MADE, OTHER_ROLE, Step, conversation
from tests.fuzz.streams import FIRST_SEED, SOAKING
from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import RawClient
from tests.gateway.listeners.test_postgres_express import shut_lane
from tests.gateway.listeners.test_postgres_quick import Watched, watched
from tests.gateway.listeners.test_postgres_reused import Sent
from tests.gateway.listeners.test_postgres_templated import by_shape

__all__ = ["by_shape", "watched"]  # fixtures

pytestmark = pytest.mark.skipif(postgres_express.QuickLane is None, reason="nobody compiled it")

COUNT = 1_000 if SOAKING else 8
LENGTH = 250
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{32}\b")


@pytest.fixture(scope="module")
def another() -> Iterator[psycopg.Connection[Any]]:
    """Another session of the database."""
    with psycopg.connect(direct_dsn(), autocommit=True) as connection:
        connection.execute(f"create role {OTHER_ROLE}")
        yield connection
        for text in (*DROPPED, f"drop owned by {OTHER_ROLE}", f"drop role {OTHER_ROLE}"):
            connection.execute(text)


@pytest.mark.timeout(7200 if SOAKING else 300)
async def test_nobody_can_tell_whether_the_lane_is_open(
    watched: type[Watched], another: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spared = sent = 0
    for seed in range(FIRST_SEED, FIRST_SEED + COUNT):
        steps = conversation(seed, length=LENGTH)
        with monkeypatch.context() as shut:
            shut_lane(shut)
            durability = "os" if seed % 4 else "database"
            recording = "metadata" if seed % 3 else "masked-results"
            expected = await Play(another, phi=seed % 2 == 0, durability=durability, recording=recording).of(steps)
        play = Play(another, phi=seed % 2 == 0, durability=durability, recording=recording, watched=watched)
        found = await play.of(steps)

        for number in range(len(steps)):
            behind = [str(step) for step in steps[max(0, number - 12) : number + 1]]
            assert found.heard[number] == expected.heard[number], f"seed {seed}, step {number}, behind {behind}"
        for ran, should in zip_longest(found.recorded, expected.recorded):
            assert ran == should, f"seed {seed}: {ran} and {should}"
        spared, sent = spared + play.kinds.count("B"), sent + len(play.kinds)
    print(f"seed {FIRST_SEED}: {COUNT} conversations, {spared} of {sent} requests were sent without their text")

    assert spared > sent // 20, "too little was spared for the test to mean anything"


@dataclass
class Played:
    heard: list[Any] = field(default_factory=list)  # step by step
    recorded: list[Any] = field(default_factory=list)  # statements that ran, with what became of each


class Play:
    """One conversation with a fresh gateway, over a database made anew."""

    def __init__(
        self,
        another: psycopg.Connection[Any],
        *,
        phi: bool,
        durability: str,
        recording: str,
        watched: type[Watched] | None = None,
    ) -> None:
        """`phi`: what the server says of errors is scrubbed. `watched`: the lane is open."""
        self.kinds: list[str] = []  # of what the server was sent, with an open lane
        self._another, self._phi, self._watched = another, phi, watched
        self._durability, self._recording = durability, recording

    async def of(self, steps: list[Step]) -> Played:
        for text in ("set lock_timeout = 0", *DROPPED, *MADE, *FILLED, *GRANTED, "set lock_timeout = '50ms'"):
            self._another.execute(text)
        self._relations = dict(self._another.execute("select oid, relname from pg_class").fetchall())
        self._gateway = await Gateway(phi=self._phi, recording=self._recording, durability=self._durability).start()
        try:
            await self._connect()
            return Played([await self._step(step) for step in steps], self._recorded())
        finally:
            self._raw.close()
            await self._gateway.stop()
            await self._alone()

    async def _connect(self) -> None:
        self._raw = await RawClient.connect(self._gateway)
        if self._watched is not None:
            lane = self._watched.lanes[-1]
            lane.real.sparing.most_reused_s = lane.real.sparing.most_reused_run_s = 600.0  # however long it takes here
            self.kinds = Sent(lane.session, self.kinds).kinds

    async def _alone(self) -> None:
        """A session that has ended may be alive at the server for a moment, and others would wait for its locks."""
        async with asyncio.timeout(60):
            while self._another.execute(HELD).fetchone():
                await asyncio.sleep(0.01)

    async def _step(self, step: Step) -> Any:
        if step.by_another:
            with suppress(psycopg.Error):  # what it has to wait for does not happen
                self._another.execute(step.by_another)
            return None
        if step.other_rules:
            rules = self._gateway.rules
            masks = () if rules.masking_rules else self._gateway.snapshot().masking_rules
            self._gateway.rules = replace(rules, version=rules.version + 1, masking_rules=masks)
            return None
        return await self._ask(step)

    async def _ask(self, step: Step) -> list[Any]:
        heard: list[Any] = []
        self._raw.writer.write(step.sent[: step.cut_at])
        for _ in range(step.turns if step.cut_at else 0):
            await asyncio.sleep(0)
        self._raw.writer.write(step.sent[step.cut_at :])
        try:
            for _ in range(step.answers):
                heard += [self._lasting(*frame) for frame in await self._raw.until_ready()]
        except (asyncio.IncompleteReadError, ConnectionError):
            heard.append("the end")
            await self._alone()
            await self._connect()
        return heard

    def _lasting(self, kind: str, body: bytes) -> tuple[str, Any]:
        """Without what differs between two sessions of one database."""
        if kind in "EN":
            # Where in its source the server noticed it is another place for a Query than for a Parse.
            said = {key: _ID.sub("…", value) for key, value in decode_error(body).items() if key not in "FLR"}
            # A Query's error may come from its text or from a value. Of a Parse's it is known, and more of it is shown.
            return kind, {key: said[key] for key in "SC"} if self._gateway.phi else said
        if kind == "T":
            fields = decode_row_description(body)
            return kind, [(self._relations.get(one.table_oid), replace(one, table_oid=0)) for one in fields]
        return kind, body

    def _recorded(self) -> list[Any]:
        """What ran, in its order. What a server skips behind an error may or may not have been looked at by then."""
        record = self._gateway.record
        ended = {entry.statement_id: entry for entry in record.of("statement.completed")}
        pairs = [(entry, ended.pop(entry.statement_id)) for entry in record.of("statement.authorised")]
        assert not ended, "an end without its beginning"
        return [tuple(map(self._without_ids, pair)) for pair in pairs if pair[1].body["status"] != "skipped"]

    def _without_ids(self, entry: Entry) -> Any:
        # The analysis here takes texts for fingerprints.
        body: dict[str, Any] = {
            key: value for key, value in entry.body.items() if not key.endswith(("_id", "_ms", "_us", "fingerprint"))
        }
        # Without rows a plan may not have been made: then no column is named as masked.
        body["masked"] = [masked for masked in body.get("masked", ()) if masked["count"]]
        if body.get("recording"):
            kept = self._gateway.sink.by_statement[entry.statement_id]
            assert body["recording"] == kept.digest
            body["recording"] = [self._lasting(chr(kind), frame) for kind, frame in split_frames(bytes(kept.data))]
        return entry.kind, body, entry.sensitive
