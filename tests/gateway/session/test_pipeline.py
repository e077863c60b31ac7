"""The pipeline's promises: in order, fail closed, one permit for one execution."""

from __future__ import annotations

import ast
import asyncio
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from analysis.estimate import UNKNOWN, RowsExpected
from analysis.statement import Operation, TableRef
from approvals.domain.conditions import Hours
from approvals.domain.decide import Action, Condition, PolicyRule
from approvals.domain.request import ReviewerGroup
from gateway.session import expected
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.permit import ExecutionPermit, Outcome, PermitError
from gateway.session.pipeline import run_statement
from gateway.session.remembered import authorise_known
from masking.domain.field import ResultColumn
from tests.gateway.session.doors import SSN, Desk, ReviewRefused, UpstreamRejected, World, analysed, granted, snapshot

ROOT = Path(__file__).resolve().parents[3]

WRITES_NEED_APPROVAL = PolicyRule(
    name="writes",
    connections=("clinic",),
    action=Action.REQUIRE_APPROVAL,
    when=Condition(operation=frozenset({Operation.WRITE})),
    reviewers=(ReviewerGroup("privacy-officers"),),
)
UPDATE = "update patients set city = 'x' where id = 1"


def held_world() -> World:
    """A world in which writes are held."""
    world = World()
    world.rules.value = snapshot(policies=(WRITES_NEED_APPROVAL,))
    world.analyst.answer = lambda text: analysed(text, operation=Operation.WRITE)
    return world


async def run(world: World, text: str) -> ExecutionPermit | None:
    return await run_statement(world.services, world.session, StatementRequest(text), world.client)


async def test_statement_that_is_allowed_is_recorded_before_and_after():
    world = World()

    permit = await run(world, "select city from patients")

    assert permit is not None
    assert world.log.kinds == ["statement.authorised", "statement.completed"]
    assert world.log.entries[0].sensitive == {"statement": "select city from patients"}


async def test_statement_text_is_in_no_leaf():
    world = World()

    await run(world, "select city from patients where id = 4711")

    assert all("4711" not in repr(entry.body) for entry in world.log.entries)


async def test_log_that_fails_leaves_nothing_to_execute():
    world = World()
    world.log.broken = True

    permit = await run(world, "select city from patients")

    assert permit is None
    assert world.client.executed == []
    assert [denial.code for denial in world.client.denials] == ["record-unavailable"]


async def test_stale_rules_deny_everything():
    world = World()
    world.rules.stale = True

    await run(world, "select city from patients")

    assert [denial.code for denial in world.client.denials] == ["rules-unavailable"]
    assert world.log.kinds == ["statement.denied"]


async def test_analysis_that_crashes_is_a_denial_without_its_message():
    world = World()
    world.analyst.error = ValueError("near '123-45-6789'")

    await run(world, "select city from patients")

    assert [denial.code for denial in world.client.denials] == ["analysis-failed"]
    assert "123-45-6789" not in repr(world.client.denials)


async def test_statement_the_database_refuses_keeps_its_sqlstate():
    world = World()
    world.analyst.error = UpstreamRejected(sqlstate="42P01", message="relation does not exist", position=15)

    await run(world, "select * from nowhere")

    assert [(denial.sqlstate, denial.position) for denial in world.client.denials] == [("42P01", 15)]


async def test_principal_without_a_rule_is_denied():
    world = World(groups=frozenset({"strangers"}))

    await run(world, "select city from patients")

    assert [denial.code for denial in world.client.denials] == ["access-denied"]
    assert world.client.executed == []


async def test_held_statement_runs_once_approved():
    world = held_world()
    world.desk.decided = lambda desk, binding: desk.grants.update({binding.statement: granted(UPDATE)})

    permit = await run(world, UPDATE)

    assert permit is not None
    assert [review.review_id for review in world.client.pending] == ["r1"]
    assert world.client.resumed[0].approvers == ("reviewer",)
    assert world.log.kinds == ["statement.held", "statement.authorised", "statement.completed"]


async def test_held_statement_tells_its_reviewers_how_large_it_is():
    world = held_world()
    world.analyst.expected = RowsExpected(changed=4)
    world.desk.decided = lambda desk, binding: desk.grants.update({binding.statement: granted(UPDATE)})

    await run(world, UPDATE)

    assert world.desk.expected == RowsExpected(changed=4)


