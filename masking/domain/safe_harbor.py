"""The Safe Harbor method, 45 CFR 164.514(b)(2): eighteen identifiers, and which technique takes each of them away.

A token is no removal: a keyed hash is derived from what it stands for, which 164.514(c) does not permit for a code that
is handed on. Neither are the last four characters, nor what detectors left of a text: they find much and prove nothing.
Whether the holder knows that the rest could still identify somebody (164.514(b)(2)(ii)) is for a person to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum

from analysis.statement import ColumnRef
from masking.detectors.column_names import class_of_name
from masking.domain.rules import ConnectionRules, MaskingRule, Technique

# Events of a person's life under names that say no more than that they are moments: admitted_at, seen_on, visit_time.
_MOMENT = re.compile(r"(?:.*[_\W])?(?:at|on|time|timestamp|datetime|ts)", re.IGNORECASE)
_GONE = frozenset({Technique.REDACT, Technique.NULL})


class Verdict(StrEnum):
    REMOVED = "removed"
    GENERALISED = "generalised as the rule allows"
    TOKEN = "a token derived from the value"  # noqa: S105  a word, no secret
    PARTIAL = "partly shown"
    SEARCHED = "searched by detectors"
    SHOWN = "shown"


SATISFIED = frozenset({Verdict.REMOVED, Verdict.GENERALISED})
_OTHERWISE = {
    Technique.HASH: Verdict.TOKEN,
    Technique.PARTIAL: Verdict.PARTIAL,
    Technique.SCAN: Verdict.SEARCHED,
    # Generalising what must be removed leaves a part of it.
    Technique.YEAR: Verdict.PARTIAL,
    Technique.ZIP3: Verdict.PARTIAL,
}


@dataclass(frozen=True, slots=True)
class Identifier:
    """One of (A) to (R). `generalised`: techniques that keep what the rule lets stand, by data class."""

    letter: str
    title: str
    classes: tuple[str, ...]
    generalised: tuple[tuple[str, Technique], ...] = ()

    def technique_for(self, data_class: str) -> Technique:
        """What keeps most of the value and still satisfies the method."""
        return dict(self.generalised).get(data_class, Technique.REDACT)


IDENTIFIERS = (
    Identifier("A", "Names", ("name",)),
    Identifier("B", "Geographic subdivisions smaller than a state", ("location", "zip"), (("zip", Technique.ZIP3),)),
    Identifier(
        "C",
        "Dates but for the year; ages over 89",
        ("date", "age"),
        (("date", Technique.YEAR), ("age", Technique.YEAR)),
    ),
    Identifier("D", "Telephone numbers", ("phone",)),
    Identifier("E", "Fax numbers", ("fax",)),
    Identifier("F", "E-mail addresses", ("email",)),
    Identifier("G", "Social security numbers", ("ssn",)),
    Identifier("H", "Medical record numbers", ("mrn",)),
    Identifier("I", "Health plan beneficiary numbers", ("health_plan",)),
    Identifier("J", "Account numbers", ("account",)),
    Identifier("K", "Certificate and licence numbers", ("licence",)),
    Identifier("L", "Vehicle identifiers and serial numbers", ("vehicle",)),
    Identifier("M", "Device identifiers and serial numbers", ("device",)),
    Identifier("N", "Web addresses (URL)", ("url",)),
    Identifier("O", "Internet addresses (IP)", ("ip", "mac")),
    Identifier("P", "Biometric identifiers", ("biometric",)),
    Identifier("Q", "Full-face photographs", ("photo",)),
    Identifier("R", "Any other unique number, characteristic or code", ("other", "note")),
)
OTHER = IDENTIFIERS[-1]
_BY_CLASS = {name: identifier for identifier in IDENTIFIERS for name in identifier.classes}


@dataclass(frozen=True, slots=True)
class Finding:
    """What becomes of one column. `exempt`: groups that see it as stored all the same."""

    column: str
    identifier: Identifier
    data_class: str
    rule: str
    technique: str
    verdict: Verdict
    exempt: tuple[str, ...] = ()

    @property
    def satisfied(self) -> bool:
        return self.verdict in SATISFIED


def identifier_of(data_class: str) -> Identifier:
    """The identifier a data class belongs to; (R) for what has a class of its own."""
    return _BY_CLASS.get(data_class.replace("-", "_"), OTHER)


def technique_for(data_class: str) -> Technique:
    return identifier_of(data_class).technique_for(data_class.replace("-", "_"))


def judge(
    columns: Iterable[str], *, rules: ConnectionRules, tagged: Mapping[str, str], dismissed: Set[str]
) -> list[Finding]:
    """What becomes of each column that holds an identifier: by its tag, its name, or because a rule covers it.

    `columns`: `schema.table.column`; `tagged`: column → data class, as a person confirmed; `dismissed`: a person looked
    and found nothing. By identifier, then by column.
    """
    found = [_finding(column, rules, tagged, dismissed) for column in columns]
    return sorted(filter(None, found), key=lambda finding: (finding.identifier.letter, finding.column))


def _finding(column: str, rules: ConnectionRules, tagged: Mapping[str, str], dismissed: Set[str]) -> Finding | None:
    schema, table, name = column.split(".", 2)
    rule = rules.rule_for(ColumnRef(schema, table, name))
    data_class = tagged.get(column) or class_told_by(name.rsplit(".", 1)[-1])
    if rule is None and (data_class is None or column in dismissed):
        return None
    data_class = data_class or (rule.protected_class if rule is not None else "other")
    identifier = identifier_of(data_class)
    return Finding(
        column=column,
        identifier=identifier,
        data_class=data_class,
        rule=rule.name if rule is not None else "",
        technique=rule.technique.value if rule is not None else "",
        verdict=verdict_of(rule, identifier, data_class),
        exempt=tuple(sorted(rule.exempt_groups)) if rule is not None else (),
    )


def class_told_by(name: str) -> str | None:
    """The data class a bare column name tells of: what discovery knows, and moments of any kind."""
    return class_of_name(name) or ("date" if _MOMENT.fullmatch(name) else None)


def verdict_of(rule: MaskingRule | None, identifier: Identifier, data_class: str) -> Verdict:
    if rule is None:
        return Verdict.SHOWN
    if rule.technique in _GONE:
        return Verdict.REMOVED
    if (data_class.replace("-", "_"), rule.technique) in identifier.generalised:
        return Verdict.GENERALISED
    # What nobody has judged yet satisfies nothing.
    return _OTHERWISE.get(rule.technique, Verdict.SHOWN)
