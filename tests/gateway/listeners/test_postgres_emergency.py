"""An emergency access on the wire ends with its count and its time, whatever was opened under it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest

from approvals.domain.request import Emergency, GrantClaim, Principal
from gateway.domain.snapshot import Snapshot
from tests.gateway.listeners.harness import Gateway, Reviewers, TokenDoor
from tests.gateway.listeners.raw import SYNC, RawClient, bind, errors, execute, kinds, parse, query, rows
from tests.gateway.listeners.test_postgres_holding import wait_for
from tests.gateway.listeners.test_postgres_rules_changed import (
    HELD_LONG,
    LONG_ROWS,
    shown,
    with_a_denial,
    without_rights,
)

CLEAR = "078-05-"
HELD = "select id, ssn from people where id < 7 /* held */"


class PersonDoor(TokenDoor):
    async def authenticate(self, **asked: str) -> Principal:
        return replace(await super().authenticate(**asked), kind="person")


@dataclass
class EmergencyDesk(Reviewers):
    """Gives as many statements as the roster allows, and lifts masks."""

    left: int = 1

    async def claim_emergency(self, emergency_id: str, **_: object) -> GrantClaim | None:
        if not self.left:
            return None
        self.left -= 1
        return GrantClaim("", "", (), "", "", emergency=emergency_id, lifts_masks=True)


@dataclass
class EmergencyGateway(Gateway):
    reviewers: Reviewers = field(default_factory=EmergencyDesk)
    door: TokenDoor = field(default_factory=PersonDoor)

    def snapshot(self) -> Snapshot:
        in_force = Emergency(
            id="e1", person="demo-agent", connection="people", ends_at=time.time() + 60, issuer="https://issuer"
        )
        return replace(super().snapshot(), emergencies=(in_force,))


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    running = await EmergencyGateway().start()
    yield running
    await running.stop()


async def test_cursor_of_an_emergency_fetches_nothing_beyond_its_count(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    gateway.reviewers.left = 2
    await raw.ask(query("begin"))
    await raw.ask(query(f"declare c cursor for {HELD}"))
    counted = rows(await raw.ask(query("fetch 3 from c")))
    assert counted[0][1].startswith(CLEAR.encode())  # the control: while it lasts, masks are lifted

    raw.writer.write(query("fetch 3 from c"))
    await wait_for(lambda: len(gateway.reviewers.opened) == 1)
    raw.close()

    assert gateway.reviewers.opened[0].statement == "fetch 3 from c"


@pytest.mark.parametrize("change", [without_rights, with_a_denial])
async def test_answer_in_an_emergency_ends_where_it_is_denied_by_now(
    gateway: Gateway, change: Callable[[Snapshot], Snapshot]
) -> None:
    """An emergency stands for a reviewer's word, and never above a denial."""
    raw = await RawClient.connect(gateway)
    raw.writer.write(query(HELD_LONG))
    first = await raw.until("D")

    gateway.rules = change(gateway.rules)
    await gateway.registry.rules_changed()
    got = await raw.until("E", "Z")
    raw.close()

    assert shown(first) == 1  # masks are lifted
    assert errors(got)[0]["C"] == "57P01"
    assert 0 < shown(got) < LONG_ROWS - 1


async def test_portal_bound_in_an_emergency_is_asked_about_again_after_it(
    gateway: Gateway,
) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    bound = await raw.ask(parse(HELD, name="s"), bind("s", portal="p"), SYNC)
    assert kinds(bound) == "12Z"

    over = replace(gateway.snapshot(), emergencies=())
    gateway.services.snapshots.current = lambda: over
    raw.writer.write(execute("p") + SYNC)
    await wait_for(lambda: len(gateway.reviewers.opened) == 1)
    raw.close()

    assert not errors(bound)
    assert gateway.reviewers.left == 0