async def test_planner_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(expected, "WITHIN_S", 0.05)
    world = held_world()
    world.analyst.planned = asyncio.Event()  # never set
    world.desk.decided = lambda desk, binding: desk.grants.update({binding.statement: granted(UPDATE)})

    permit = await run(world, UPDATE)

    assert permit is not None
    assert world.desk.expected == UNKNOWN


async def test_held_statement_that_is_refused_does_not_run():
    world = held_world()
    world.desk.decided = ReviewRefused(code="review-denied", reason="a reviewer denied this statement")

    assert await run(world, UPDATE) is None

    assert world.client.executed == []
    assert world.log.kinds == ["statement.held", "statement.denied"]


async def test_approval_already_used_by_another_execution_does_not_run():
    world = held_world()
    world.desk.decided = lambda desk, binding: None  # approved, but the grant is gone

    await run(world, UPDATE)

    assert [denial.code for denial in world.client.denials] == ["grant-used"]
    assert world.client.executed == []


async def test_caller_who_does_not_wait_is_told_pending_and_nothing_runs():
    world = held_world()
    request = StatementRequest(UPDATE, wait_for_review=False)

    permit = await run_statement(world.services, world.session, request, world.client)

    assert permit is None
    assert len(world.client.pending) == 1
    assert world.client.executed == []


async def test_modified_statement_is_what_runs():
    world = held_world()
    modified = "update patients set city = 'y' where id = 1"
    world.desk.decided = lambda desk, binding: desk.grants.update(
        {binding.statement: granted(modified, modified_from=UPDATE)}
    )

    permit = await run(world, UPDATE)

    assert permit is not None
    assert permit.statement == modified
    assert world.client.resumed[0].modified_from == UPDATE


async def test_statement_that_may_not_wait_is_denied():
    world = held_world()
    world.desk.full = True

    await run(world, UPDATE)

    assert [denial.code for denial in world.client.denials] == ["too-many-pending"]
    assert world.log.kinds == ["statement.denied"]


async def test_modified_statement_a_portal_cannot_take_on_is_denied():
    world = held_world()
    world.client.takes_modified = False
    world.desk.grants[UPDATE] = granted("update patients set city = 'y' where id = 1", modified_from=UPDATE)

    await run(world, UPDATE)

    assert [denial.code for denial in world.client.denials] == ["modified-needs-resubmission"]


async def test_rules_that_change_during_a_hold_void_the_approval():
    world = held_world()

    def approve_and_change(desk: Desk, binding: object) -> None:
        desk.grants[UPDATE] = granted(UPDATE)
        world.rules.value = snapshot(policies=(WRITES_NEED_APPROVAL,), digest="d2", version=2)

    world.desk.decided = approve_and_change

    await run(world, UPDATE)

    assert [denial.code for denial in world.client.denials] == ["rules-changed"]
    assert world.client.executed == []


async def test_names_that_mean_something_else_after_a_hold_void_the_approval():
    world = held_world()

    def approve_and_rename(desk: Desk, binding: object) -> None:
        desk.grants[UPDATE] = granted(UPDATE)
        before, claims = world.analyst.answer, frozenset({TableRef("public", "claims")})
        world.analyst.answer = lambda text: replace(before(text), tables_written=claims)

    world.desk.decided = approve_and_rename

    await run(world, UPDATE)

    assert [denial.code for denial in world.client.denials] == ["meaning-changed"]
    assert world.client.executed == []


async def test_right_revoked_during_a_hold_denies():
    world = held_world()

    def approve_and_revoke(desk: Desk, binding: object) -> None:
        desk.grants[UPDATE] = granted(UPDATE)
        denied = PolicyRule(name="freeze", connections=("clinic",), action=Action.DENY)
        world.rules.value = snapshot(policies=(denied,), version=2)

    world.desk.decided = approve_and_revoke

    await run(world, UPDATE)

    assert world.client.denials[0].rule == "freeze"
    assert world.client.executed == []


