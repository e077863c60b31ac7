from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from masking.domain.load import load_masking_rules
from masking.domain.rules import Inference, MaskingRule, Technique
from masking.models import ColumnTag, DataClass
from masking.models import MaskingRule as MaskingRuleRow

pytestmark = pytest.mark.django_db


def make_rule(name: str = "ssn", **values: object) -> MaskingRuleRow:
    defaults = {"connections": ["clinic"], "columns": ["public.patients.ssn"], "technique": "redact"}
    return MaskingRuleRow.objects.create(name=name, **(defaults | values))


def test_load_returns_frozen_rules_by_priority() -> None:
    make_rule("late", priority=200)
    make_rule("early", priority=1, technique="partial", keep=2, exempt_groups=["privacy"], inference="strict")

    first, second = load_masking_rules()

    assert first == MaskingRule(
        name="early",
        connections=("clinic",),
        columns=("public.patients.ssn",),
        technique=Technique.PARTIAL,
        inference=Inference.STRICT,
        exempt_groups=frozenset({"privacy"}),
        keep=2,
        priority=1,
    )
    assert second.name == "late"


def test_confirmed_tags_extend_their_classs_rule_and_inherited_ones_have_their_own() -> None:
    ssn = DataClass.objects.get(name="ssn")
    make_rule(connections=["clin*"])
    for column, connection, source in (
        ("public.copy.s", "clinic", ColumnTag.Source.INHERITED),
        ("public.people.s", "clinic", ColumnTag.Source.CONFIRMED),
        ("public.maybe.s", "clinic", ColumnTag.Source.PROPOSED),
        ("public.people.s", "warehouse", ColumnTag.Source.CONFIRMED),
    ):
        ColumnTag.objects.create(connection=connection, column=column, data_class=ssn, source=source)

    inherited, rule, tagged = load_masking_rules()

    assert rule.columns == ("public.patients.ssn",)
    assert (tagged.name, tagged.connections, tagged.columns) == ("ssn", ("clinic",), ("public.people.s",))
    assert (inherited.name, inherited.connections, inherited.columns) == (
        "inherited-ssn",
        ("clinic",),
        ("public.copy.s",),
    )
    assert (inherited.technique, inherited.inference) == (Technique.REDACT, Inference.STRICT)


def test_loading_takes_three_queries(django_assert_num_queries) -> None:  # type: ignore[no-untyped-def]
    for number in range(5):
        make_rule(f"r{number}")

    with django_assert_num_queries(3):
        load_masking_rules()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"columns": ["ssn"]}, "columns"),
        ({"columns": ["a b.c.d"]}, "columns"),
        ({"columns": [], "data_class": ""}, "columns"),
        ({"connections": []}, "connections"),
        ({"technique": "rot13"}, "technique"),
        ({"inference": "maybe"}, "inference"),
        ({"keep": 17}, "keep"),
        ({"name": "Not A Label"}, "name"),
    ],
)
def test_validation_names_the_field(values: dict[str, object], field: str) -> None:
    base = {"name": "ssn", "connections": ["clinic"], "columns": ["*.ssn"], "technique": "redact"}
    row = MaskingRuleRow(**(base | values))

    with pytest.raises(ValidationError) as caught:
        row.full_clean()

    assert list(caught.value.message_dict) == [field]


def test_database_refuses_an_unknown_technique() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_rule(technique="rot13")
