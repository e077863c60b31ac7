"""Which results name their subjects, and which are counted as gaps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.statement import (
    Analysis,
    ColumnRef,
    Operation,
    Origin,
    Output,
    Predicate,
    PredicateUse,
    Statement,
    TableRef,
    Transform,
)
from gateway.protocols.bigquery.values import values_at
from masking.domain.field import FieldMask, ResultColumn, SubjectPlan
from masking.domain.subjects import SubjectColumns, kinds_touched, number_reader, subject_plan
from masking.engines.types import target_for

ID = ColumnRef("public", "patients", "id")
NAME = ColumnRef("public", "patients", "last_name")
VISITOR = ColumnRef("public", "encounters", "patient_id")
PROVIDER = ColumnRef("public", "providers", "id")
DECLARED = (SubjectColumns("patient", ("public.patients.id", "public.encounters.patient_id")),)


def statement(*outputs: Output, tables: tuple[str, ...] = ("patients",), **facts: object) -> Analysis:
    analysis = Analysis(
        statement=Statement("select"),
        kind="SELECT",
        fingerprint="f",
        complete=True,
        operations=frozenset({Operation.READ}),
        tables_read=frozenset(TableRef("public", table) for table in tables),
        outputs=outputs,
    )
    return replace(analysis, **facts)  # type: ignore[arg-type]


def column(*origins: ColumnRef, how: Transform = Transform.IDENTITY) -> Output:
    return Output("x", tuple(Origin(origin, how) for origin in origins))


def plan(analysis: Analysis, *, oid: int = 23, format: int = 0) -> SubjectPlan | None:
    columns = [ResultColumn("x", type_oid=oid, format=format) for _ in analysis.outputs or ()]
    fields = [FieldMask("x") for _ in columns]
    return subject_plan(analysis=analysis, columns=columns, fields=fields, declared=DECLARED)


def why(analysis: Analysis, **shape: int) -> str:
    found = plan(analysis, **shape)
    assert found is not None
    return dict(found.unknown).get("patient", "")


def test_a_result_that_carries_the_number_names_its_subjects():
    found = plan(statement(column(NAME), column(ID)))

    assert found is not None
    assert (found.about, [w.index for w in found.watched], found.unknown) == (("patient",), [1], ())


def test_a_result_about_nobody_is_left_alone():
    assert plan(statement(column(PROVIDER), tables=("providers",))) is None


def test_what_shows_nothing_is_about_nobody():
    assert kinds_touched(analysis=statement(outputs=None), declared=DECLARED) == ()


@pytest.mark.parametrize(
    ("analysis", "reason"),
    [
        (statement(column(NAME)), "no-key"),
        (statement(column(ID, how=Transform.DERIVED)), "no-key"),
        (statement(column(ID, how=Transform.SAFE)), "no-key"),
        (statement(column(ID, PROVIDER), tables=("patients", "providers")), "no-key"),
        (statement(replace(column(ID), resolved=False)), "no-key"),
        (statement(column(ID), tables=("patients", "encounters")), "no-key"),
        (statement(column(ID), complete=False), "incomplete"),
        (
            statement(outputs=None, tables_written=frozenset({TableRef("public", "patients")})),
            "write",
        ),
    ],
    ids=["left out", "computed", "counted", "mixed", "unresolved", "cross join", "incomplete", "written"],
)
def test_what_does_not_name_them_is_a_gap(analysis: Analysis, reason: str):
    assert why(analysis) == reason


def test_a_join_on_the_number_names_both_tables_subjects():
    joined = Predicate(ID, PredicateUse.JOIN_EQUALITY, (VISITOR,))

    assert why(statement(column(VISITOR), tables=("patients", "encounters"), predicates=frozenset({joined}))) == ""


def test_a_join_on_something_else_does_not():
    joined = Predicate(NAME, PredicateUse.JOIN_EQUALITY, (VISITOR,))

    assert (
        why(statement(column(VISITOR), tables=("patients", "encounters"), predicates=frozenset({joined}))) == "no-key"
    )


def test_a_union_of_declared_columns_names_them():
    assert why(statement(column(ID, VISITOR), tables=("patients", "encounters"))) == ""


def test_names_are_told_apart_by_the_database_not_by_case():
    declared = (SubjectColumns("patient", ("public.patients.id",)),)
    shouted = statement(column(ColumnRef("public", "Patients", "ID")), tables=("Patients",))

    assert kinds_touched(analysis=shouted, declared=declared) == ("patient",)


@pytest.mark.parametrize(
    ("oid", "binary", "value", "number"),
    [
        (23, False, b"4711", "4711"),
        (23, True, (4711).to_bytes(4, "big"), "4711"),
        (20, True, (-4711).to_bytes(8, "big", signed=True), "-4711"),
        (21, True, (7).to_bytes(2, "big"), "7"),
        (25, True, b" MRN-7 ", "MRN-7"),
        (1042, False, b"MRN-7    ", "MRN-7"),
        (2950, True, bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (2950, False, b"00010203-0405-0607-0809-0a0b0c0d0e0f", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (25, False, b"\xff", None),
        (25, False, b"  ", None),
        (2950, True, b"short", None),
    ],
)
def test_a_number_reads_the_same_in_every_encoding(oid: int, binary: bool, value: bytes, number: str | None):
    read = number_reader(target_for(type_oid=oid, binary=binary))

    assert read is not None
    assert read(value) == number


def test_a_binary_type_that_is_not_read_is_a_gap():
    assert why(statement(column(ID)), oid=1700, format=1) == "type"
    assert why(statement(column(ID)), oid=1700) == ""


# --- records (BigQuery) ----------------------------------------------------------------------------------------------

PATH = ColumnRef("public", "patients", "identity.mrn")
NESTED = (SubjectColumns("patient", ("public.patients.identity.mrn",)),)


def record(*inner: Output, name: str = "identity") -> Output:
    return Output(name, tuple(origin for part in inner for origin in part.origins), fields=inner)


def leaf(name: str, *origins: ColumnRef) -> Output:
    return Output(name, tuple(Origin(origin, Transform.IDENTITY) for origin in origins))


def nested(output: Output, shape: ResultColumn, mask: FieldMask) -> SubjectPlan:
    found = subject_plan(analysis=statement(output), columns=[shape], fields=[mask], declared=NESTED)
    assert found is not None
    return found


SHAPE = ResultColumn("identity", type_name="RECORD", fields=(ResultColumn("name"), ResultColumn("mrn")))
MASK = FieldMask("identity", fields=(FieldMask("name", technique="redact", mask=lambda value: b"x"), FieldMask("mrn")))


def test_a_number_in_a_record_is_watched_where_it_is():
    found = nested(record(leaf("name", NAME), leaf("mrn", PATH)), SHAPE, MASK)

    (watched,) = found.watched
    assert (watched.index, watched.path, found.unknown) == (0, (1,), ())
    assert [(column.column, column.of, column.state) for column in found.shown] == [
        ("identity.name", ("public.patients.last_name",), "redact"),
        ("identity.mrn", ("public.patients.identity.mrn",), "clear"),
    ]


@pytest.mark.parametrize(
    "output",
    [
        Output("identity", (Origin(NAME, Transform.IDENTITY), Origin(PATH, Transform.IDENTITY))),  # parts not known
        record(leaf("mrn", PATH), leaf("name", NAME)),  # in another order than the service describes them
        record(leaf("name", NAME), Output("mrn", (Origin(PATH, Transform.DERIVED),))),
    ],
)
def test_a_record_whose_parts_are_not_those_described_is_a_gap(output: Output):
    found = nested(output, SHAPE, MASK)

    assert (found.watched, dict(found.unknown)) == ((), {"patient": "no-key"})


def test_values_are_found_along_records_and_arrays():
    cell = [{"v": {"f": [{"v": "a"}, {"v": number}]}} for number in ("7", None, "8")]

    assert list(values_at(cell, (1,))) == [b"7", b"8", None]
    assert list(values_at({"f": [{"v": [{"v": "7"}, {"v": "9"}]}]}, (0,))) == [b"7", b"9"]
    assert [list(values_at(empty, (1,))) for empty in (None, [])] == [[None], [None]]
