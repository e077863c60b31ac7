from __future__ import annotations

import pytest

from gateway.management.commands.discover import by_column, sample_of, uncovered
from masking.domain.discovery import propose
from masking.domain.tags import save_proposals
from masking.models import ColumnTag, MaskingRule
from tests.stack import Stack

TABLE = ("public", "visits")


def test_sample_quotes_names_and_bounds_rows() -> None:
    assert sample_of(("public", 'a"b'), ["Mixed", "c"], 10_000) == 'SELECT "Mixed", "c" FROM "public"."a""b" LIMIT 200'


def test_masked_columns_give_no_values() -> None:
    samples = by_column(TABLE, ["a", "b"], ([{"masked": True}, {"masked": False}], [["[REDACTED]", 7], ["x", None]]))

    assert samples == {"public.visits.a": [None, None], "public.visits.b": ["7", None]}


def test_values_the_detectors_read_still_tell_their_class() -> None:
    samples = by_column(TABLE, ["x"], ([{"masked": True, "rule": "scan"}], [["[SSN]"], ["[SSN]"], ["none"]]))

    assert [(found.column, found.data_class) for found in propose(samples)] == [("public.visits.x", "ssn")]


def test_table_without_a_sample_is_judged_by_names() -> None:
    proposals = propose(by_column(TABLE, ["ssn", "status"], None))

    assert [(found.column, found.data_class, found.evidence) for found in proposals] == [
        ("public.visits.ssn", "ssn", "column name")
    ]


@pytest.mark.django_db
def test_columns_with_a_rule_are_left_out() -> None:
    MaskingRule.objects.create(name="ssn", connections=["clinic"], columns=["public.visits.ssn"], technique="redact")

    assert uncovered([["public", "visits", "ssn"], ["public", "visits", "mrn"]], "clinic") == {TABLE: ["mrn"]}
    assert uncovered([["public", "visits", "ssn"]], "other") == {TABLE: ["ssn"]}


@pytest.mark.django_db
def test_proposals_are_kept_once_and_never_undo_a_confirmation() -> None:
    proposals = propose(by_column(TABLE, ["ssn"], None))

    assert save_proposals(connection="clinic", proposals=proposals) == 1
    ColumnTag.objects.update(source=ColumnTag.Source.CONFIRMED)
    assert save_proposals(connection="clinic", proposals=proposals) == 0
    assert ColumnTag.objects.get().source == ColumnTag.Source.CONFIRMED


@pytest.mark.e2e
def test_discovery_of_the_demo_reads_through_the_gateway_and_proposes_what_no_rule_covers(stack: Stack) -> None:
    found = stack.manage("discover", "clinic", "--agent", "demo-agent")

    assert found.returncode == 0, found.stderr
    columns = [line.split()[0] for line in found.stdout.splitlines()]
    assert "public.patients.ssn" not in columns
    assert all(column.startswith("public.") for column in columns)
