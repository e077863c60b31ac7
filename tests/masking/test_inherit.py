"""Which columns inherit, and which writes tell more than a rule lets pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.statement import ColumnRef, Flow, Origin, Transform
from masking.domain.inherit import Inherited, inherited_by, spilled, with_inherited
from masking.domain.plan import touch
from masking.domain.rules import Inference, MaskingRule, Technique, rules_for
from masking.domain.tags import save_inherited
from masking.models import ColumnTag, DataClass
from tests.gateway.session.doors import analysed

SSN, ZIP, OPEN, FURTHER = (
    ColumnRef("public", table, column)
    for table, column in (("patients", "ssn"), ("patients", "zip"), ("copies", "x"), ("copies", "y"))
)


def rule(name: str, column: ColumnRef, technique: Technique, **more: object) -> MaskingRule:
    return MaskingRule(name, ("clinic",), (str(column),), technique, **more)  # type: ignore[arg-type]


RULES = (rule("ssn", SSN, Technique.REDACT), rule("zip", ZIP, Technique.ZIP3))


def flow(target: ColumnRef, source: ColumnRef, transform: Transform = Transform.DERIVED) -> Flow:
    return Flow(1, 1, target, Origin(source, transform))


def test_a_column_without_a_rule_inherits_and_passes_it_on() -> None:
    flows = [flow(FURTHER, OPEN), flow(OPEN, SSN)]

    assert inherited_by(flows, rules=RULES, connection="clinic") == (Inherited(OPEN, "ssn"), Inherited(FURTHER, "ssn"))
    assert inherited_by(flows, rules=RULES, connection="elsewhere") == ()


def test_a_column_inherits_over_another_connection_by_that_ones_rules() -> None:
    """What is written over one is read over the other, which may have the target's rule or not, and others' sources."""
    masked = MaskingRule("copy", ("clinic",), (str(OPEN),), Technique.REDACT)
    zipped = MaskingRule("there", ("reports",), (str(FURTHER),), Technique.HASH)
    flows = [flow(OPEN, SSN), flow(ZIP, FURTHER)]
    rules = (*RULES, masked, zipped)

    assert inherited_by(flows, rules=rules, connection="clinic") == ()
    assert inherited_by(flows, rules=rules, connection="clinic", over="reports") == (
        Inherited(OPEN, "ssn"),
        Inherited(ZIP, "there"),
    )


def test_rule_of_another_connection_that_shows_more_is_told() -> None:
    reports = MaskingRule("shown", ("reports",), (str(OPEN),), Technique.PARTIAL)
    rules = (*RULES, MaskingRule("copy", ("clinic",), (str(OPEN),), Technique.REDACT), reports)
    written = replace(analysed("insert"), flows=frozenset({flow(OPEN, SSN, Transform.IDENTITY)}))

    alone, beside = (
        touch(analysis=written, rules=rules, connection="clinic", groups=frozenset(), beside=others)
        for others in ((), ("reports",))
    )

    assert alone.inference_violations == ()
    assert beside.inference_violations == ("ssn: carried into a column that shows more of it (rule shown, partial)",)


@pytest.mark.parametrize(
    "harmless",
    [
        flow(OPEN, SSN, Transform.SAFE),
        flow(OPEN, ColumnRef("public", "patients", "state")),
        flow(ColumnRef("pg_temp_3", "loot", "x"), SSN),
        flow(ZIP, SSN),
    ],
    ids=["count", "unprotected", "temporary", "has-a-rule"],
)
def test_others_do_not(harmless: Flow) -> None:
    assert inherited_by([harmless], rules=RULES, connection="clinic") == ()


def test_inherited_columns_come_first_and_show_nothing() -> None:
    rules = with_inherited(RULES, "clinic", [Inherited(ZIP, "ssn")])

    found = rules_for(rules, "clinic").rule_for(ZIP)

    assert found is not None
    assert (found.technique, found.inference, found.inherited) == (Technique.REDACT, Inference.STRICT, True)
    assert rules_for(rules, "clinic[1]").rule_for(ZIP) is None


@pytest.mark.parametrize(
    ("written", "tells"),
    [
        (flow(ZIP, SSN), True),
        (flow(ZIP, ZIP), True),
        (flow(ZIP, ZIP, Transform.IDENTITY), False),
        (flow(SSN, ZIP), True),
        (flow(SSN, ZIP, Transform.IDENTITY), False),
        (flow(ZIP, SSN, Transform.SAFE), False),
    ],
    ids=["other-class", "turned", "itself", "computed-into-redacted", "into-redacted", "count"],
)
def test_a_rule_that_shows_more_is_told_of(written: Flow, tells: bool) -> None:
    assert bool(spilled([written], rules_for(RULES, "clinic"), frozenset())) is tells


@pytest.mark.django_db
def test_tags_are_kept_once_and_what_was_dismissed_comes_back() -> None:
    taken = [Inherited(OPEN, "ssn")]
    ssn = DataClass.objects.get(name="ssn")
    ColumnTag.objects.create(
        connection="clinic", column=str(OPEN), data_class=ssn, source=ColumnTag.Source.DISMISSED, evidence=""
    )

    first = save_inherited(connection="clinic", inherited=taken, evidence="statement 1")
    again = save_inherited(connection="clinic", inherited=taken, evidence="statement 2")

    tag = ColumnTag.objects.get(connection="clinic", column=str(OPEN))
    assert (first, again, tag.source, tag.evidence) == (1, 0, ColumnTag.Source.INHERITED, "statement 1")
