"""Inference: no value is shown, only whether a guess is right. The answers to a right and a wrong guess must be equal.

Each case is one statement with a hole for the guess. Directly, the two answers differ (the control: one bit per
statement, an SSN in thirty). Through the gateway both are refused, or both answers are the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests.bypass.attack import Arena, Mode, attack, describe, play
from tests.bypass.wire import Answer

TEXT = (Mode.SIMPLE, Mode.EXTENDED_TEXT)
_IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Guess:
    name: str
    statement: str  # with {} where the guess goes
    right: str
    wrong: str
    parameter: bool = False  # the guess is bound as $1 instead


GUESSES = [
    Guess(
        "error-behind-coalesce",
        "SELECT coalesce(nullif(ssn, {}), (1 / (id - 900001))::text) FROM patients WHERE id = 900001",
        "'536-71-9284'",
        "'536-71-9285'",
    ),
    Guess(
        "error-behind-and",
        "SELECT ssn = {} AND 1 / (id - 900001) > 0 FROM patients WHERE id = 900001",
        "'536-71-9284'",
        "'536-71-9285'",
    ),
    Guess("equality", "SELECT id FROM patients WHERE ssn = {}", "'536-71-9284'", "'536-71-9285'"),
    Guess("equality-parameter", "SELECT id FROM patients WHERE ssn = $1", "536-71-9284", "536-71-9285", parameter=True),
    Guess("like-prefix", "SELECT count(*) FROM patients WHERE id = 900001 AND ssn LIKE {}", "'5%'", "'6%'"),
    Guess(
        "like-parameter", "SELECT count(*) FROM patients WHERE id = 900001 AND ssn LIKE $1", "5%", "6%", parameter=True
    ),
    Guess("range", "SELECT count(*) FROM patients WHERE id = 900001 AND ssn < {}", "'6'", "'5'"),
    Guess("range-date", "SELECT count(*) FROM patients WHERE id = 900001 AND dob < {}", "'1948-01-01'", "'1946-01-01'"),
    Guess("between", "SELECT id FROM patients WHERE id = 900001 AND ssn BETWEEN {}", "'5' AND '6'", "'7' AND '8'"),
    Guess("regex", "SELECT id FROM patients WHERE id = 900001 AND ssn ~ {}", "'^536'", "'^537'"),
    Guess("similar-to", "SELECT id FROM patients WHERE id = 900001 AND ssn SIMILAR TO {}", "'5%'", "'6%'"),
    Guess("starts-with", "SELECT id FROM patients WHERE id = 900001 AND starts_with(ssn, {})", "'5'", "'6'"),
    Guess("starts-with-operator", "SELECT id FROM patients WHERE id = 900001 AND ssn ^@ {}", "'5'", "'6'"),
    Guess("position", "SELECT id FROM patients WHERE id = 900001 AND position({} IN ssn) = 1", "'5'", "'6'"),
    Guess("in-list", "SELECT id FROM patients WHERE ssn IN ({})", "'536-71-9284', 'a'", "'b', 'a'"),
    Guess("any-array", "SELECT id FROM patients WHERE ssn = ANY ({})", "'{536-71-9284}'", "'{x}'"),
    Guess("not-distinct", "SELECT id FROM patients WHERE ssn IS NOT DISTINCT FROM {}", "'536-71-9284'", "'x'"),
    Guess("row-comparison", "SELECT id FROM patients WHERE (id, ssn) = (900001, {})", "'536-71-9284'", "'x'"),
    Guess(
        "whole-row-comparison",
        "SELECT id FROM patients p WHERE id = 900001 AND p::text LIKE {}",
        "'%536-71%'",
        "'%zzzz%'",
    ),
    Guess(
        "jsonb-contains",
        "SELECT id FROM patients p WHERE id = 900001 AND to_jsonb(p) @> {}",
        """'{"ssn": "536-71-9284"}'""",
        """'{"ssn": "x"}'""",
    ),
    Guess(
        "expression",
        "SELECT id FROM patients WHERE id = 900001 AND length(replace(ssn, {}, '')) < 11",
        "'536'",
        "'537'",
    ),
    Guess(
        "case-in-where",
        "SELECT id FROM patients WHERE id = 900001 AND CASE WHEN ssn > {} THEN true ELSE false END",
        "'5'",
        "'6'",
    ),
    Guess(
        "or-true-side",
        "SELECT id FROM patients WHERE id = 900002 OR (id = 900001 AND ssn = {})",
        "'536-71-9284'",
        "'x'",
    ),
    Guess("count-star", "SELECT count(*) FROM patients WHERE ssn = {}", "'536-71-9284'", "'x'"),
    Guess("count-filter", "SELECT count(*) FILTER (WHERE ssn LIKE {}) FROM patients WHERE id = 900001", "'5%'", "'6%'"),
    Guess(
        "count-case", "SELECT count(CASE WHEN ssn LIKE {} THEN 1 END) FROM patients WHERE id = 900001", "'5%'", "'6%'"
    ),
    Guess("count-nullif", "SELECT count(nullif(ssn, {})) FROM patients WHERE id = 900001", "'536-71-9284'", "'x'"),
    Guess("sum-boolean", "SELECT sum((ssn LIKE {})::int) FROM patients WHERE id = 900001", "'5%'", "'6%'"),
    Guess("bool-or", "SELECT bool_or(ssn = {}) FROM patients WHERE id = 900001", "'536-71-9284'", "'x'"),
    Guess("output-boolean", "SELECT ssn = {} FROM patients WHERE id = 900001", "'536-71-9284'", "'x'"),
    Guess(
        "output-case",
        "SELECT CASE WHEN ssn LIKE {} THEN 'yes' ELSE 'no' END FROM patients WHERE id = 900001",
        "'5%'",
        "'6%'",
    ),
    Guess("output-is-null", "SELECT nullif(ssn, {}) IS NULL FROM patients WHERE id = 900001", "'536-71-9284'", "'x'"),
    Guess(
        "output-count-distinct",
        "SELECT count(DISTINCT v) FROM (SELECT ssn AS v FROM patients WHERE id = 900001 UNION ALL SELECT {}) t",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "output-length", "SELECT length(ssn || {}) > 11 FROM patients WHERE id = 900001 AND ssn LIKE '5%'", "'a'", "''"
    ),
    Guess("exists", "SELECT EXISTS (SELECT 1 FROM patients WHERE ssn = {})", "'536-71-9284'", "'x'"),
    Guess(
        "exists-where", "SELECT 1 WHERE EXISTS (SELECT FROM patients WHERE ssn LIKE {} AND id = 900001)", "'5%'", "'6%'"
    ),
    Guess("having", "SELECT city FROM patients WHERE id = 900001 GROUP BY city HAVING max(ssn) > {}", "'5'", "'6'"),
    Guess("join-values", "SELECT p.id FROM patients p JOIN (VALUES ({})) v(s) ON p.ssn = v.s", "'536-71-9284'", "'x'"),
    Guess("join-using-values", "SELECT id FROM patients JOIN (SELECT {} AS ssn) v USING (ssn)", "'536-71-9284'", "'x'"),
    Guess("natural-join-values", "SELECT id FROM patients NATURAL JOIN (SELECT {} AS ssn) v", "'536-71-9284'", "'x'"),
    Guess("join-on-expression", "SELECT p.id FROM patients p JOIN (SELECT 1) v ON p.ssn = {}", "'536-71-9284'", "'x'"),
    Guess("join-unnest", "SELECT p.id FROM patients p JOIN unnest(ARRAY[{}]) u ON u = p.ssn", "'536-71-9284'", "'x'"),
    Guess("in-subquery", "SELECT id FROM patients WHERE ssn IN (SELECT {})", "'536-71-9284'", "'x'"),
    Guess("literal-in-column", "SELECT {} IN (SELECT ssn FROM patients)", "'536-71-9284'", "'x'"),
    Guess("any-subquery", "SELECT {} = ANY (SELECT ssn FROM patients)", "'536-71-9284'", "'x'"),
    Guess("intersect", "SELECT count(*) FROM (SELECT ssn FROM patients INTERSECT SELECT {}) t", "'536-71-9284'", "'x'"),
    Guess("except", "SELECT count(*) FROM (SELECT {} EXCEPT SELECT ssn FROM patients) t", "'536-71-9284'", "'x'"),
    Guess(
        "union-dedup",
        "SELECT count(*) FROM (SELECT ssn FROM patients WHERE id = 900001 UNION SELECT {}) t",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "cte-join",
        "WITH g(s) AS (VALUES ({})) SELECT p.id FROM patients p, g WHERE p.ssn = g.s",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "derived-filter", "SELECT id FROM (SELECT id, ssn AS s FROM patients) t WHERE s = {}", "'536-71-9284'", "'x'"
    ),
    Guess("view-filter", "SELECT id FROM attack_view WHERE code = {}", "'536-71-9284'", "'x'"),
    Guess("view-filter-expression", "SELECT id FROM attack_view WHERE label = {}", "'QUIXANDREL'", "'x'"),
    Guess(
        "order-by-case",
        "SELECT id FROM patients WHERE id IN (900001, 900002) ORDER BY CASE WHEN ssn = {} THEN 0 ELSE 1 END, id DESC",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "order-by-expression",
        "SELECT id FROM patients WHERE id IN (900001, 900002) ORDER BY (ssn <> {}), id DESC",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "order-against-union-literal",
        "SELECT id FROM (SELECT id, ssn AS s FROM patients WHERE id = 900001 UNION ALL SELECT 0, {}) t ORDER BY s",
        "'500'",
        "'600'",
    ),
    Guess(
        "order-masked-output-against-literal",
        "SELECT ssn, id FROM patients WHERE id = 900001 UNION ALL SELECT {}, 0 ORDER BY 1",
        "'500'",
        "'600'",
    ),
    Guess(
        "rank-against-literal",
        "SELECT id, rank() OVER (ORDER BY s) FROM (SELECT id, ssn AS s FROM patients WHERE "
        "id = 900001 UNION ALL SELECT 0, {}) t ORDER BY id",
        "'500'",
        "'600'",
    ),
    Guess(
        "hypothetical-rank", "SELECT rank({}) WITHIN GROUP (ORDER BY ssn) FROM patients WHERE id = 900001", "'9'", "'1'"
    ),
    Guess(
        "limit-by-subquery",
        "SELECT id FROM encounters ORDER BY id LIMIT (SELECT count(*) FROM patients WHERE ssn = {})",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "offset-by-subquery", "SELECT 1 OFFSET (SELECT count(*) FROM patients WHERE ssn = {})", "'536-71-9284'", "'x'"
    ),
    Guess(
        "generate-series",
        "SELECT n FROM patients p, generate_series(1, ascii(p.ssn) - {}) n WHERE p.id = 900001",
        "50",
        "53",
    ),
    Guess(
        "row-count-by-length",
        "SELECT n FROM patients p, generate_series(1, length(p.last_name) - {}) n WHERE p.id = 900001",
        "5",
        "9",
    ),
    Guess(
        "division-by-zero",
        "SELECT 1 / (CASE WHEN ssn LIKE {} THEN 0 ELSE 1 END) FROM patients WHERE id = 900001",
        "'5%'",
        "'6%'",
    ),
    Guess(
        "division-in-where",
        "SELECT id FROM patients WHERE id = 900001 AND 1 / (CASE WHEN ssn LIKE {} THEN 0 ELSE 1 END) = 1",
        "'5%'",
        "'6%'",
    ),
    Guess(
        "cast-error",
        "SELECT CASE WHEN ssn LIKE {} THEN ssn::int ELSE 0 END FROM patients WHERE id = 900001",
        "'5%'",
        "'6%'",
    ),
    Guess(
        "overflow-error",
        "SELECT exp(CASE WHEN ssn LIKE {} THEN 10000 ELSE 1 END) FROM patients WHERE id = 900001",
        "'5%'",
        "'6%'",
    ),
    Guess(
        "scalar-subquery-error",
        "SELECT (SELECT id FROM patients WHERE ssn LIKE {} AND id IN (900001, 900002) OR id = 900002)",
        "'5%'",
        "'6%'",
    ),
    Guess(
        "update-count",
        "UPDATE encounters SET status = status WHERE patient_id IN (SELECT id FROM patients WHERE ssn = {})",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "delete-count",
        "DELETE FROM claims WHERE id = 900001 AND EXISTS (SELECT FROM patients WHERE ssn = {})",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "insert-conflict",
        "INSERT INTO attack_echo SELECT 900002, 'x' FROM patients WHERE ssn = {}",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "explain-analyze-rows",
        "EXPLAIN (ANALYZE, TIMING off, SUMMARY off, BUFFERS off, COSTS off) SELECT id FROM patients WHERE ssn = {}",
        "'536-71-9284'",
        "'x'",
    ),
    Guess("copy-filter", "COPY (SELECT id FROM patients WHERE ssn = {}) TO STDOUT", "'536-71-9284'", "'x'"),
    Guess(
        "copy-null",
        "COPY (SELECT ssn FROM patients WHERE id = 900001 UNION ALL SELECT NULL) TO STDOUT (NULL {})",
        "'536-71-9284'",
        "'536-71-9285'",
    ),
    Guess(
        "copy-null-date",
        "COPY (SELECT dob FROM patients WHERE id = 900001 UNION ALL SELECT NULL) TO STDOUT (NULL {})",
        "'1947-03-29'",
        "'1947-03-28'",
    ),
    Guess(
        "array-position",
        "SELECT array_position(array_agg(ssn), {}) FROM patients WHERE id = 900001",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "lateral-filter",
        "SELECT l.one FROM patients p, LATERAL (SELECT 1 AS one WHERE p.ssn = {}) l",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "outer-join-null",
        "SELECT p.id IS NULL FROM (SELECT {} AS s) v LEFT JOIN patients p ON p.ssn = v.s",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "merge-matched",
        "MERGE INTO attack_sink t USING (SELECT 1 FROM patients WHERE ssn = {}) s ON false WHEN NOT "
        "MATCHED THEN INSERT VALUES (900002, 'x')",
        "'536-71-9284'",
        "'x'",
    ),
    Guess(
        "integer-range", "SELECT count(*) FROM attack_identifiers WHERE national_id > {}", "1836311902", "1836311904"
    ),
    Guess("array-overlap", "SELECT id FROM attack_identifiers WHERE tags && {}", "ARRAY['Brontolimax']", "ARRAY['q']"),
    Guess("jsonb-exists", "SELECT id FROM attack_identifiers WHERE payload ->> 'name' = {}", "'Vexilloryx'", "'q'"),
    Guess(
        "inet-contains", "SELECT id FROM attack_identifiers WHERE origin << {}", "'203.113.0.0/16'", "'204.0.0.0/16'"
    ),
    Guess(
        "note-search", "SELECT id FROM clinical_notes WHERE id = 900001 AND note LIKE {}", "'%541-82%'", "'%541-83%'"
    ),
]
# clinical_notes.note is free text: no rule names it, so predicates on it are governed only if the demo protects it.
UNRULED = {"note-search"}


def ask(arena_target: object, guess: Guess, value: str, mode: Mode, *, rehearsal: bool) -> Answer:
    if guess.parameter:
        step = attack(
            guess.name,
            lambda wire, m: wire.extended(guess.statement, [value.encode()], binary=m is Mode.EXTENDED_BINARY),
        )
    else:
        step = attack(guess.name, guess.statement.replace("{}", value))
    return play(arena_target, step, mode, rehearsal=rehearsal)  # type: ignore[arg-type]


def visible(answer: Answer) -> tuple[object, ...]:
    """What the asker learns, without identifiers that are new every time."""
    errors = tuple(
        sorted(
            (key, _IDS.sub(b"", value.encode()))
            for error in answer.errors
            for key, value in error.items()
            if key in "CMDH"
        )
    )
    return (answer.rows, answer.copied, answer.tags, errors, len(answer.notices), answer.review_url is not None)


CASES = [(g, m) for g in GUESSES if g.name not in UNRULED for m in ((Mode.EXTENDED_TEXT,) if g.parameter else TEXT)]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("guess", "mode"), CASES, ids=lambda value: value.name if isinstance(value, Guess) else str(value)
)
@pytest.mark.by_turns(2)
def test_right_and_wrong_guess_look_alike(arena: Arena, guess: Guess, mode: Mode) -> None:
    control = [visible(ask(arena.direct, guess, value, mode, rehearsal=True)) for value in (guess.right, guess.wrong)]
    assert control[0] != control[1], f"the control cannot tell the guesses apart: {control[0]}"

    right = ask(arena.gateway, guess, guess.right, mode, rehearsal=False)
    wrong = ask(arena.gateway, guess, guess.wrong, mode, rehearsal=False)

    assert (right.refused and wrong.refused) or visible(right) == visible(wrong), (
        f"right: {describe(right)}; wrong: {describe(wrong)}"
    )


@pytest.mark.e2e
@pytest.mark.parametrize("mode", TEXT)
def test_binary_search_for_an_ssn_learns_nothing(arena: Arena, mode: Mode) -> None:
    """The whole attack: eleven characters, ten guesses each. Directly it ends with the SSN."""
    assert search(arena.direct, mode, rehearsal=True) == "536-71-9284"

    assert search(arena.gateway, mode, rehearsal=False) in {"", "-" * 11, "9" * 11}


def search(target: object, mode: Mode, *, rehearsal: bool) -> str:
    known = ""
    for _ in range(11):
        for character in "-0123456789":
            guess = Guess("search", "SELECT 1 FROM patients WHERE id = 900001 AND ssn LIKE {}", "", "")
            answer = ask(target, guess, f"'{known}{character}%'", mode, rehearsal=rehearsal)
            if answer.refused:
                return known
            if answer.rows:
                known += character
                break
    return known


@pytest.mark.e2e
@pytest.mark.parametrize("mode", TEXT)
def test_timing_oracle_is_refused(arena: Arena, mode: Mode) -> None:
    sleepy = "SELECT CASE WHEN ssn LIKE '5%' THEN pg_sleep(0.3) END FROM patients WHERE id = 900001"

    answer = play(arena.gateway, attack("timing", sleepy), mode, rehearsal=False)

    assert answer.refused, describe(answer)
