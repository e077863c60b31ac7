"""A recurring statement holds no longer than assessing it anew would allow, and records what the long way records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.domain.chain import encode_sensitive
from gateway.domain.quotas import QuotaRule
from gateway.session import entries
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.permit import Outcome
from gateway.session.pipeline import run_statement
from gateway.session.quotas import FREE
from gateway.session.recurring import Occurrence, Recurring, View
from gateway.session.remembered import authorise_known, recall, recurring
from gateway.session.services import Services
from masking.domain.field import FieldMask, MaskingPlan
from tests.gateway.session.doors import World

TEXT = "select city from patients"


async def known_in(world: World, *, recording: str = "metadata") -> tuple[Services, SessionContext, Recurring]:
    """A session in which the statement was allowed once, and is met again."""
    rules = world.rules.value
    spec = replace(rules.connections["clinic"], recording=recording)
    world.rules.value = replace(rules, connections={"clinic": spec})
    world.analyst.remembers = True
    services, session = world.services, world.session
    request = StatementRequest(TEXT)
    await run_statement(services, session, request, world.client)
    known = recall(services, session, TEXT)
    assert known is not None
    found = recurring(services, session, request, known)
    assert found is not None
    assert recurring(services, session, request, known) is found
    return services, session, found


def occurring(found: Recurring, **bound: tuple[bytes | None, ...]) -> Occurrence:
    occurrence = found.occurs(parameters=bound.get("parameters", ()))
    assert occurrence is not None
    assert occurrence.record()
    return occurrence


VIEW = View(
    ("city", "ssn"), MaskingPlan((FieldMask("city"), FieldMask("ssn", "ssn", "redact", lambda value: b"*", False)))
)


@pytest.mark.parametrize("change", ["rules", "analysis", "connection", "disabled", "stale", "age"])
async def test_it_does_not_outlive_what_it_rests_on(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    _, _, found = await known_in(world)
    assert found.holds()

    rules = world.rules.value
    match change:
        case "rules":
            world.rules.value = replace(rules, version=2)
        case "analysis":
            world.analyst.remembered[TEXT] = replace(world.analyst.remembered[TEXT])
        case "connection":
            world.rules.value = replace(rules, connections={})
        case "disabled":
            world.rules.value = replace(
                rules, connections={"clinic": replace(rules.connections["clinic"], enabled=False)}
            )
        case "stale":
            world.rules.stale = True
        case "age":
            found.known.until = 0.0

    assert not found.holds()


async def test_rules_that_were_only_looked_at_again_change_nothing() -> None:
    world = World()
    _, _, found = await known_in(world)

    world.rules.value = replace(world.rules.value, loaded_at=world.rules.value.loaded_at + 1)

    assert found.holds()


async def test_its_entries_are_those_of_the_ordinary_way() -> None:
    world = World()
    services, session, found = await known_in(world)
    permit = authorise_known(services, session, StatementRequest(TEXT))
    assert permit is not None
    masked = VIEW.counts([0, 3])
    permit.complete(Outcome("completed", rows=3, bytes=99, masked=masked, command_tag="SELECT 3"))

    occurrence = occurring(found)
    occurrence.complete(VIEW, rows=3, size=99, tag="SELECT 3", counts=[0, 3])

    *_, first, first_end, second, second_end = world.log.entries
    for ordinary, again in ((first, second), (first_end, second_end)):
        assert (again.kind, dict(again.body), again.sensitive, again.durability) == (
            ordinary.kind, dict(ordinary.body), ordinary.sensitive, ordinary.durability
        )  # fmt: skip
    assert second.statement_id == second_end.statement_id == occurrence.statement_id != first.statement_id


async def test_it_is_counted_as_the_ordinary_way_counts() -> None:
    world = World()
    services, session, found = await known_in(world)

    def counted() -> dict[str, dict[object, int]]:
        meter = services.meter
        meter.settle()
        return {name: dict(getattr(meter, name)) for name in ("statements", "rows", "bytes", "masked")} | {
            "remembered": {"": meter.remembered}
        }

    before = counted()
    permit = authorise_known(services, session, StatementRequest(TEXT))
    assert permit is not None
    permit.complete(Outcome("completed", rows=3, bytes=99, masked=VIEW.counts([0, 3]), command_tag="SELECT 3"))
    between = counted()
    occurring(found).complete(VIEW, rows=3, size=99, tag="SELECT 3", counts=[0, 3])

    assert _grown(between, counted()) == _grown(before, between)


def _grown(before: dict[str, dict[object, int]], after: dict[str, dict[object, int]]) -> dict[str, dict[object, int]]:
    return {
        name: {key: count - before[name].get(key, 0) for key, count in counts.items() if count != before[name].get(key)}
        for name, counts in after.items()
    }


@given(
    parameters=st.lists(st.none() | st.binary(max_size=12), max_size=4).map(tuple),
    formats=st.lists(st.integers(0, 1), max_size=4).map(tuple),
    types=st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple),
    text=st.text(max_size=30),
)
def test_sealed_text_is_spelled_as_for_every_entry(parameters, formats, types, text):
    found = Recurring.__new__(Recurring)
    found.text, found.types, found._tails = text, types, {}
    found._whole = encode_sensitive({"statement": text})
    found._head = found._whole[:-1] + b',"parameters":['
    again = Occurrence(found, parameters, formats, "", FREE)

    for _ in range(2):  # the second time from memory
        assert found.spelled(again) == encode_sensitive(entries._sensitive(again.request()))
    other = Occurrence(found, (), (), f"{text} 2", FREE)
    assert found.spelled(other) == encode_sensitive({"statement": f"{text} 2"})


async def test_nothing_occurs_without_a_record() -> None:
    world = World()
    _, _, found = await known_in(world)
    world.log.broken = True

    occurrence = found.occurs()

    assert occurrence is not None
    assert not occurrence.record()


@pytest.mark.parametrize("recording", ["", "hmac-sha256:ab"])
async def test_end_of_a_recorded_result_is_spelled_as_the_permits(recording: str) -> None:
    world = World()
    _, _, found = await known_in(world, recording="masked-results")
    occurrence, ordinary = occurring(found), occurring(found)
    assert occurrence.ends_plainly

    occurrence.complete(VIEW, rows=3, size=99, tag="SELECT 3", counts=[0, 3], recording=recording)
    permit = ordinary.permit()
    permit.consume()
    masked = VIEW.counts([0, 3])
    permit.complete(Outcome("completed", rows=3, bytes=99, masked=masked, recording=recording, command_tag="SELECT 3"))

    plain, spelled = world.log.entries[-2:]
    assert plain.body == spelled.body
    assert plain.body["recording"] == recording


async def test_what_was_made_an_ordinary_permit_ends_by_it() -> None:
    world = World()
    _, _, found = await known_in(world)
    occurrence = occurring(found)
    assert occurrence.ends_plainly

    permit = occurrence.permit()

    assert not occurrence.ends_plainly
    assert permit.request == occurrence.request()
    permit.consume()
    permit.complete(Outcome("failed", error="22012"))
    assert world.log.entries[-1].body["status"] == "failed"
    assert world.log.entries[-1].statement_id == occurrence.statement_id


async def test_somebody_who_traces_has_it_end_by_an_ordinary_permit() -> None:
    world = World()
    services, _, found = await known_in(world)
    services.meter.trace = lambda *_: None

    assert not occurring(found).ends_plainly


async def test_a_quota_that_cannot_be_counted_sends_it_the_ordinary_way() -> None:
    world = World()
    rule = QuotaRule("few", ("demo-agent",), ("clinic",), statements_per_minute=10)
    world.rules.value = replace(world.rules.value, quotas=(rule,))
    world.analyst.remembers = True
    services, session = world.services, world.session
    # Nobody counts here, so nothing was ever let in: it is remembered by hand.
    plain = replace(world.rules.value, quotas=())
    world.rules.value, limited = plain, world.rules.value
    await run_statement(services, session, StatementRequest(TEXT), world.client)
    known = recall(services, session, TEXT)
    assert known is not None
    known.assessment = replace(known.assessment, snapshot=limited)
    world.rules.value = limited
    found = recurring(services, session, StatementRequest(TEXT), known)

    assert found is not None
    assert found.occurs() is None
