"""Free text in disguise: what is derived from a note is not shown, and a note is not searched unseen."""

from __future__ import annotations

import base64

import pytest

from analysis.statement import Analysis, ColumnRef, Origin, Output, Predicate, PredicateUse, Statement, Transform
from analysis.touch import ProtectedTouch
from masking.detectors.column_names import FREE_TEXT
from masking.domain.field import FieldMask, ResultColumn
from masking.domain.free_text import free_text_rule, with_free_text
from masking.domain.plan import build_plan, touch
from masking.domain.rules import Inference, MaskingRule, Technique

NOTE = ColumnRef("public", "clinical_notes", "note")
TEXT = "Maria called, SSN 541-82-6637."
IMPLICIT = with_free_text((), ["clinic"])
EXPLICIT = (MaskingRule("notes", ("clinic",), ("public.clinical_notes.note",), Technique.SCAN),)
DISGUISES = {
    "reverse(note)": TEXT[::-1],
    "encode(note::bytea, 'base64')": base64.b64encode(TEXT.encode()).decode(),
    "encode(note::bytea, 'hex')": TEXT.encode().hex(),
    r"regexp_replace(note, '(.)', '\1_', 'g')": "".join(f"{char}_" for char in TEXT),
    "substr(note, 19, 5)": TEXT[18:23],
    "translate(note, '0123456789', 'abcdefghij')": TEXT.translate(str.maketrans("0123456789", "abcdefghij")),
}


def field(
    origin: Origin, *, rules: tuple[MaskingRule, ...], type_oid: int = 25, groups: frozenset[str] = frozenset()
) -> FieldMask:
    analysis = Analysis(Statement("…"), "SELECT", "f", complete=True, outputs=(Output("c", (origin,)),))
    plan = build_plan(
        analysis=analysis,
        columns=[ResultColumn("c", type_oid)],
        rules=rules,
        connection="clinic",
        groups=groups,
        phi=True,
        scan_text=True,
    )
    return plan.fields[0]


def shown(value: str, origin: Origin, *, rules: tuple[MaskingRule, ...]) -> str:
    mask = field(origin, rules=rules).mask
    masked = value.encode() if mask is None else mask(value.encode())
    return "" if masked is None else masked.decode()


def touched(use: PredicateUse, *, rules: tuple[MaskingRule, ...]) -> ProtectedTouch:
    analysis = Analysis(
        Statement("…"), "SELECT", "f", complete=True, outputs=(), predicates=frozenset({Predicate(NOTE, use)})
    )
    return touch(analysis=analysis, rules=rules, connection="clinic", groups=frozenset())


@pytest.mark.parametrize("disguise", DISGUISES)
def test_disguised_note_passes_the_detectors_without_a_rule(disguise: str) -> None:
    """The control: what the rule is for."""
    value = DISGUISES[disguise]

    assert shown(value, Origin(ColumnRef("public", "x", "status"), Transform.DERIVED), rules=()) == value


