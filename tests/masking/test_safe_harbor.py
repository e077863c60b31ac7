"""The Safe Harbor method: which technique takes which identifier away, and which only hides it."""

from __future__ import annotations

import pytest

from masking.domain import safe_harbor
from masking.domain.rules import ConnectionRules, MaskingRule, Technique, rules_for
from masking.domain.safe_harbor import IDENTIFIERS, Finding, Verdict, identifier_of, judge, technique_for


def rules(*given: tuple[str, Technique], exempt: frozenset[str] = frozenset()) -> ConnectionRules:
    return rules_for(
        tuple(
            MaskingRule(
                name=f"rule-{n}", connections=("c",), columns=(column,), technique=technique, exempt_groups=exempt
            )
            for n, (column, technique) in enumerate(given)
        ),
        "c",
    )


def verdicts(columns: list[str], scope: ConnectionRules, **more: object) -> dict[str, Verdict]:
    return {found.column: found.verdict for found in found_in(columns, scope, **more)}


def found_in(columns: list[str], scope: ConnectionRules, **more: object) -> list[Finding]:
    return judge(columns, rules=scope, **{"tagged": {}, "dismissed": frozenset()} | more)  # type: ignore[arg-type]


def test_all_eighteen_identifiers_are_there() -> None:
    assert "".join(identifier.letter for identifier in IDENTIFIERS) == "ABCDEFGHIJKLMNOPQR"


@pytest.mark.parametrize(
    ("column", "technique", "verdict", "satisfied"),
    [
        ("a.p.ssn", Technique.REDACT, Verdict.REMOVED, True),
        ("a.p.ssn", Technique.NULL, Verdict.REMOVED, True),
        ("a.p.ssn", Technique.HASH, Verdict.TOKEN, False),
        ("a.p.ssn", Technique.PARTIAL, Verdict.PARTIAL, False),
        ("a.p.ssn", Technique.YEAR, Verdict.PARTIAL, False),
        ("a.p.dob", Technique.YEAR, Verdict.GENERALISED, True),
        ("a.p.dob", Technique.ZIP3, Verdict.PARTIAL, False),
        ("a.p.age", Technique.YEAR, Verdict.GENERALISED, True),
        ("a.p.zip", Technique.ZIP3, Verdict.GENERALISED, True),
        ("a.p.city", Technique.ZIP3, Verdict.PARTIAL, False),
        ("a.p.note", Technique.SCAN, Verdict.SEARCHED, False),
    ],
)
def test_verdict_of_a_technique(column: str, technique: Technique, verdict: Verdict, satisfied: bool) -> None:
    (found,) = found_in([column], rules((column, technique)))

    assert (found.verdict, found.satisfied) == (verdict, satisfied)


@pytest.mark.parametrize("technique", Technique)
def test_every_technique_is_judged(technique: Technique) -> None:
    (found,) = found_in(["a.p.license"], rules(("a.p.license", technique)))

    assert found.verdict != Verdict.SHOWN


def test_a_technique_that_nobody_judged_satisfies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(safe_harbor._OTHERWISE, Technique.HASH)

    (found,) = found_in(["a.p.ssn"], rules(("a.p.ssn", Technique.HASH)))

    assert (found.verdict, found.satisfied) == (Verdict.SHOWN, False)


def test_columns_without_a_mask_are_shown_and_others_are_not_judged() -> None:
    columns = ["a.p.ssn", "a.p.state", "a.visits.admitted_at", "a.visits.status"]

    assert verdicts(columns, rules()) == {"a.p.ssn": Verdict.SHOWN, "a.visits.admitted_at": Verdict.SHOWN}


def test_a_person_knows_better_than_a_name() -> None:
    columns = ["a.p.ssn", "a.p.band"]

    found = found_in(columns, rules(), dismissed={"a.p.ssn"}, tagged={"a.p.band": "mrn"})

    assert [(one.column, one.identifier.letter) for one in found] == [("a.p.band", "H")]


def test_a_dismissed_column_with_a_mask_is_still_listed() -> None:
    assert verdicts(["a.p.ssn"], rules(("a.p.ssn", Technique.REDACT)), dismissed={"a.p.ssn"}) == {
        "a.p.ssn": Verdict.REMOVED
    }


def test_groups_that_see_clear_values_are_named() -> None:
    (found,) = found_in(["a.p.ssn"], rules(("a.p.ssn", Technique.REDACT), exempt=frozenset({"nurses", "doctors"})))

    assert found.exempt == ("doctors", "nurses")


def test_what_is_proposed_satisfies_the_method() -> None:
    classes = [name for identifier in IDENTIFIERS for name in identifier.classes]

    for name in classes:
        column = f"a.p.{name}"
        (found,) = found_in([column], rules((column, technique_for(name))), tagged={column: name})
        assert found.satisfied, name


def test_classes_are_known_by_either_spelling() -> None:
    assert identifier_of("health-plan") is identifier_of("health_plan")
    assert identifier_of("study-arm").letter == "R"
