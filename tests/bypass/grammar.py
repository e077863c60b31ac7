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
        shape = self.random.choice(
            [self.query] * 4
            + [self.with_query, self.union, self.in_values, self.window, self.grouped, self.recursive, self.distinct_on]
            + [self.returning, self.writing_cte, self.correlated, self.rows_from, self.json]
        )
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
        operator = self.random.choice(["UNION", "UNION ALL", "EXCEPT", "UNION ALL", "INTERSECT"])
        left = self.random.choice(["SELECT 'literal' AS v", self.one_column(depth - 1)])
        return f"{left} {operator} {self.one_column(depth - 1)}"

    def in_values(self, depth: int) -> str:
        return f"VALUES ('k', ({self.one_column(depth - 1)} LIMIT 1)), ('l', 'm')"

    # --- the wider language ---

    def window(self, depth: int) -> str:
        scope, source = self.source(depth)
        call = self.random.choice(
            ["first_value({v})", "lag({v}, 0)", "nth_value({v}, 1)", "max({v})", "string_agg({v}, '')"]
        )
        frame = self.random.choice(["()", "(PARTITION BY {k})", "(ORDER BY {k})", "w"]).format(k=self.scalar(scope, 0))
        named = " WINDOW w AS (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)" if frame == "w" else ""
        value = call.format(v=self.scalar(scope, depth))
        return f"SELECT {value} OVER {frame} AS c FROM {source}{self.where(scope, depth)}{named}"

    def grouped(self, depth: int) -> str:
        scope, source = self.source(depth)
        key = self.scalar(scope, depth - 1)
        form = self.random.choice(["{k}", "ROLLUP ({k})", "CUBE ({k})", "GROUPING SETS (({k}), ())"]).format(k=key)
        value = self.random.choice([key, *(a.format(self.scalar(scope, 1)) for a in AGGREGATES)])
        having = self.random.choice(["", " HAVING count(*) > 0", f" HAVING max({key}) IS NOT NULL"])
        return f"SELECT {value} AS c FROM {source}{self.where(scope, depth)} GROUP BY {form}{having}"

    def recursive(self, depth: int) -> str:
        inner = self.one_column(depth - 1)
        return (
            f"WITH RECURSIVE r(v, n) AS (SELECT v, 1 FROM ({inner}) b "
            "UNION ALL SELECT v || '', n + 1 FROM r WHERE n < 3) "
            f"SELECT {self.scalar(Scope(['v']), 1)} FROM r"
        )

    def distinct_on(self, depth: int) -> str:
        scope, source = self.source(depth)
        key = self.scalar(scope, 0)
        return f"SELECT DISTINCT ON ({key}) {self.scalar(scope, depth)} FROM {source}{self.where(scope, depth)}"

    def returning(self, _: int) -> str:
        """Writes: the control undoes them, and the gateway must not let them run plainly."""
        table = self.random.choice(["patients", "claims", "encounters"])
        column = self.random.choice([c for c in COLUMNS[table] if c not in ("id", "patient_id", "amount")])
        scope = Scope([f"x.{c}::text" for c in COLUMNS[table]], ["x"])
        where = f"WHERE x.id = {KEYS[table]} RETURNING {self.scalar(scope, 2)} AS c"
        return self.random.choice(
            [f"UPDATE {table} x SET {column} = x.{column} {where}", f"DELETE FROM {table} x {where}"]
        )

    def writing_cte(self, depth: int) -> str:
        return f"WITH w(v) AS ({self.returning(depth)}) SELECT {self.scalar(Scope(['v']), 1)} FROM w"

    def correlated(self, depth: int) -> str:
        scope, source = self.source(depth)
        value, inner = self.scalar(scope, 1), self.one_column(1)
        shown = self.random.choice(
            [
                f"(SELECT {value})",
                f"(SELECT max(i.v) FROM ({inner}) i WHERE i.v <> {value})",
                f"ARRAY(SELECT {value} UNION ALL ({inner}))::text",
                f"(SELECT j.v FROM ({inner}) j ORDER BY {value} LIMIT 1)",
                f"CASE WHEN EXISTS ({inner}) THEN {value} END",
            ]
        )
        return f"SELECT {shown} AS c FROM {source}{self.where(scope, depth)}"

    def rows_from(self, depth: int) -> str:
        inner = self.one_column(depth - 1)
        return self.random.choice(
            [
                f"SELECT u.v FROM unnest(ARRAY({inner})) u(v)",
                f"SELECT * FROM ROWS FROM (unnest(ARRAY({inner})), generate_series(1, 2)) WITH ORDINALITY",
                f"SELECT string_to_table(v, 'zzz') FROM ({inner}) s",
                f"SELECT regexp_split_to_table(v, 'zzz') FROM ({inner}) s",
                f"SELECT (ROW(v, 1)).f1 FROM ({inner}) s",
                f"SELECT ROW(v, 1)::text FROM ({inner}) s",
            ]
        )

    def json(self, depth: int) -> str:
        inner = self.one_column(depth - 1)
        return self.random.choice(
            [
                f"SELECT jsonb_path_query(to_jsonb(s), '$.v') #>> '{{}}' FROM ({inner}) s",
                f"SELECT value FROM ({inner}) s, jsonb_each_text(to_jsonb(s))",
                f"SELECT jsonb_build_object('a', v) ->> 'a' FROM ({inner}) s",
                f"SELECT x.v FROM ({inner}) s, jsonb_to_record(to_jsonb(s)) x(v text)",
                f"SELECT (jsonb_populate_record(NULL::patients, jsonb_build_object('city', v))).city FROM ({inner}) s",
                f"SELECT JSON_OBJECT('k': v) FROM ({inner}) s",
                f"SELECT jsonb_agg(s) -> 0 ->> 'v' FROM ({inner}) s",
            ]
        )

    # --- where rows come from ---

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
