"""Random SQL over the canary tables: valid far more often than not, and rarely what anybody would write by hand.

Everything is text, so that any expression fits anywhere; one seed is one statement, so a failure can be replayed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

COLUMNS = {
    "patients": (
        "id",
        "mrn",
        "first_name",
        "last_name",
        "ssn",
        "dob",
        "sex",
        "email",
        "phone",
        "address",
        "state",
        "zip",
    ),
    "encounters": ("id", "patient_id", "kind", "department", "status", "admitted_at"),
    "claims": ("id", "patient_id", "payer", "member_id", "claim_number", "amount"),
    "attack_identifiers": ("id", "national_id", "account", "score", "admitted", "device", "origin", "payload", "code"),
    "attack_view": ("id", "code", "label"),
}
KEYS = {"patients": 900001, "encounters": 900001, "claims": 900001, "attack_identifiers": 1, "attack_view": 900001}
UNARY = (
    "upper({})", "lower({})", "reverse({})", "md5({})", "left({}, 6)", "substr({}, 2)", "trim({})", "quote_literal({})",
    "replace({}, '-', '')", "encode(convert_to({}, 'UTF8'), 'hex')", "split_part({}, '-', 1)", "concat('<', {}, '>')",
    "coalesce({}, 'none')", "nullif({}, '')", "({} || '!')", "CAST({} AS varchar)", "to_jsonb({})::text",
    "(ARRAY[{}])[1]", "(CASE WHEN true THEN {} END)", "(SELECT {})", "format('%s', {})", "repeat({}, 2)",
)  # fmt: skip
AGGREGATES = (
    "max({})",
    "min({})",
    "string_agg({}, ',')",
    "array_agg({})::text",
    "json_agg({})::text",
    "count({})::text",
)


@dataclass
class Scope:
    """Expressions the FROM clause offers, the relations' aliases, and a condition that keeps the result small."""

    values: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)


class Grammar:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names = 0

    def statement(self) -> str:
        shape = self.random.choice([self.query, self.query, self.query, self.with_query, self.union, self.in_values])
        return shape(3)

    def query(self, depth: int) -> str:
        scope, source = self.source(depth)
        if self.random.random() < 0.2:
            outputs = [self.random.choice(AGGREGATES).format(self.scalar(scope, depth))]
        else:
            outputs = [f"{self.scalar(scope, depth)} AS c{n}" for n in range(self.random.randint(1, 3))]
        order = self.random.choice(["", "", " ORDER BY 1", " LIMIT 3"])
        return f"SELECT {', '.join(outputs)} FROM {source}{self.where(scope, depth)}{order}"

    def one_column(self, depth: int) -> str:
        scope, source = self.source(depth)
        return f"SELECT {self.scalar(scope, depth)} AS v FROM {source}{self.where(scope, depth)}"

    def with_query(self, depth: int) -> str:
        name = self.random.choice(["encounters", "x", self.name()])
        kind = self.random.choice(["", "MATERIALIZED ", "NOT MATERIALIZED "])
        inner = self.one_column(depth - 1)
        return f"WITH {name}(a) AS {kind}({inner}) SELECT {self.scalar(Scope(['a']), 1)} FROM {name}"

    def union(self, depth: int) -> str:
        operator = self.random.choice(["UNION", "UNION ALL", "EXCEPT", "UNION ALL"])
        left = self.random.choice(["SELECT 'literal' AS v", self.one_column(depth - 1)])
        return f"{left} {operator} {self.one_column(depth - 1)}"

    def in_values(self, depth: int) -> str:
        return f"VALUES ('k', ({self.one_column(depth - 1)} LIMIT 1)), ('l', 'm')"

    def source(self, depth: int) -> tuple[Scope, str]:
        kinds: list[Callable[[int], tuple[Scope, str]]] = [self.table, self.table, self.join]
        if depth > 1:
            kinds += [self.derived, self.lateral]
        return self.random.choice(kinds)(depth)

    def table(self, _: int) -> tuple[Scope, str]:
        table, alias = self.random.choice(list(COLUMNS)), self.name()
        values = [f"{alias}.{column}::text" for column in COLUMNS[table]]
        if self.random.random() < 0.2:
            renamed = [f"k{n}" for n in range(len(COLUMNS[table]))]
            listed = f"(SELECT {', '.join(COLUMNS[table])} FROM {table}) {alias}({', '.join(renamed)})"
            return Scope(
                [f"{alias}.{name}::text" for name in renamed], [alias], [f"{alias}.k0 = {KEYS[table]}"]
            ), listed
        return Scope(values, [alias], [f"{alias}.id = {KEYS[table]}"]), f"{table} {alias}"

    def join(self, _: int) -> tuple[Scope, str]:
        left, left_source = self.table(1)
        right, right_source = self.table(1)
        scope = Scope(left.values + right.values, left.rows + right.rows, left.conditions + right.conditions)
        return scope, f"{left_source} {self.random.choice(['CROSS JOIN', ','])} {right_source}"

    def derived(self, depth: int) -> tuple[Scope, str]:
        alias = self.name()
        return Scope([f"{alias}.v"], [alias]), f"({self.one_column(depth - 1)}) {alias}"

    def lateral(self, depth: int) -> tuple[Scope, str]:
        scope, source = self.table(1)
        alias = self.name()
        inner = self.scalar(scope, depth - 1)
        scope.values.append(f"{alias}.w")
        return scope, f"{source}, LATERAL (SELECT {inner} AS w) {alias}"

    def where(self, scope: Scope, depth: int) -> str:
        conditions = list(scope.conditions)
        if self.random.random() < 0.15:
            guess = self.random.choice(["'5'", "'Q'", "'1836311903'", "'zzzz'"])
            operator = self.random.choice(["<", ">", "=", "<>", "LIKE"])
            conditions.append(f"{self.scalar(scope, depth - 1)} {operator} {guess}")
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def scalar(self, scope: Scope, depth: int) -> str:
        roll = self.random.random()
        if roll < 0.1 and scope.rows:
            row = self.random.choice(scope.rows)
            return self.random.choice([f"{row}::text", f"to_jsonb({row})::text", f"row_to_json({row})::text"])
        value = self.random.choice(scope.values) if scope.values and roll < 0.92 else "'constant'"
        for _ in range(self.random.choice([0, 0, 1, 1, 2]) if depth > 0 else 0):
            value = self.random.choice(UNARY).format(value)
        return value

    def name(self) -> str:
        self.names += 1
        return f"t{self.names}"


def statement(seed: int) -> str:
    return Grammar(seed).statement()
