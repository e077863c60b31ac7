"""What is about to be carried into a column without a rule is protected before it runs, or it does not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from analysis.statement import Analysis, ColumnRef, Flow, Operation, Origin, Transform
from gateway.domain.snapshot import StaleSnapshot
from gateway.session.assessment import assess
from gateway.session.context import StatementRequest
from gateway.session.pipeline import run_statement
from gateway.session.remembered import recall, remember
from gateway.session.services import InheritanceUnavailable
from masking.domain.field import ResultColumn
from masking.domain.inherit import Inherited, with_inherited
from masking.domain.rules import MaskingRule, Technique
from tests.gateway.session.doors import CITY, SSN, World, analysed, snapshot

COPY = ColumnRef("public", "copies", "x")
TEXT = "insert into copies select ssn from patients returning x"


def carrying(text: str) -> Analysis:
    written = analysed(text, column=COPY, operation=Operation.WRITE)
    return replace(written, flows=frozenset({Flow(1, 1, COPY, Origin(SSN, Transform.DERIVED))}))


@dataclass
class Kept:
    """The door; `entries` are those that stood in the log when it was asked."""

    world: World
    fails: bool = False
    calls: list[dict[str, tuple[Inherited, ...]]] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)

    async def keep(self, *, inherited: Mapping[str, Sequence[Inherited]], statement_id: str) -> None:
        self.calls.append({name: tuple(columns) for name, columns in inherited.items()})
        self.entries += self.world.log.kinds
        if self.fails:
            raise InheritanceUnavailable


async def run(world: World, kept: Kept | None) -> None:
    services = replace(world.services, inheritance=kept)
    await run_statement(services, world.session, StatementRequest(TEXT), world.client)


async def test_the_column_is_protected_first_and_its_result_masked_at_once() -> None:
    world = World()
    world.analyst.answer = carrying
    kept = Kept(world)

    await run(world, kept)

    (permit,) = world.client.executed
    assert (kept.calls, kept.entries) == ([{"clinic": (Inherited(COPY, "ssn"),)}], [])
    assert world.log.entries[0].body["inherited"] == [{"column": "public.copies.x", "class": "ssn"}]
    assert permit.plan_for([ResultColumn("x")]).techniques == (("x", "redact"),)


async def test_the_column_is_protected_over_other_connections_to_its_database() -> None:
    """Where it has a rule over the statement's own, too."""
    world = World()
    world.analyst.answer = lambda text: replace(
        carrying(text), flows=frozenset({Flow(1, 1, COPY, Origin(SSN, Transform.IDENTITY))})
    )
    clinic = world.rules.value.connections["clinic"]
    covered = MaskingRule("copy", ("clinic",), (str(COPY),), Technique.REDACT, data_class="ssn")
    world.rules.value = replace(
        world.rules.value,
        connections={
            "clinic": clinic,
            "reports": replace(clinic, name="reports"),
            "elsewhere": replace(clinic, name="elsewhere", host="db.example"),
        },
        masking_rules=(*world.rules.value.masking_rules, covered),
    )
    kept = Kept(world)

    await run(world, kept)

    assert (kept.calls, len(world.client.executed)) == ([{"reports": (Inherited(COPY, "ssn"),)}], 1)
    assert world.log.entries[0].body["inherited"] == [
        {"column": "public.copies.x", "class": "ssn", "connection": "reports"}
    ]


@pytest.mark.parametrize("there", [True, False])
async def test_what_cannot_be_protected_does_not_run(there: bool) -> None:
    world = World()
    world.analyst.answer = carrying

    await run(world, Kept(world, fails=True) if there else None)

    assert [denial.code for denial in world.client.denials] == ["inheritance-unavailable"]
    assert (world.client.executed, world.log.kinds) == ([], ["statement.denied"])


async def test_a_result_decided_before_is_asked_about_again() -> None:
    """Under the rules of the moment in which its first row comes."""
    world = World()
    world.analyst.answer = lambda text: analysed(text, column=CITY)
    await run(world, None)
    (permit,) = world.client.executed
    columns = [ResultColumn("value")]
    plan = permit.plan_for(columns)
    assert permit.still_masks is not None

    world.rules.value = snapshot(version=2)
    unrelated = permit.still_masks(columns, plan)
    rules = with_inherited(world.rules.value.masking_rules, "clinic", [Inherited(CITY, "ssn")])
    world.rules.value = replace(snapshot(version=3), masking_rules=rules)
    inherited = permit.still_masks(columns, plan)

    assert (unrelated, inherited) == (True, False)
    world.rules.stale = True
    with pytest.raises(StaleSnapshot):
        permit.still_masks(columns, plan)


async def test_what_is_protected_over_another_connection_alone_is_kept_before_each_run() -> None:
    """A native client's Bind assesses it, and its Execute would not ask again for what is remembered."""
    world = World()
    world.analyst.remembers = True
    world.analyst.answer = lambda text: replace(
        carrying(text), flows=frozenset({Flow(1, 1, COPY, Origin(CITY, Transform.IDENTITY))})
    )
    clinic = world.rules.value.connections["clinic"]
    covered = MaskingRule("city", ("reports",), (str(CITY),), Technique.REDACT, data_class="city")
    world.rules.value = replace(
        world.rules.value,
        connections={"clinic": clinic, "reports": replace(clinic, name="reports")},
        masking_rules=(*world.rules.value.masking_rules, covered),
    )
    session, request = world.session, StatementRequest(TEXT)

    assessment = await assess(world.services, session, request)
    remember(world.services, session, request, assessment)

    assert assessment.inherited_over == {"reports": (Inherited(COPY, "city"),)}
    assert recall(world.services, session, TEXT) is None
