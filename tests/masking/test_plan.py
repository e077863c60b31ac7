from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.statement import (
    Analysis,
    Carried,
    ColumnRef,
    Origin,
    Output,
    Predicate,
    PredicateUse,
    Statement,
    Transform,
)
from masking.domain.field import MaskingPlan, ResultColumn
from masking.domain.plan import build_plan, touch
from masking.domain.rules import Inference, MaskingRule, Technique

SSN = ColumnRef("public", "patients", "ssn")
DOB = ColumnRef("public", "patients", "dob")
CITY = ColumnRef("public", "patients", "city")
OTHER_SSN = ColumnRef("public", "claims", "ssn")
GUESS = ColumnRef("public", "scratch", "guess")
SECRET = b"123-45-6789"
RULES = (
    MaskingRule("ssn", ("clinic",), ("public.patients.ssn",), Technique.PARTIAL, exempt_groups=frozenset({"privacy"})),
    MaskingRule("dob", ("clinic",), ("public.patients.dob",), Technique.YEAR, data_class="birth-date"),
)
AGENTS = frozenset({"ai-agents"})
TEXT = 25


def identity(column: ColumnRef) -> Origin:
    return Origin(column, Transform.IDENTITY)


def derived(column: ColumnRef) -> Origin:
    return Origin(column, Transform.DERIVED)


def safe(column: ColumnRef) -> Origin:
    return Origin(column, Transform.SAFE)


def analysed(
    *outputs: Output,
    complete: bool = True,
    reads: frozenset[ColumnRef] = frozenset(),
    predicates: tuple[Predicate, ...] = (),
) -> Analysis:
    return Analysis(
        statement=Statement("…"),
        kind="SELECT",
        fingerprint="f",
        complete=complete,
        outputs=outputs,
        reads=reads,
        predicates=frozenset(predicates),
    )


def plan(
    analysis: Analysis,
    *columns: ResultColumn,
    groups: frozenset[str] = AGENTS,
    phi: bool = True,
    scan_text: bool = False,
    rules: tuple[MaskingRule, ...] = RULES,
    connection: str = "clinic",
) -> MaskingPlan:
    return build_plan(
        analysis=analysis,
        columns=columns,
        rules=rules,
        connection=connection,
        groups=groups,
        phi=phi,
        scan_text=scan_text,
    )


def masked(result: MaskingPlan, value: bytes | None = SECRET, at: int = 0) -> bytes | None:
    mask = result.fields[at].mask
    return value if mask is None else mask(value)


def test_identity_projection_gets_the_columns_technique_under_any_alias() -> None:
    result = plan(analysed(Output("innocent", (identity(SSN),))), ResultColumn("innocent", TEXT))

    assert masked(result) == b"****6789"
    assert (result.fields[0].rule, result.fields[0].technique) == ("ssn", "partial")


def test_the_same_output_is_clear_without_the_rule() -> None:
    result = plan(analysed(Output("innocent", (identity(SSN),))), ResultColumn("innocent", TEXT), rules=())

    assert masked(result) == SECRET


# Each shape of the bypass catalogue as the analysis reports it.
WHOLE_SHAPES = {
    "function of a column": Output("reverse", (derived(SSN),)),
    "later union arm": Output("x", (identity(CITY), derived(SSN))),
    "using merges two protected columns": Output(
        "ssn", (identity(SSN), identity(ColumnRef("public", "patients", "ssn")), identity(DOB))
    ),
    "whole row": Output("p", (derived(SSN), derived(DOB), derived(CITY))),
    "aggregate that returns a value": Output("min", (derived(SSN),)),
    "unresolved output": Output("?", (), resolved=False),
    "unresolved output with a harmless origin": Output("?", (identity(CITY),), resolved=False),
    "conditional over a protected column": Output("case", (derived(SSN), identity(CITY))),
}


