"""An emergency access in the pipeline: it stands for a reviewer's decision, and for nothing else."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from analysis.statement import Operation
from approvals.domain.conditions import Condition
from approvals.domain.decide import Action, PolicyRule
from approvals.domain.request import Emergency, GrantClaim, Principal
from gateway.domain import tokens
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.emergency import emergency_of, without_masks
from gateway.session.pipeline import run_statement
from gateway.session.remembered import authorise_known
from masking.domain.field import FieldMask, MaskingPlan, ResultColumn, ShownColumn, SubjectPlan
from tests.gateway.session.doors import SSN, World, analysed, snapshot
from tests.gateway.session.test_pipeline import UPDATE, WRITES_NEED_APPROVAL, held_world

pytestmark = pytest.mark.usefixtures("settings")
DENIED = PolicyRule("no-writes", ("clinic",), Action.DENY, Condition(operation=frozenset({Operation.WRITE})))


def in_force(**changes) -> Emergency:
    known = {"id": "e1", "person": "admin", "agent": "demo-agent", "connection": "clinic", "ends_at": time.time() + 60}
    return Emergency(**(known | changes))


def claimed(text: str, *, lifts_masks: bool = False) -> GrantClaim:
    return GrantClaim("", "", (), "", text, emergency="e1", lifts_masks=lifts_masks)


def emergency_world(text: str, *, emergency: Emergency | None = None, lifts_masks: bool = False) -> World:
    world = held_world()
    world.rules.value = replace(world.rules.value, emergencies=(emergency or in_force(),))
    world.desk.emergencies = {"e1": claimed(text, lifts_masks=lifts_masks)}
    return world


def session(world: World) -> SessionContext:
    opened = world.session
    opened.principal = replace(opened.principal, issuer=tokens.issuer_url())
    return opened


async def run(world: World, text: str):
    return await run_statement(world.services, session(world), StatementRequest(text), world.client)


async def test_held_statement_runs_and_is_marked():
    world = emergency_world(UPDATE)

    permit = await run(world, UPDATE)

    assert permit is not None
    assert world.desk.opened == []
    assert world.log.entries[0].body["emergency"] == "e1"
    assert world.log.entries[0].body["masks"] == "kept"
    assert "review" not in world.log.entries[0].body
    assert world.desk.counted == [("", 1)]


async def test_denied_stays_denied():
    world = emergency_world(UPDATE)
    world.rules.value = replace(world.rules.value, policies=(DENIED, WRITES_NEED_APPROVAL))

    assert await run(world, UPDATE) is None
    assert world.client.denials[0].code == "policy-denied"


async def test_what_cannot_be_read_stays_denied():
    world = emergency_world(UPDATE)
    world.analyst.answer = lambda text: replace(analysed(text, operation=Operation.WRITE), complete=False)

    assert await run(world, UPDATE) is None
    assert world.client.denials[0].code == "incomplete-analysis"


async def test_rights_nobody_gave_stay_missing():
    world = emergency_world(UPDATE)
    world.groups = frozenset({"nobody"})

    assert await run(world, UPDATE) is None
    assert world.client.denials[0].code == "access-denied"


@pytest.mark.parametrize("lifts_masks", [False, True])
async def test_masks_are_lifted_only_where_the_roster_says(lifts_masks):
    text = "select ssn from patients"
    world = emergency_world(text, lifts_masks=lifts_masks)
    world.analyst.answer = lambda asked: analysed(asked, column=SSN)

    permit = await run(world, text)

    (field,) = permit.plan_for([ResultColumn("value")]).fields
    assert (field.mask is None) is lifts_masks
    assert world.log.entries[0].body["masks"] == ("lifted" if lifts_masks else "kept")


def test_lifted_masks_keep_the_accounting_and_say_clear():
    shown = (ShownColumn("ssn", ("public.patients.ssn",), "redact"),)
    plan = MaskingPlan((FieldMask("ssn", technique="redact", mask=bytes),), SubjectPlan(("patient",), shown=shown))

    lifted = without_masks(plan)

    assert lifted.fields[0].mask is None
    assert lifted.subjects.about == ("patient",)
    assert [column.state for column in lifted.subjects.shown] == ["clear"]


async def test_access_that_is_over_holds_again():
    """The snapshot still names it, the database no longer gives it."""
    world = emergency_world(UPDATE)
    world.desk.emergencies = {}

    await run(world, UPDATE)

    assert len(world.desk.opened) == 1


async def test_claim_that_is_lost_before_it_runs_runs_nothing():
    world = emergency_world(UPDATE)
    world.desk.confirms = False

    assert await run(world, UPDATE) is None
    assert world.client.executed == []


async def test_statements_of_an_emergency_are_never_remembered():
    """The fast path spares the claim, so it must not know them."""
    text = "select city from patients"
    calm, alarmed = World(), emergency_world(text)
    for world in (calm, alarmed):
        world.analyst.remembers = True
        world.analyst.answer = analysed
        opened = session(world)
        for _ in range(2):
            await run_statement(world.services, opened, StatementRequest(text), world.client)
        world.again = authorise_known(world.services, opened, StatementRequest(text))

    assert calm.again is not None  # the control
    assert alarmed.again is None
    assert [entry.body.get("emergency") for entry in alarmed.log.entries if entry.kind == "statement.authorised"] == [
        "e1",
        "e1",
    ]


OWN = tokens.issuer_url
WHO = {"groups": frozenset({"ai-agents"})}


@pytest.mark.parametrize(
    ("principal", "emergency", "covered"),
    [
        ({"subject": "demo-agent", "owner": "admin"}, {}, True),
        ({"subject": "demo-agent", "owner": "somebody"}, {}, False),
        ({"subject": "other-agent", "owner": "admin"}, {}, False),
        ({"subject": "demo-agent", "owner": "admin", "issuer": "https://elsewhere"}, {}, False),
        ({"subject": "admin", "kind": "person", "actor": "demo-agent", "owner": "admin"}, {}, True),
        ({"subject": "admin", "kind": "person"}, {}, False),
        ({"subject": "admin", "kind": "person"}, {"agent": ""}, True),
        ({"subject": "admin", "kind": "person", "actor": "demo-agent"}, {"agent": ""}, False),
        ({"subject": "admin", "owner": "x"}, {"agent": ""}, False),  # an agent that carries the person's name
        ({"subject": "admin", "kind": "person", "issuer": "https://elsewhere"}, {"agent": ""}, False),
        ({"subject": "admin", "kind": "person"}, {"agent": "", "connection": "warehouse"}, False),
        ({"subject": "admin", "kind": "person"}, {"agent": "", "ends_at": 1.0}, False),
    ],
)
def test_whose_sessions_an_emergency_covers(principal, emergency, covered):
    world = World()
    world.rules.value = replace(snapshot(), emergencies=(in_force(**emergency),))
    opened = world.session
    opened.principal = Principal(**({"issuer": OWN()} | WHO | principal))

    assert (emergency_of(world.rules.value, opened, at=time.time()) is not None) is covered


@pytest.mark.parametrize("how", ["the row", "the rules"])
async def test_emergency_that_ends_while_its_record_is_waited_for_runs_nothing(how):
    world = emergency_world(UPDATE)

    def meanwhile() -> None:
        if how == "the row":
            world.desk.stood = False
        else:
            world.rules.value = replace(world.rules.value, version=2, policies=(DENIED,), emergencies=())

    world.log.meanwhile = meanwhile
    await run(world, UPDATE)

    assert world.client.executed == []
    assert [denial.code for denial in world.client.denials] == ["grant-used" if how == "the row" else "rules-changed"]
    assert world.log.entries[1].body["status"] == "skipped"
