"""Transaction control that was allowed before is recorded and sent, not decided anew; nothing else changes."""

from __future__ import annotations

import pytest

from gateway.listeners.postgres_text import means_one_thing
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import RawClient, kinds, query, status
from tests.gateway.listeners.test_postgres_express import SSN

ROUND = [
    "begin", SSN, "commit",
    "BEGIN;", "select 1 / 0", SSN, "commit;",  # a failed block answers a COMMIT with ROLLBACK
    "start transaction", "begin", "rollback",
    "commit", "abort",  # a warning each
    "begin", "create temp table t (a int)", "rollback", SSN,
]  # fmt: skip


async def test_every_round_is_answered_and_recorded_as_the_first(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    heard, recorded, decided = [], [], []
    for _ in range(3):
        before, asked = len(gateway.record.entries), gateway.services.meter.assessed
        answers = [await raw.ask(query(text)) for text in ROUND]
        heard.append([(kinds(answer), status(answer)) for answer in answers])
        entries = [entry for entry in gateway.record.entries[before:] if entry.kind.startswith("statement.")]
        recorded.append([(entry.kind, entry.body["kind"], entry.body.get("status")) for entry in entries])
        decided.append(gateway.services.meter.assessed - asked)

    assert heard[1:] == heard[:1] * 2
    assert recorded[1:] == recorded[:1] * 2
    assert decided[1:] == [1, 1]  # the definition


@pytest.mark.parametrize("text", ["begin", "Begin Work", "START TRANSACTION", "end", "rollback transaction"])
def test_plain_control_means_one_thing(text: str) -> None:
    assert means_one_thing(text)


@pytest.mark.parametrize(
    "text",
    ["begin read only", "start", "commit and chain", "commit prepared 'a'", "rollback to a", "prepare transaction 'a'",
     "end\n", "execute p", "fetch c", "set role x", "begin; x"],
)  # fmt: skip
def test_what_may_mean_another_thing(text: str) -> None:
    assert not means_one_thing(text)