@pytest.mark.parametrize("shape", WHOLE_SHAPES)
@pytest.mark.parametrize("value", [SECRET, b"", None])
def test_bypass_shape_is_masked_whole_and_constant(shape: str, value: bytes | None) -> None:
    result = plan(analysed(WHOLE_SHAPES[shape]), ResultColumn("c", TEXT))

    assert result.fields[0].technique == "whole"
    assert masked(result, value) == b"[REDACTED]"


@pytest.mark.parametrize(("mixed", "technique"), [(False, "hash"), (True, "whole")])
def test_values_the_asker_may_have_chosen_get_no_tokens(mixed: bool, technique: str) -> None:
    hashed = (MaskingRule("ssn", ("clinic",), ("public.patients.ssn",), Technique.HASH),)
    stored = ColumnRef("public", "patients", "ssn")

    result = plan(analysed(Output("x", (identity(stored),), mixed=mixed)), ResultColumn("x", TEXT), rules=hashed)

    assert result.fields[0].technique == technique


@pytest.mark.parametrize("type_oid", [16, 20, 23, 701, 1082, 1184, 1700, 2950, 1009, 99_999])
@pytest.mark.parametrize("binary", [0, 1])
def test_whole_mask_of_other_types_is_null_for_null_and_value(type_oid: int, binary: int) -> None:
    result = plan(analysed(Output("n", (derived(SSN),))), ResultColumn("n", type_oid, binary))

    assert masked(result, b"\x00\x00\x00\x01") is None
    assert masked(result, None) is None


def test_safe_transform_passes() -> None:
    result = plan(analysed(Output("count", (safe(SSN),))), ResultColumn("count", 20))

    assert result.masks_nothing


def test_one_protected_identity_among_unprotected_keeps_its_technique() -> None:
    result = plan(analysed(Output("u", (identity(CITY), identity(SSN)))), ResultColumn("u", TEXT))

    assert masked(result) == b"****6789"


@pytest.mark.parametrize("phi", [True, False])
def test_incomplete_analysis_masks_every_value_where_rules_or_phi_exist(phi: bool) -> None:
    analysis = analysed(Output("city", (identity(CITY),)), complete=False)

    result = plan(analysis, ResultColumn("city", TEXT), phi=phi)

    assert masked(result, b"Springfield") == b"[REDACTED]"


def test_incomplete_analysis_masks_every_value_on_phi_without_rules() -> None:
    analysis = analysed(Output("city", (identity(CITY),)), complete=False)

    assert masked(plan(analysis, ResultColumn("city", TEXT), rules=())) == b"[REDACTED]"


def test_nothing_to_protect_passes_even_incomplete() -> None:
    analysis = analysed(Output("city", (identity(CITY),)), complete=False)

    assert plan(analysis, ResultColumn("city", TEXT), rules=(), phi=False).masks_nothing


@pytest.mark.parametrize("described", [0, 1, 3])
def test_other_number_of_columns_than_outputs_masks_everything(described: int) -> None:
    analysis = analysed(Output("city", (identity(CITY),)), Output("city2", (identity(CITY),)))

    result = plan(analysis, *[ResultColumn(f"c{n}", TEXT) for n in range(described)])

    assert len(result.fields) == described
    assert all(field.technique == "whole" for field in result.fields)


def test_rows_from_a_statement_said_to_return_none_are_masked_whole() -> None:
    analysis = Analysis(statement=Statement("…"), kind="UPDATE", fingerprint="f", complete=True, outputs=None)

    assert masked(plan(analysis, ResultColumn("ssn", TEXT))) == b"[REDACTED]"


def test_exempt_group_sees_identity_and_derived_values_of_its_rule_only() -> None:
    analysis = analysed(
        Output("ssn", (identity(SSN),)), Output("f", (derived(SSN),)), Output("row", (derived(SSN), derived(DOB)))
    )
    columns = [ResultColumn(name, TEXT) for name in ("ssn", "f", "row")]

    result = plan(analysis, *columns, groups=frozenset({"privacy"}))

    assert [masked(result, SECRET, at) for at in range(3)] == [SECRET, SECRET, b"[REDACTED]"]


