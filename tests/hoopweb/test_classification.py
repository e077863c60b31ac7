"""The guided set-up's classification: what is proposed, what is left to a person, and what a choice becomes."""

from __future__ import annotations

import pytest

from hoopweb.console.classification import Column, chosen, masking_rules, others, proposals
from masking.models import MaskingRule

TABLES = [{"schema": "care", "name": "person", "column_names": ["ssn", "birth_date", "zip", "seen_at", "band", "ward"]}]


def proposed(profile: str = "") -> dict[str, str]:
    return {
        one.column.rsplit(".")[-1]: one.technique for one in proposals(connection="w", tables=TABLES, profile=profile)
    }


@pytest.mark.django_db
def test_names_are_proposed_with_masks_analysts_can_work_with() -> None:
    assert proposed() == {"ssn": "redact", "birth_date": "year", "zip": "zip3"}


@pytest.mark.django_db
def test_safe_harbor_also_proposes_moments() -> None:
    assert proposed("safe-harbor") == {"ssn": "redact", "birth_date": "year", "zip": "zip3", "seen_at": "year"}


@pytest.mark.django_db
def test_the_rest_is_offered_unless_a_rule_covers_it() -> None:
    MaskingRule.objects.create(name="band", connections=["w"], columns=["care.person.band"], technique="redact")
    found = proposals(connection="w", tables=TABLES)

    rest = others(connection="w", tables=TABLES, proposed=found)

    assert [one.column for one in rest] == ["care.person.seen_at", "care.person.ward"]


@pytest.mark.django_db
def test_a_choice_means_the_column_it_was_made_for_whatever_came_in_between() -> None:
    field = proposals(connection="w", tables=TABLES)[1].field
    grown = [{**TABLES[0], "column_names": ["address", *TABLES[0]["column_names"]]}]

    picked = chosen(proposals(connection="w", tables=grown), {field: "on", f"{field}-technique": "null"})

    assert [(one.column, technique) for one, technique in picked] == [("care.person.ssn", "null")]


@pytest.mark.django_db
def test_chosen_columns_become_a_rule_for_each_class_and_technique() -> None:
    columns = [
        (Column("f", f"care.person.{name}", cls, "redact"), "redact") for name, cls in (("a", "ssn"), ("b", "other"))
    ]

    rules = masking_rules("w", columns)

    assert [(rule["name"], rule["columns"]) for rule in rules] == [
        ("w-other-redact", ["care.person.b"]),
        ("w-ssn-redact", ["care.person.a"]),
    ]