@pytest.mark.parametrize("rules", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_what_is_derived_from_free_text_is_masked_whole(disguise: str, rules: tuple[MaskingRule, ...]) -> None:
    assert shown(DISGUISES[disguise], Origin(NOTE, Transform.DERIVED), rules=rules) == "[REDACTED]"


@pytest.mark.parametrize("rules", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
def test_the_note_itself_is_scanned(rules: tuple[MaskingRule, ...]) -> None:
    assert shown("Maria called, SSN 541-82-6637.", Origin(NOTE, Transform.IDENTITY), rules=rules) == (
        "[NAME] called, SSN [SSN]."
    )


def test_record_names_the_rule_that_scanned() -> None:
    note = Origin(NOTE, Transform.IDENTITY)

    assert [field(note, rules=rules).rule for rules in (IMPLICIT, EXPLICIT)] == ["free-text", "notes"]
    assert {field(note, rules=rules).technique for rules in (IMPLICIT, EXPLICIT)} == {"scan"}


@pytest.mark.parametrize("type_oid", [20, 23, 17, 1009, 2278])
def test_derived_values_of_other_types_are_null(type_oid: int) -> None:
    mask = field(Origin(NOTE, Transform.DERIVED), rules=IMPLICIT, type_oid=type_oid).mask

    assert mask is not None
    assert mask(b"5") is None


def test_count_of_notes_passes() -> None:
    assert field(Origin(NOTE, Transform.SAFE), rules=IMPLICIT, type_oid=20).mask is None


def test_number_in_a_column_that_sounds_like_free_text_passes() -> None:
    column = ColumnRef("public", "invoices", "notes")

    assert field(Origin(column, Transform.IDENTITY), rules=IMPLICIT, type_oid=23).mask is None


def test_union_of_two_note_columns_is_scanned() -> None:
    analysis = Analysis(
        Statement("…"),
        "SELECT",
        "f",
        complete=True,
        outputs=(
            Output(
                "n",
                (
                    Origin(NOTE, Transform.IDENTITY),
                    Origin(ColumnRef("public", "calls", "comment"), Transform.IDENTITY),
                ),
            ),
        ),
    )

    plan = build_plan(
        analysis=analysis,
        columns=[ResultColumn("n")],
        rules=IMPLICIT,
        connection="clinic",
        groups=frozenset(),
        phi=True,
        scan_text=True,
    )

    assert plan.fields[0].technique == "scan"


@pytest.mark.parametrize("rules", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
def test_searching_notes_is_held(rules: tuple[MaskingRule, ...]) -> None:
    assert touched(PredicateUse.COMPARISON, rules=()).inference_violations == ()
    assert len(touched(PredicateUse.COMPARISON, rules=rules).inference_violations) == 1
    assert len(touched(PredicateUse.COMPUTED, rules=rules).inference_violations) == 1
    assert touched(PredicateUse.NULL_TEST, rules=rules).inference_violations == ()


def test_searching_notes_is_open_to_a_rule_that_says_so() -> None:
    rules = with_free_text(
        (MaskingRule("notes", ("clinic",), ("*.note",), Technique.SCAN, inference=Inference.OPEN),), ["clinic"]
    )

    assert touched(PredicateUse.COMPARISON, rules=rules).inference_violations == ()


def test_rule_of_a_person_wins_over_the_implicit_one() -> None:
    rules = with_free_text((MaskingRule("gone", ("*",), ("*.note",), Technique.NULL, priority=9_999_999),), ["clinic"])

    assert field(Origin(NOTE, Transform.IDENTITY), rules=rules).rule == "gone"


def test_implicit_rule_holds_for_its_connection_alone() -> None:
    rule = free_text_rule("ware[house]*")

    assert rule.connections == ("ware[[]house][*]",)
    assert touched(PredicateUse.COMPARISON, rules=with_free_text((), ["other"])).inference_violations == ()


@pytest.mark.parametrize(
    "column",
    [
        "public.clinical_notes.note",
        "public.encounters.discharge_summary",
        "public.encounters.dischargesummary",
        "public.encounters.progressnotes",
        "public.messages.body",
        "public.messages.message_text",
        "public.visits.chief_complaint",
        "public.visits.comments2",
        "public.radiology.impression",
        "public.radiology.report_text",
        "public.radiology.findings_html",
        "public.visits.clinical_history",
        "public.visits.hpi",
        "public.a.free_text",
        "public.a.patient_instructions",
        "public.call.transcript",
        "ds.t.visit.note.text",
    ],
)
def test_column_name_says_free_text(column: str) -> None:
    assert FREE_TEXT.match(column)


@pytest.mark.parametrize(
    "column",
    [
        "public.claims.payer",
        "public.notes.id",
        "public.notes.note_id",
        "public.notes.note_count",
        "public.t.context",
        "public.t.status",
        "public.diagnoses.description",
        "public.t.somebody",
        "public.t.test_name",
        "public.t.reported_on",
        "public.t.contents_hash",
        "pg_catalog.pg_description.comment",
        "information_schema.t.notes",
    ],
)
def test_column_name_does_not_say_free_text(column: str) -> None:
    assert FREE_TEXT.match(column) is None
