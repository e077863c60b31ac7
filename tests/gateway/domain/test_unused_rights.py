"""What an agent may do beside what it did, and the smallest change that takes the rest away."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gateway.domain.unused_rights import AgentRights, unused_rights
from gateway.models import AccessRule, Agent, Connection
from masking.models import MaskingRule
from tests.hoopweb.test_dashboard import statement

LONG_AGO = timezone.now() - timedelta(days=400)


def agent(name: str, *groups: str, created_at: datetime = LONG_AGO, **fields: Any) -> Agent:
    owner = User.objects.get_or_create(username="olga")[0]
    row = Agent.objects.create(name=name, client_id=name, owner=owner, groups=list(groups), **fields)
    Agent.objects.filter(pk=row.pk).update(created_at=created_at)
    row.refresh_from_db()
    return row


def rule(name: str, group: str, *operations: str, connections: tuple[str, ...] = ("clinic",)) -> AccessRule:
    return AccessRule.objects.create(
        name=name, groups=[group], connections=list(connections), operations=list(operations)
    )


@pytest.fixture(autouse=True)
def connections(db: None) -> None:
    for name in ("clinic", "billing"):
        Connection.objects.create(name=name, kind="postgres", host="127.0.0.1", port=5432, database="c", username="u")


def judged(row: Agent) -> AgentRights:
    (found,) = unused_rights([row], since=timezone.now() - timedelta(days=90))
    return found


def says(row: Agent) -> list[str]:
    return [said.says for said in judged(row).tightenings]


def test_what_was_used_is_not_proposed() -> None:
    rule("reads", "readers", "read")
    reader = agent("reader", "readers")
    assert says(reader) == ["It used nothing at all: switch it off, or give it an end."]  # the control

    statement(1, subject="reader", operations=["read"])

    found = judged(reader)
    assert (found.unused, found.flagged, found.statements, found.tightenings) == (0, False, 1, ())
    assert found.last is not None


def test_operation_nobody_uses_leaves_the_rule() -> None:
    rule("works", "workers", "read", "write")
    one = agent("one", "workers")
    agent("two", "workers")
    statement(1, subject="one", operations=["read"])
    statement(2, subject="two", operations=["read"])

    assert says(one) == ["Take write on clinic out of the rule works: nobody it serves used it."]


def test_operation_others_use_asks_for_a_narrower_group() -> None:
    rule("works", "workers", "read", "write")
    one = agent("one", "workers")
    agent("two", "workers")
    statement(1, subject="one", operations=["read"])
    statement(2, subject="two", operations=["write"])

    assert says(one) == [
        "It did not use write on clinic of the rule works, others did: give it a group with a narrower rule."
    ]


def test_group_none_of_whose_rights_were_used_can_be_left() -> None:
    rule("reads", "readers", "read")
    rule("bills", "billers", "read", "write", connections=("billing",))
    both = agent("both", "readers", "billers")
    statement(1, subject="both", operations=["read"])

    assert says(both) == ["Take it out of the group billers: it used nothing that group opens."]


@pytest.mark.parametrize(
    "fields", [{"status": "denied"}, {"at": timezone.now() - timedelta(days=91)}, {"connection": "billing"}]
)
def test_denied_old_and_foreign_statements_use_no_right(fields: dict[str, Any]) -> None:
    rule("reads", "readers", "read")
    reader = agent("reader", "readers")
    statement(1, subject="reader", operations=["read"], **fields)

    assert judged(reader).unused == 1


def test_acting_for_a_person_uses_the_agents_right() -> None:
    rule("reads", "readers", "read")
    reader = agent("reader", "readers")
    statement(1, subject="olga", actor="reader", operations=["read"])

    assert judged(reader).unused == 0


def test_lifted_mask_that_was_not_looked_through_is_proposed() -> None:
    rule("reads", "readers", "read")
    mask = MaskingRule.objects.create(
        name="ssn",
        connections=["clinic"],
        columns=["public.patients.ssn"],
        technique="redact",
        exempt_groups=["readers"],
    )
    reader = agent("reader", "readers")
    statement(1, subject="reader", operations=["read"], columns_read=["public.patients.state"])

    (said,) = judged(reader).tightenings
    assert (said.change, said.pk) == ("mask", mask.pk)

    statement(2, subject="reader", operations=["read"], columns_read=["public.patients.ssn"])
    assert judged(reader).tightenings == ()


@pytest.mark.parametrize("fields", [{"enabled": False}, {"created_at": timezone.now()}])
def test_who_is_off_or_new_is_not_flagged(fields: dict[str, Any]) -> None:
    rule("reads", "readers", "read")

    found = judged(agent("reader", "readers", **fields))

    assert (found.unused, found.flagged, found.tightenings) == (1, False, ())


def test_queries_do_not_grow_with_agents() -> None:
    rule("reads", "readers", "read")
    agents = [agent(f"reader-{number}", "readers") for number in range(12)]
    agents = list(Agent.objects.select_related("owner"))

    with CaptureQueriesContext(database) as few:
        unused_rights(agents[:1], since=LONG_AGO)
    with CaptureQueriesContext(database) as many:
        unused_rights(agents, since=LONG_AGO)

    assert len(many) == len(few)
