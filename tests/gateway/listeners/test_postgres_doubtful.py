"""Names behind a Sync: what was to be made in front of it may have failed, and what was there before is run."""

from __future__ import annotations

import pytest

from gateway.protocols.postgres import client
from gateway.protocols.postgres.client import Bind, Parse
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import SYNC, RawClient, bind, close, describe, execute, kinds, parse, query, rows
from tests.gateway.listeners.test_postgres_express import shut_lane

SSNS, NAMES = "select ssn from people where id = $1", "select name from people where id = $1"
FAILS = client.encode_bind(Bind("f", "n", (), (b"no number",), ()))


def kept(text: str, name: str) -> bytes:
    return client.encode_parse(Parse(name, text, (23,)))


def one(name: str, portal: str = "") -> bytes:
    return client.encode_bind(Bind(portal, name, (), (b"7",), ())) + describe("P", portal) + execute(portal)


KNOWN = [kept(SSNS, "s") + kept(NAMES, "n") + describe("S", "n") + SYNC, one("s") + SYNC, *[one("n") + SYNC] * 2]
OPENED = client.encode_bind(Bind("c", "s", (), (b"7",), ()))
NAMED = client.encode_bind(Bind("c", "n", (), (b"7",), ()))
BACK = parse("rollback to here") + bind("", "b") + execute("b")
# What is sent first, one by one, and then at once.
DOUBTFUL: dict[str, tuple[list[bytes], bytes]] = {
    "a name that is taken": ([], kept(NAMES, "s") + SYNC + one("s") + one("s") + SYNC),
    "described alone": ([], kept(NAMES, "s") + SYNC + describe("S", "s") + one("s") + SYNC),
    "made anew behind an error": ([], FAILS + close("S", "s") + kept(NAMES, "s") + SYNC + one("s") + one("s") + SYNC),
    "two requests later": ([], kept(NAMES, "s") + SYNC + one("n") + SYNC + one("s") + SYNC),
    "the unnamed statement": ([kept(SSNS, "") + SYNC], FAILS + kept(NAMES, "") + SYNC + one("") + SYNC),
    "made by SQL": ([query(f"prepare p(int) as {SSNS}")], kept(NAMES, "p") + SYNC + one("p") + SYNC),
    "a cursor": (
        [query("declare c cursor with hold for select ssn from people where id = 7")],
        NAMED + SYNC + execute("c") + SYNC,
    ),
    "a portal from before": (
        [query("begin"), OPENED + SYNC, query("savepoint here")],
        FAILS + close("P", "c") + NAMED + SYNC + BACK + execute("c") + SYNC,
    ),
}


async def _asked(gateway: Gateway, name: str) -> list[list[bytes | None]]:
    """Every row the client sees."""
    first, then = DOUBTFUL[name]
    raw = await RawClient.connect(gateway)
    for request in [*KNOWN, *first]:
        await raw.ask(request)
    raw.writer.write(then)
    seen = []
    for _ in range(then.count(SYNC)):
        seen += rows(await raw.until_ready())
    raw.close()
    return seen


@pytest.mark.parametrize("lane", ["shut", "open"])
@pytest.mark.parametrize("durability", ["os", "database"])
@pytest.mark.parametrize("name", DOUBTFUL)
async def test_what_failed_in_front_of_a_sync_names_nothing_behind_it(
    monkeypatch: pytest.MonkeyPatch, name: str, durability: str, lane: str
) -> None:
    if lane == "shut":
        shut_lane(monkeypatch)
    gateway = await Gateway(recording="metadata", durability=durability).start()
    try:
        seen = await _asked(gateway, name)
    finally:
        await gateway.stop()
    assert not [row for row in seen if b"078-05-0007" in row]


@pytest.mark.parametrize("lane", ["shut", "open"])
async def test_description_that_was_skipped_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, lane: str) -> None:
    if lane == "shut":
        shut_lane(monkeypatch)
    gateway = await Gateway(recording="metadata", durability="os").start()
    undescribed = client.encode_bind(Bind("", "s", (), (b"7",), ())) + execute()
    try:
        raw = await RawClient.connect(gateway)
        await raw.ask(kept(SSNS, "s") + kept(NAMES, "n") + SYNC)
        raw.writer.write(FAILS + describe("S", "s") + SYNC + undescribed + SYNC)
        await raw.until_ready()
        heard = await raw.until_ready()
        raw.close()
    finally:
        await gateway.stop()
    assert (kinds(heard), rows(heard)) == ("2DCZ", [[b"[REDACTED]"]])


@pytest.mark.parametrize("name", [name for name in DOUBTFUL if name not in ("a cursor", "made by SQL")])
async def test_server_does_run_what_was_there_before(name: str) -> None:
    """The control: what is masked above is what would be seen."""
    gateway = await Gateway(recording="metadata", durability="os", masking=False).start()
    try:
        seen = await _asked(gateway, name)
    finally:
        await gateway.stop()
    assert [b"078-05-0007"] in seen