def test_exempt_group_does_not_see_unresolved_or_incomplete() -> None:
    unresolved = plan(
        analysed(Output("ssn", (identity(SSN),), resolved=False)),
        ResultColumn("s", TEXT),
        groups=frozenset({"privacy"}),
    )
    incomplete = plan(
        analysed(Output("ssn", (identity(SSN),)), complete=False),
        ResultColumn("s", TEXT),
        groups=frozenset({"privacy"}),
    )

    assert masked(unresolved) == masked(incomplete) == b"[REDACTED]"


@pytest.mark.parametrize("type_oid", [25, 1043, 1042, 114, 3802, 99_999, 17])
def test_uncovered_text_and_unknown_types_are_scanned_on_phi(type_oid: int) -> None:
    note = ColumnRef("public", "clinical_notes", "note")

    result = plan(analysed(Output("note", (identity(note),))), ResultColumn("note", type_oid), scan_text=True)

    assert result.fields[0].scans_text
    assert masked(result, b'"nothing to see"') == b'"nothing to see"'
    assert b"6789" not in (masked(result, b'"SSN 123-45-6789"') or b"")


@pytest.mark.parametrize("type_oid", [23, 20, 16, 1082, 2950, 1700])
def test_types_without_text_are_not_scanned(type_oid: int) -> None:
    assert plan(analysed(Output("n", (identity(CITY),))), ResultColumn("n", type_oid), scan_text=True).masks_nothing


def test_scan_is_off_without_phi_or_setting() -> None:
    analysis = analysed(Output("city", (identity(CITY),)))

    assert plan(analysis, ResultColumn("c", TEXT), scan_text=False).masks_nothing
    assert plan(analysis, ResultColumn("c", TEXT), scan_text=True, phi=False).masks_nothing


def test_exempt_column_is_not_scanned_but_its_mixture_is() -> None:
    analysis = analysed(Output("ssn", (identity(SSN),)), Output("m", (derived(SSN), derived(CITY))))

    result = plan(
        analysis, ResultColumn("ssn", TEXT), ResultColumn("m", TEXT), groups=frozenset({"privacy"}), scan_text=True
    )

    assert [field.scans_text for field in result.fields] == [False, True]


def test_touch_names_columns_and_classes() -> None:
    analysis = analysed(Output("ssn", (identity(SSN),)), Output("n", (safe(DOB),)), reads=frozenset({SSN, DOB, CITY}))

    found = touch(analysis=analysis, rules=RULES, connection="clinic", groups=AGENTS)

    assert found.columns_read == {SSN, DOB}
    assert found.columns_returned == {SSN}
    assert found.classes == {"ssn", "birth-date"}
    assert found.touches_phi


def test_touch_of_unprotected_columns_is_empty() -> None:
    found = touch(
        analysis=analysed(Output("c", (identity(CITY),)), reads=frozenset({CITY})),
        rules=RULES,
        connection="clinic",
        groups=AGENTS,
    )

    assert not found.touches_phi


def test_touch_of_an_incomplete_analysis_counts_as_phi_and_as_inference() -> None:
    found = touch(analysis=analysed(complete=False), rules=RULES, connection="clinic", groups=AGENTS)

    assert found.classes == {"unresolved"}
    assert found.inference_violations == ("unresolved: the conditions of the statement could not be established",)


@pytest.mark.parametrize(
    ("mode", "violating"),
    [
        (Inference.OPEN, set()),
        (Inference.GUARDED, {PredicateUse.COMPARISON, PredicateUse.COMPUTED}),
        (Inference.STRICT, set(PredicateUse) - {PredicateUse.NULL_TEST}),
    ],
)
def test_inference_modes(mode: Inference, violating: set[PredicateUse]) -> None:
    rules = (MaskingRule("ssn", ("clinic",), ("*.ssn",), Technique.REDACT, inference=mode),)

    found = {
        use
        for use in PredicateUse
        if touch(
            analysis=analysed(predicates=(Predicate(SSN, use, partners=(OTHER_SSN,)),)),
            rules=rules,
            connection="clinic",
            groups=AGENTS,
        ).inference_violations
    }

    assert found == violating


