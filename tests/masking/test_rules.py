from __future__ import annotations

from analysis.statement import ColumnRef
from masking.domain.rules import MaskingRule, Technique, rules_for


def rule(name: str, *columns: str, connections: tuple[str, ...] = ("clinic",), priority: int = 100) -> MaskingRule:
    return MaskingRule(
        name=name, connections=connections, columns=columns, technique=Technique.REDACT, priority=priority
    )


def test_rule_for_matches_exact_column_only() -> None:
    rules = (rule("ssn", "public.patients.ssn"),)

    scope = rules_for(rules, "clinic")

    assert scope.rule_for(ColumnRef("public", "patients", "ssn")) is rules[0]
    assert scope.rule_for(ColumnRef("public", "patients", "ssn_hint")) is None
    assert scope.rule_for(ColumnRef("archive", "patients", "ssn")) is None


def test_star_crosses_dots() -> None:
    scope = rules_for((rule("ssn", "*.ssn"),), "clinic")

    assert scope.rule_for(ColumnRef("any", "table", "ssn")) is not None
    assert scope.rule_for(ColumnRef("any", "table", "xssn")) is None


def test_case_is_ignored_on_columns() -> None:
    scope = rules_for((rule("ssn", "Public.Patients.SSN"),), "clinic")

    assert scope.rule_for(ColumnRef("public", "patients", "ssn")) is not None
    assert scope.rule_for(ColumnRef("public", "Patients", "Ssn")) is not None


def test_lower_priority_number_wins_then_order() -> None:
    late, early, same = rule("a", "*.ssn"), rule("b", "*.ssn", priority=1), rule("c", "*.ssn", priority=1)

    scope = rules_for((late, early, same), "clinic")

    assert scope.rule_for(ColumnRef("s", "t", "ssn")) is early


def test_connections_are_globs() -> None:
    rules = (rule("ssn", "*.ssn", connections=("clin*",)),)

    assert rules_for(rules, "clinic")
    assert not rules_for(rules, "warehouse")


def test_rule_on_a_record_covers_its_fields() -> None:
    scope = rules_for((rule("person", "d.t.person"),), "clinic")

    assert scope.rule_for(ColumnRef("d", "t", "person.contact.phone")) is not None
    assert scope.rule_for(ColumnRef("d", "t", "personal")) is None


def test_rules_are_compiled_once_per_snapshot_tuple() -> None:
    rules = (rule("ssn", "*.ssn"),)

    assert rules_for(rules, "clinic") is rules_for(rules, "clinic")
    assert rules_for((rules[0],), "clinic") is not rules_for(rules, "clinic")


def test_a_new_tuple_is_never_answered_from_an_old_one() -> None:
    # Identities are reused by the interpreter as soon as a tuple is freed; the cache must not be fooled.
    for number in range(50):
        rules = (rule(f"r{number}", "*.ssn"),)
        found = rules_for(rules, "clinic").rule_for(ColumnRef("s", "t", "ssn"))
        assert found is not None
        assert found.name == f"r{number}"
        del rules