async def test_modified_statement_needing_other_reviewers_is_denied():
    world = held_world()
    exports = PolicyRule(
        name="exports",
        connections=("clinic",),
        action=Action.REQUIRE_APPROVAL,
        when=Condition(columns=("public.patients.ssn",)),
        reviewers=(ReviewerGroup("security"),),
    )
    world.rules.value = snapshot(policies=(WRITES_NEED_APPROVAL, exports))
    modified = "update patients set ssn = null"
    world.analyst.answer = lambda text: analysed(
        text, operation=Operation.WRITE, **({"column": SSN} if text == modified else {})
    )
    world.desk.decided = lambda desk, binding: desk.grants.update(
        {binding.statement: granted(modified, modified_from=UPDATE)}
    )

    await run(world, UPDATE)

    (denial,) = world.client.denials
    assert denial.code == "other-reviewers-needed"
    assert denial.permitted_alternative.startswith("send the modified statement")


async def test_permit_builds_the_plan_that_masks_the_protected_column():
    world = World()
    world.analyst.answer = lambda text: analysed(text, column=SSN)

    permit = await run(world, "select ssn from patients limit 1")

    assert permit is not None
    field = permit.plan_for([ResultColumn("ssn")]).fields[0]
    assert field.rule == "ssn"
    assert field.mask is not None
    assert b"123-45-6789" not in (field.mask(b"123-45-6789") or b"")


async def test_permit_is_presented_once_and_completed_once():
    world = World()
    permit = await run(world, "select city from patients")

    assert permit is not None
    with pytest.raises(PermitError):
        permit.consume()
    with pytest.raises(PermitError):
        permit.complete(Outcome(status="completed"))


def test_permit_cannot_be_made_by_hand():
    with pytest.raises(PermitError):
        ExecutionPermit(None, None, None, None, 0, None, None)  # type: ignore[arg-type]


@cache
def _naming_nodes() -> dict[str, str]:
    """Whatever in each module of the product imports or names something, written out."""
    return {
        path.relative_to(ROOT).as_posix(): "\n".join(
            ast.dump(node)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom | ast.Attribute | ast.Name)
        )
        for room in ("gateway", "hoopweb", "approvals", "audit", "masking", "analysis")
        for path in (ROOT / room).rglob("*.py")
    }


@pytest.mark.parametrize(
    ("name", "callers"),
    [
        ("'mint_permit'", {"gateway/session/minting.py"}),
        ("'gateway.session.minting'", {"gateway/session/pipeline.py", "gateway/session/remembered.py"}),
    ],
)
def test_only_the_pipeline_mints(name: str, callers: set[str]) -> None:
    found = {module for module, written in _naming_nodes().items() if name in written}

    assert found == callers


def remembering(world: World) -> SessionContext:
    """One session of a world whose analyst remembers."""
    world.analyst.remembers = True
    return world.session


async def run_in(world: World, session: SessionContext, text: str) -> ExecutionPermit | None:
    return await run_statement(world.services, session, StatementRequest(text), world.client)


async def test_remembered_allow_is_recorded_every_time():
    world = World()
    session = remembering(world)
    text = "select city from patients"

    assert authorise_known(world.services, session, StatementRequest(text)) is None  # nobody has assessed it yet
    await run_in(world, session, text)
    permits = [authorise_known(world.services, session, StatementRequest(text)) for _ in range(3)]

    assert all(permits)
    assert world.log.kinds.count("statement.authorised") == 4
    first, *others = [entry for entry in world.log.entries if entry.kind == "statement.authorised"]
    assert all(dict(other.body) == dict(first.body) for other in others)
    assert len({entry.statement_id for entry in [first, *others]}) == 4


@pytest.mark.parametrize(("durability", "waits", "waited_for"), [
    ("os", False, 0),
    ("os", True, 1),  # the record cannot keep it at once
    ("disk", False, 1),
    ("database", False, 1),
])  # fmt: skip
async def test_first_time_is_recorded_as_every_later_one(durability: str, waits: bool, waited_for: int):
    world, times = World(), []
    spec = replace(world.rules.value.connections["clinic"], durability=durability)
    world.rules.value = replace(world.rules.value, connections={"clinic": spec})
    world.log.waits = waits
    world.log.meanwhile = lambda: times.append(1)
    session = remembering(world)

    permit = await run_in(world, session, "select city from patients")

    assert permit is not None
    assert len(times) == waited_for
    assert world.log.kinds == ["statement.authorised", "statement.completed"]
    first = world.log.entries[0]
    assert (first.statement_id, first.durability) == (permit.request.statement_id, durability)
    assert first.sensitive == {"statement": "select city from patients"}