def test_inference_violation_is_a_sentence_naming_class_rule_and_mode() -> None:
    analysis = analysed(predicates=(Predicate(SSN, PredicateUse.COMPARISON), Predicate(CITY, PredicateUse.COMPARISON)))

    found = touch(analysis=analysis, rules=RULES, connection="clinic", groups=AGENTS)

    assert found.inference_violations == ("ssn: comparison with a constant or parameter (rule ssn, guarded)",)
    assert found.columns_read == {SSN}


def test_exempt_group_violates_nothing() -> None:
    analysis = analysed(predicates=(Predicate(SSN, PredicateUse.COMPARISON),))

    found = touch(analysis=analysis, rules=RULES, connection="clinic", groups=frozenset({"privacy"}))

    assert found.inference_violations == ()
    assert found.touches_phi


@pytest.mark.parametrize("use", [PredicateUse.JOIN_EQUALITY, PredicateUse.GROUP, PredicateUse.ORDER])
@pytest.mark.parametrize(
    ("partners", "violates"),
    [((OTHER_SSN,), False), ((GUESS,), True), ((OTHER_SSN, GUESS), True), ((DOB,), True)],
    ids=["same class", "ordinary column", "one of two ordinary", "another class"],
)
def test_guarded_column_may_be_matched_with_its_own_class_only(
    use: PredicateUse, partners: tuple[ColumnRef, ...], violates: bool
) -> None:
    """An agent can write guesses into a table and join: that is a comparison with constants by another road."""
    rules = (MaskingRule("ssn", ("clinic",), ("*.ssn",), Technique.REDACT), *RULES)

    found = touch(
        analysis=analysed(predicates=(Predicate(SSN, use, partners=partners),)),
        rules=rules,
        connection="clinic",
        groups=AGENTS,
    )

    assert bool(found.inference_violations) is violates


def test_join_of_an_open_rule_is_free_and_one_without_partners_is_not() -> None:
    join = analysed(predicates=(Predicate(SSN, PredicateUse.JOIN_EQUALITY),))
    opened = (MaskingRule("ssn", ("clinic",), ("*.ssn",), Technique.REDACT, inference=Inference.OPEN),)

    assert touch(analysis=join, rules=opened, connection="clinic", groups=AGENTS).inference_violations == ()
    assert touch(analysis=join, rules=RULES, connection="clinic", groups=AGENTS).inference_violations == (
        "ssn: matched with other columns (rule ssn, guarded)",
    )


# --- Copies ----------------------------------------------------------------------------------------------------------

COPIES = (
    *RULES,
    MaskingRule("copies", ("clinic",), ("scratch.*.ssn",), Technique.PARTIAL, data_class="ssn"),
    MaskingRule("gone", ("clinic",), ("scratch.*.gone",), Technique.REDACT),
    MaskingRule("year", ("clinic",), ("scratch.*.year",), Technique.YEAR),
    MaskingRule("open", ("clinic",), ("scratch.*.open",), Technique.PARTIAL, exempt_groups=frozenset({"everybody"})),
)


@pytest.mark.parametrize(
    ("column", "spreads"),
    [("z", True), ("ssn", False), ("gone", False), ("year", True), ("open", True), ("*", True)],
)
def test_a_copy_spreads_what_its_place_protects_less(column: str, spreads: bool) -> None:
    copy = replace(analysed(), carries=frozenset({Carried(SSN, ColumnRef("scratch", "t", column))}))

    found = touch(analysis=copy, rules=COPIES, connection="clinic", groups=AGENTS)

    assert found.columns_spread == (frozenset({SSN}) if spreads else frozenset())


def test_a_copy_of_what_nobody_protects_spreads_nothing() -> None:
    copy = replace(analysed(), carries=frozenset({Carried(CITY, ColumnRef("scratch", "t", "z"))}))

    assert not touch(analysis=copy, rules=COPIES, connection="clinic", groups=AGENTS).columns_spread