async def test_first_time_is_refused_when_it_cannot_be_recorded():
    world = World()
    spec = replace(world.rules.value.connections["clinic"], durability="os")
    world.rules.value = replace(world.rules.value, connections={"clinic": spec})
    world.log.broken = True
    session = remembering(world)

    assert await run_in(world, session, "select city from patients") is None

    assert [denial.code for denial in world.client.denials] == ["record-unavailable"]
    assert world.client.executed == []
    assert world.log.entries == []


@pytest.mark.parametrize("change", ["rules", "analysis", "connection", "record", "waits", "stale"])
async def test_memory_does_not_outlive_what_it_rests_on(change):
    world = World()
    session = remembering(world)
    text = "select city from patients"
    await run_in(world, session, text)
    assert authorise_known(world.services, session, StatementRequest(text)) is not None

    match change:
        case "rules":
            world.rules.value = replace(world.rules.value, version=2)
        case "analysis":
            world.analyst.remembered[text] = replace(world.analyst.remembered[text])
        case "connection":
            world.rules.value = replace(world.rules.value, connections={})
        case "record":
            world.log.broken = True
        case "waits":
            world.log.waits = True
        case "stale":
            world.rules.stale = True

    assert authorise_known(world.services, session, StatementRequest(text)) is None


async def test_rules_that_ask_for_the_time_are_never_remembered():
    at_night = Condition(none_of=(Condition(hours=Hours(0, 24 * 60)),))
    world = World()
    world.rules.value = snapshot(policies=(PolicyRule("night", ("clinic",), Action.DENY, at_night),))
    session = remembering(world)
    text = "select city from patients"

    assert await run_in(world, session, text) is not None

    assert authorise_known(world.services, session, StatementRequest(text)) is None


async def test_held_statement_is_never_remembered():
    world = held_world()
    session = remembering(world)
    world.desk.decided = lambda desk, binding: desk.grants.update({binding.statement: granted(UPDATE)})

    await run_in(world, session, UPDATE)

    assert authorise_known(world.services, session, StatementRequest(UPDATE)) is None


def allowed_world() -> World:
    """A world in which the write is approved already."""
    world = held_world()
    world.desk.grants[UPDATE] = granted(UPDATE)
    return world


async def test_approved_statement_is_decided_again_once_it_is_recorded():
    """The control: nothing happened while its record was waited for."""
    world = allowed_world()

    await run(world, UPDATE)

    assert [permit.statement for permit in world.client.executed] == [UPDATE]


@pytest.mark.parametrize("what", ["revoked", "nobody can say", "frozen", "stale", "rules"])
async def test_what_ends_an_approval_while_its_record_is_waited_for_ends_the_statement(what):
    world = allowed_world()
    freeze = PolicyRule(name="freeze", connections=("clinic",), action=Action.DENY)
    stricter = replace(WRITES_NEED_APPROVAL, reviewers=(ReviewerGroup("security"),))

    def meanwhile() -> None:
        match what:
            case "revoked":
                world.desk.stood = False
            case "nobody can say":
                world.desk.lost = True
            case "frozen":
                world.rules.value = snapshot(policies=(freeze,), version=2)
            case "stale":
                world.rules.stale = True
            case "rules":
                world.rules.value = snapshot(policies=(stricter,), version=2)

    world.log.meanwhile = meanwhile
    await run(world, UPDATE)

    assert world.client.executed == []
    code = {"revoked": "grant-used", "nobody can say": "grant-used", "stale": "rules-unavailable"}.get(
        what, "rules-changed"
    )
    assert [denial.code for denial in world.client.denials] == [code]
    assert world.log.kinds == ["statement.authorised", "statement.completed", "statement.denied"]
    assert world.log.entries[1].body["status"] == "skipped"
    assert len(world.desk.spent) == 1  # exactly once, whatever comes of it
    assert world.desk.released == []
    assert world.desk.counted == [("g1", 0)]


async def test_other_rules_that_decide_alike_leave_an_approval_alone():
    world = allowed_world()
    world.log.meanwhile = lambda: setattr(
        world.rules, "value", snapshot(policies=(WRITES_NEED_APPROVAL,), digest="d1", version=2)
    )

    await run(world, UPDATE)

    assert [permit.statement for permit in world.client.executed] == [UPDATE]
