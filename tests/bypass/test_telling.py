"""What tells without being asked: whether something fails, warns, repeats, fits, or how much it weighs.

Nothing here is a condition, so nothing is held for being one. Each case is played twice, with a right and a wrong guess
in place of `{}`: directly the two look different (the control: one bit), through the gateway both are refused or alike.
"""

# ruff: noqa: E501 - a statement on one line reads better than one broken by quotes

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest

from tests.bypass.attack import Arena, Mode, attack, describe, play
from tests.bypass.test_inference import visible
from tests.bypass.wire import Answer, Target

P = "FROM patients WHERE id = 900001"
MEASURED = "EXPLAIN (ANALYZE, TIMING off, SUMMARY off, COSTS off, BUFFERS off"
MANY = "FROM patients, generate_series(1, 10000) g WHERE patients.id = 900001"
FULL, OTHER = "'536-71-9284'", "'536-71-9285'"
DIGIT, NO_DIGIT = "'5'", "'6'"  # ltrim(ssn, …) is one shorter, or not
LONG = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(250))  # no compression makes it short
BORN, UNBORN = "'1947-03-29'", "'1947-03-30'"


@dataclass(frozen=True)
class Telling:
    """`steps` on one connection, with {} for the guess."""

    name: str
    steps: tuple[str, ...]
    right: str = FULL
    wrong: str = OTHER


def telling(name: str, *steps: str, right: str = FULL, wrong: str = OTHER) -> Telling:
    return Telling(name, steps, right, wrong)


FAILS = [
    telling("held-cursor", "BEGIN", f"DECLARE c CURSOR WITH HOLD FOR SELECT 1 / strpos(ssn, {{}}) {P}", "COMMIT", right=DIGIT, wrong="'x'"),
    telling("held-cursor-at-once", f"DECLARE c CURSOR WITH HOLD FOR SELECT 1 / strpos(ssn, {{}}) {P}", "COMMIT", right=DIGIT, wrong="'x'"),
    telling("like-ends-in-escape", f"SELECT ssn LIKE {{}} {P}", right="'536\\'", wrong="'537\\'"),
    telling("ilike-ends-in-escape", f"SELECT last_name NOT ILIKE {{}} {P}", right="'quix\\'", wrong="'quiz\\'"),
    telling("pattern-ends-in-escape", f"SELECT {{}} LIKE left(ssn, 1) || '\\' {P}", right="'5x'", wrong="'6x'"),
    telling("like-parameter", f"PREPARE q(text) AS SELECT ssn LIKE $1 {P}", "EXECUTE q({})", right="'536\\'", wrong="'537\\'"),
    telling("null-array-collected", f"SELECT array_agg(nullif(ARRAY[ssn::text], ARRAY[{{}}])) {P}"),
    telling("null-array-in-array", f"SELECT ARRAY[nullif(ARRAY[ssn::text], ARRAY[{{}}]), ARRAY['x']] {P}"),
    telling("arrays-concatenated", f"SELECT ARRAY[['a', 'b']] || coalesce(nullif(ARRAY[ssn::text], ARRAY[{{}}]), ARRAY['a', 'b']) {P}"),
    telling("array-appended", f"SELECT array_append(coalesce(nullif(ARRAY[ssn::text], ARRAY[{{}}]), ARRAY[['a']]), 'b') {P}"),
    telling("rows-compared", f"SELECT coalesce(nullif(ROW(ssn::text), ROW({{}}::text)), ROW(1, 2)) = ROW('x'::text) {P}"),
    telling("row-subscripted", f"SELECT (ARRAY[ROW(1, 2)])[strpos(ssn, {{}})] = ROW('x'::text) {P}", right="'5'", wrong="'zz'"),
    telling("row-arrays-compared", f"SELECT ARRAY[coalesce(nullif(ROW(ssn::text), ROW({{}}::text)), ROW(1, 2))] = ARRAY[ROW('x'::text)] {P}"),
    telling("row-nullif", f"SELECT nullif(coalesce(nullif(ROW(ssn::text), ROW({{}}::text)), ROW(1, 2)), ROW('x'::text)) {P}"),
    telling("row-distinct", f"SELECT coalesce(nullif(ROW(ssn::text), ROW({{}}::text)), ROW(1, 2)) IS DISTINCT FROM ROW('x'::text) {P}"),
    telling("row-greatest", f"SELECT greatest(coalesce(nullif(ROW(ssn::text), ROW({{}}::text)), ROW(1, 2)), ROW('x'::text)) {P}"),
    telling("row-largest", f"SELECT max(r) FROM (SELECT coalesce(nullif(ROW(ssn::text), ROW({{}}::text)), ROW(1, 2)) r {P} UNION ALL SELECT ROW('x'::text)) x"),
    telling("options-of-headline", f"SELECT ts_headline('simple', 'x', 'x'::tsquery, 'MinWords={{}}, MaxWords=' || zip) {P}", right="94930", wrong="94931"),
    telling("infinite-dates", f"SELECT date_mi(coalesce(nullif(dob, date {{}}), date 'infinity'), '2000-01-01') {P}", right=BORN, wrong=UNBORN),
    telling("far-date", f"SELECT coalesce(nullif(dob, date {{}}), date '5000000-01-01')::timestamp {P}", right=BORN, wrong=UNBORN),
    telling("age-of-infinity", f"SELECT age('infinity', coalesce(nullif(dob, date {{}}), date 'infinity')::timestamp) {P}", right=BORN, wrong=UNBORN),
    telling("array-place-is-null", "CREATE TEMP TABLE k (a int[])", "INSERT INTO k (a[1]) VALUES (3)", f"UPDATE k SET a[nullif(ascii(ssn), {{}})] = 1 {P}", right="53", wrong="54"),
]  # fmt: skip

# What fails for anything, but for NULL; or what is only run where what stands before it was alike, or was not NULL.
X = f"SELECT avg(strpos(ssn, {{}})) AS x {P} GROUP BY id"
TWICE = f"FROM ({X}) q, generate_series(1, 2)"
SSN, NOT_SSN = "'536'", "'537'"
STRICT = [
    telling("negative-length", f"SELECT substr(nullif(ssn, {{}}), 1, -1) {P}"),
    telling("negative-length-copied", f"COPY (SELECT substr(nullif(ssn, {{}}), 1, -1) {P}) TO STDOUT"),
    telling("negative-length-parameter", f"PREPARE q(text) AS SELECT substr(nullif(ssn, $1), 1, -1) {P}", "EXECUTE q({})"),
    telling("bad-pattern", f"SELECT substring(nullif(ssn, {{}}) FROM '(') {P}"),
    telling("no-such-field", f"SELECT split_part(nullif(ssn, {{}}), '-', 0) {P}"),
    telling("no-such-place", f"SELECT overlay(nullif(ssn, {{}}) PLACING 'x' FROM -1) {P}"),
    telling("no-such-unit", f"SELECT extract(hour FROM nullif(dob, date {{}})) {P}", right=BORN, wrong=UNBORN),
    telling("no-such-part", f"SELECT date_part('era', nullif(dob, date {{}})) {P}", right=BORN, wrong=UNBORN),
    telling("bad-format", f"SELECT to_char(nullif(strpos(ssn, {{}}), 1), 'RN9.9.9') {P}", right=SSN, wrong=NOT_SSN),
    telling("multiplying-format", f"SELECT to_char(coalesce(nullif(x, bigint '1'), bigint '100'), '9V{'9' * 18}') FROM (SELECT sum(strpos(ssn, {{}})) x {P}) q", right=SSN, wrong=NOT_SSN),
    telling("sum-too-large", f"SELECT sum(coalesce(nullif(x, 1.0), 9e131071)) {TWICE}", right=SSN, wrong=NOT_SSN),
    telling("average-too-large", f"SELECT avg(coalesce(nullif(x, 1.0), 9e131071)) {TWICE}", right=SSN, wrong=NOT_SSN),
    telling("running-sum-too-large", f"SELECT sum(coalesce(nullif(x, 1.0), 9e131071)) OVER () {TWICE}", right=SSN, wrong=NOT_SSN),
    telling("rounded-too-large", f"SELECT round(coalesce(nullif(x, 1.0), {'9' * 131072}.9)) FROM ({X}) q", right=SSN, wrong=NOT_SSN),
    telling("next-whole-number-too-large", f"SELECT ceil(coalesce(nullif(x, 1.0), {'9' * 131072}.9)) FROM ({X}) q", right=SSN, wrong=NOT_SSN),
    telling("next-pair-fails", f"SELECT (ssn, 1 / (id - 900001)) < ({{}}, 0) {P}"),
    telling("next-pair-fails-of-a-part", f"SELECT (left(ssn, 3), 1 / (id - 900001)) < ({{}}, 0) {P}", right=SSN, wrong=NOT_SSN),
    telling("subscript-fails", f"SELECT (nullif(to_jsonb(ssn), {{}}::jsonb))[1 / (id - 900001)] {P}", right="'\"536-71-9284\"'", wrong="'\"536-71-9285\"'"),
    telling("key-is-null", f"SELECT JSON_OBJECT(nullif(ssn, {{}}): 1) {P}"),
    telling("key-is-there-already", f"SELECT JSON_OBJECT('a': 1, coalesce(nullif(left(ssn, 1), {{}}), 'a'): 2 WITH UNIQUE KEYS) {P}", right="'5'", wrong="'6'"),
]  # fmt: skip

# What fails for what the statement brought along: JSON only some can read, words of no collation, endless lines.
NUL = '\'{"a": "\\u0000"}\'::json'
HUGE = "'{\"536-71-9284\": 1e999999}'::json"
BOTH = "(SELECT ''::text COLLATE \"C\" AS a, ''::text COLLATE \"POSIX\" AS b) k"
LINES = "ARRAY['-1e308,-1e308,1e308,1e308'::lseg, '0,0,1,1']"
BROUGHT = [
    telling("json-of-no-text", f"SELECT {NUL} ->> nullif(ssn, {{}}) {P}"),
    telling("json-of-no-text-by-path", f"SELECT json_extract_path_text({NUL}, nullif(ssn, {{}})) {P}"),
    telling("json-of-no-text-by-place", f"SELECT '[\"\\u0000\"]'::json -> nullif(strpos(ssn, {{}}), 1) {P}", right=DIGIT, wrong=NO_DIGIT),
    telling("json-of-no-text-instead", f"SELECT coalesce(nullif(ssn, {{}}), j ->> 'a') FROM patients, (SELECT {NUL} AS j OFFSET 0) k WHERE id = 900001"),
    telling("json-of-no-jsonb", f"SELECT to_jsonb({HUGE} -> ltrim(ssn, {{}})) {P}", right="'x'", wrong=DIGIT),
    telling("json-of-no-jsonb-in-array", f"SELECT jsonb_build_array({HUGE} -> ltrim(ssn, {{}})) {P}", right="'x'", wrong=DIGIT),
    telling("json-of-no-jsonb-chosen", f"SELECT to_jsonb((ARRAY['\"\\u0000\"'::json, '1'])[strpos(ssn, {{}})]) {P}", right=DIGIT, wrong="'3'"),
    telling("json-of-no-jsonb-instead", f"SELECT to_jsonb(coalesce(to_json(nullif(ssn, {{}})), {NUL})) {P}"),
    telling("json-of-no-jsonb-collected", f"SELECT jsonb_agg((ARRAY['\"\\u0000\"'::json, '1'])[strpos(ssn, {{}})]) {P}", right=DIGIT, wrong="'3'"),
    telling("json-of-a-table", "CREATE TEMP TABLE k (j json)", f"INSERT INTO k VALUES ({NUL})", "SELECT j ->> nullif(ssn, {}) FROM patients, k WHERE id = 900001"),
    telling("json-nested", "SELECT coalesce(nullif(ssn, {}), x) IS JSON FROM patients, (SELECT repeat('[', 1000000) AS x) k WHERE id = 900001"),
    telling("collation-of-nobody", f"SELECT upper(nullif(ssn, {{}}) || a || b) FROM patients, {BOTH} WHERE id = 900001"),
    telling("collation-of-nobody-compared", f"SELECT (nullif(ssn, {{}}) || a || b) = 'x' FROM patients, {BOTH} WHERE id = 900001"),
    telling("collation-not-built-in", f"SELECT upper(nullif(ssn, {{}}) COLLATE \"unicode\") {P}"),
    telling("collation-not-built-in-greatest", f"SELECT greatest(nullif(ssn, {{}}) COLLATE \"unicode\", 'x') {P}"),
    telling("collation-not-built-in-largest", "SELECT max(nullif(ssn, {}) COLLATE \"unicode\") FROM patients, generate_series(1, 2) WHERE id = 900001"),
    telling("collation-not-built-in-replace", f"SELECT replace(ltrim(left(ssn, 1), {{}}) COLLATE \"unicode\", 'x', 'y') {P}", right=DIGIT, wrong=NO_DIGIT),
    telling("line-too-long", f"SELECT length(({LINES})[strpos(ssn, {{}})]) {P}", right=DIGIT, wrong="'3'"),
    telling("line-too-long-compared", f"SELECT ({LINES})[strpos(ssn, {{}})] < '0,0,1,1'::lseg {P}", right=DIGIT, wrong="'3'"),
]  # fmt: skip

# What the table that takes it in refuses.
REFUSES = [
    telling("not-null", "CREATE TEMP TABLE k (s text NOT NULL)", f"INSERT INTO k SELECT nullif(ssn, {{}}) {P}"),
    telling("not-null-updated", f"UPDATE encounters SET kind = nullif(ssn, {{}}) {P.replace('patients', 'patients p').replace(' id', ' p.id')} AND encounters.id = 900001"),
    telling("varchar-too-short", "CREATE TEMP TABLE k (s varchar(10))", f"INSERT INTO k SELECT ltrim(ssn, {{}}) {P}", right=DIGIT, wrong=NO_DIGIT),
    telling("char-too-short", "CREATE TEMP TABLE k (s char(10))", f"INSERT INTO k SELECT ltrim(ssn, {{}}) {P}", right=DIGIT, wrong=NO_DIGIT),
    telling("check", "UPDATE encounters SET kind = 'office' || ltrim(left(ssn, 1), {}) FROM patients p WHERE p.id = 900001 AND encounters.id = 900001", right=DIGIT, wrong=NO_DIGIT),
    telling("check-of-days", f"INSERT INTO attack_measured (id, n) SELECT 1, date_mi(dob, date {{}}) {P}", right="'1947-03-28'", wrong="'1947-03-30'"),
    telling("too-long-for-an-index", f"INSERT INTO attack_measured (id, word) SELECT 1, replace(ssn, {{}}, '{LONG}') {P}", right=SSN, wrong=NOT_SSN),
    telling("too-long-for-an-index-made-later", "CREATE TEMP TABLE k (s text)", f"INSERT INTO k SELECT coalesce(nullif(ssn, {{}}), '{LONG}') {P}", "CREATE INDEX ON k (s)"),
    telling("checked-by-a-view", f"INSERT INTO attack_narrow SELECT 52, coalesce(nullif(ssn, {{}}), 'q') {P}", "DELETE FROM attack_open WHERE id = 52"),
    telling("check-of-what-stays", "UPDATE attack_stay SET seen = {} WHERE id = 1", "UPDATE attack_stay SET seen = '2000-01-01' WHERE id = 1", right=BORN, wrong="'1947-03-28'"),
    telling("check-of-what-stays-merged", "MERGE INTO attack_stay USING (SELECT 1 AS i) s ON id = i WHEN MATCHED THEN UPDATE SET seen = {}", "UPDATE attack_stay SET seen = '2000-01-01' WHERE id = 1", right=BORN, wrong="'1947-03-28'"),
    telling("check-of-what-stays-upserted", "INSERT INTO attack_stay VALUES (1, '1900-01-01', '2000-01-01') ON CONFLICT (id) DO UPDATE SET seen = {}", "UPDATE attack_stay SET seen = '2000-01-01' WHERE id = 1", right=BORN, wrong="'1947-03-28'"),
    telling("check-option-of-what-stays", "UPDATE attack_stay_checked SET seen = {} WHERE id = 1", "UPDATE attack_stay SET seen = '2000-01-01' WHERE id = 1", right="'1947-03-30'", wrong=BORN),
    telling("looked-up", "INSERT INTO attack_referring VALUES ({})", "DELETE FROM attack_referring"),
    telling("looked-up-by-parameter", "PREPARE q(text) AS INSERT INTO attack_referring VALUES ($1)", "EXECUTE q({})", "DELETE FROM attack_referring"),
    telling("referred-to", "DELETE FROM attack_code WHERE word = {}", right="'angina'", wrong="'calm'"),
    telling("referred-to-by-its-key", "UPDATE attack_code SET word = word || 'x' WHERE word = {}", right="'angina'", wrong="'calm'"),
    telling("referred-to-merged", "MERGE INTO attack_code USING (SELECT 1) s ON word = {} WHEN MATCHED THEN DELETE", right="'angina'", wrong="'calm'"),
    telling("no-partition", f"INSERT INTO attack_parted (id, secret) SELECT length(ltrim(left(ssn, 10), {{}})), 'x' {P}", right=DIGIT, wrong=NO_DIGIT),
]  # fmt: skip

# Whether what it took in is NULL.
HOLDS = [
    telling("null-counted", "CREATE TEMP TABLE k (x text)", f"INSERT INTO k SELECT nullif(ssn, {{}}) {P}", "SELECT count(x) FROM k"),
    telling("null-tested", "CREATE TEMP TABLE k (x int)", f"INSERT INTO k SELECT length(nullif(ssn, {{}})) {P}", "SELECT x IS NULL FROM k"),
    telling("null-asked-for", f"CREATE TEMP TABLE k AS SELECT nullif(ssn, {{}}) AS x {P}", "SELECT 1 FROM k WHERE x IS NULL"),
    telling("null-updated", "CREATE TEMP TABLE k AS SELECT ''::text AS x", f"UPDATE k SET x = nullif(ssn, {{}}) {P}", "SELECT count(x), count(*) FROM k"),
    telling("null-of-an-open-table", f"INSERT INTO attack_open SELECT 51, nullif(ssn, {{}}) {P}", "SELECT count(x) FROM attack_open WHERE id = 51", "DELETE FROM attack_open WHERE id = 51"),
    telling("null-of-an-open-view", f"INSERT INTO attack_open SELECT 51, nullif(ssn, {{}}) {P}", "SELECT harmless IS NULL FROM attack_open_view WHERE id = 51", "DELETE FROM attack_open WHERE id = 51"),
    telling("null-asked-of-an-open-table", f"INSERT INTO attack_open SELECT 51, nullif(ssn, {{}}) {P}", "SELECT id FROM attack_open WHERE id = 51 AND x IS NULL", "DELETE FROM attack_open WHERE id = 51"),
    telling("null-beneath-a-rule", "UPDATE patients SET email = nullif(ssn, {}) WHERE id = 900001", "SELECT email IS NULL FROM patients WHERE id = 900001"),
    telling("lag-by-nothing", f"SELECT lag(id, nullif(strpos(ssn, {{}}), 0), 1 / (id - 900001)) OVER () {P}", right="'5'", wrong="'z'"),
]  # fmt: skip

# How many rows there are, or in which order.
REPEATS = [
    telling("unnested-words", f"SELECT unnest(to_tsvector('simple', last_name || {{}})) {P}", right="' quixandrel'", wrong="' quixandrex'"),
    telling("cycle", f"WITH RECURSIVE r(n, s) AS (SELECT 1, ssn::text {P} UNION ALL SELECT n + 1, {{}}::text FROM r WHERE n < 4) CYCLE s SET c USING path SELECT count(*) FROM r"),
    telling("cycle-unnamed-columns", f"WITH RECURSIVE r AS (SELECT 1 AS n, ssn::text AS s {P} UNION ALL SELECT n + 1, {{}}::text FROM r WHERE n < 4) CYCLE s SET c USING path SELECT count(*) FROM r"),
    telling("ordinal-behind-two-signs", "SELECT id, ssn = {} FROM patients WHERE id IN (900001, 900002) ORDER BY - -1", "SELECT id, ssn = {} FROM patients WHERE id IN (900001, 900002) ORDER BY - -2", right="'219-04-1177'", wrong="'536-71-9284'"),
    telling("own-view-filled-later", "CREATE TEMP TABLE k (id int, s text)", "CREATE TEMP VIEW v AS SELECT id FROM k WHERE s = {}", f"INSERT INTO k SELECT id, ssn {P}", "SELECT count(*) FROM v"),
    telling("own-view-joined", "CREATE TEMP TABLE k (id int, s text)", "CREATE TEMP VIEW v AS SELECT id FROM k JOIN (VALUES ({})) g(x) ON x = s", f"INSERT INTO k SELECT id, ssn {P}", "SELECT count(*) FROM v"),
    telling("own-view-that-fails", "CREATE TEMP TABLE k (id int, s text)", "CREATE TEMP VIEW v AS SELECT CASE WHEN s = {} THEN 1 / (id - 900001) ELSE 1 END AS c FROM k", f"INSERT INTO k SELECT id, ssn {P}", "SELECT c FROM v"),
    telling("own-view-of-a-view", "CREATE TEMP TABLE k (id int, s text)", "CREATE TEMP VIEW v AS SELECT id FROM k WHERE s = {}", "CREATE TEMP VIEW w AS SELECT id FROM v", f"INSERT INTO k SELECT id, ssn {P}", "SELECT count(*) FROM w"),
]  # fmt: skip

# How large a value is that is computed so that its size answers.
WEIGHS = [
    telling("word-too-long", f"SELECT to_tsvector('simple', repeat('a', 2037) || ltrim(last_name, {{}})) {P}", right="'Q'", wrong="'Z'"),
    telling("serialized", f"{MEASURED}, SERIALIZE TEXT) SELECT string_agg(ltrim(ssn, {{}}), '') {MANY}", right=DIGIT, wrong=NO_DIGIT),
    telling("kept-by-a-cte", f"{MEASURED}) WITH c AS MATERIALIZED (SELECT string_agg(ltrim(ssn, {{}}), '') x {MANY}) SELECT 1 FROM c", right=DIGIT, wrong=NO_DIGIT),
    telling("sorted", f"{MEASURED}) SELECT string_agg(ltrim(ssn, {{}}), '') {MANY} GROUP BY g % 3 ORDER BY g % 3", right=DIGIT, wrong=NO_DIGIT),
    telling("logged", f"{MEASURED}, WAL) INSERT INTO attack_open SELECT 1, ltrim(ssn, {{}}) {MANY.replace('10000', '100')}", right=DIGIT, wrong=NO_DIGIT),
    telling("executed", f"PREPARE q AS SELECT string_agg(ltrim(ssn, {{}}), '') {MANY}", f"{MEASURED}, SERIALIZE TEXT) EXECUTE q", right=DIGIT, wrong=NO_DIGIT),
    telling("own-view-measured", "CREATE TEMP TABLE k (s text)", "CREATE TEMP VIEW v AS SELECT string_agg(ltrim(s, {}), '') x FROM k, generate_series(1, 10000)", f"INSERT INTO k SELECT ssn {P}", f"{MEASURED}, SERIALIZE TEXT) SELECT x FROM v", right=DIGIT, wrong=NO_DIGIT),
]  # fmt: skip

# The token of whoever has that value.
MRN = f"SELECT mrn AS x {P}"
HAS, HAS_NOT = "'MRN-77418093'", "'MRN-77418094'"
TOKENS = [
    telling("token-by-union", f"{MRN} UNION ALL SELECT {{}}", right=HAS, wrong=HAS_NOT),
    telling("token-by-values", "SELECT v.x FROM patients p, LATERAL (VALUES (p.mrn), ({})) v(x) WHERE p.id = 900001", right=HAS, wrong=HAS_NOT),
    telling("token-by-recursion", f"WITH RECURSIVE r(i, x) AS (SELECT 1, mrn {P} UNION ALL SELECT 2, {{}} FROM r WHERE i < 2) SELECT x FROM r", right=HAS, wrong=HAS_NOT),
    telling("token-by-subquery", f"SELECT (SELECT x FROM (SELECT 1 AS i, mrn AS x {P} UNION ALL SELECT 2, {{}}) q WHERE i = g) FROM generate_series(1, 2) g", right=HAS, wrong=HAS_NOT),
    telling("token-of-many", f"{MRN} UNION ALL SELECT 'MRN-' || g FROM generate_series({{}}, 77418099) g LIMIT 2", right="77418093", wrong="77418094"),
    telling("token-out-of-an-open-table", "INSERT INTO attack_keyed VALUES ({}) ON CONFLICT DO NOTHING", f"{MRN} UNION ALL SELECT word FROM attack_keyed WHERE word = {{}}", "DELETE FROM attack_keyed", right=HAS, wrong=HAS_NOT),
    telling("token-out-of-a-temporary-table", "CREATE TEMP TABLE k (x text)", "INSERT INTO k VALUES ({})", f"{MRN} UNION ALL SELECT x FROM k", right=HAS, wrong=HAS_NOT),
    telling("token-in-a-temporary-table", f"CREATE TEMP TABLE k AS SELECT mrn::text AS x {P}", "INSERT INTO k VALUES ({})", "SELECT x FROM k", right=HAS, wrong=HAS_NOT),
]  # fmt: skip

# … or a table of the session's own that was filled with it.
FILLED = f"CREATE TEMP TABLE k AS SELECT ltrim(ssn, {{}}) || 'aaaaa' AS x {MANY.replace('10000', '65000')}"
SIZES = [
    telling("place-of-the-last-row", FILLED, "SELECT max(ctid) FROM k", right=DIGIT, wrong=NO_DIGIT),
    telling("order-of-places", FILLED, "SELECT ctid FROM k ORDER BY ctid DESC LIMIT 1", right=DIGIT, wrong=NO_DIGIT),
    telling("size-of-the-table", FILLED, "SELECT pg_relation_size('k', 'main')", right=DIGIT, wrong=NO_DIGIT),
    telling("pages-of-the-table", FILLED, "ANALYZE k", "SELECT relpages FROM pg_class WHERE relname = 'k'", right=DIGIT, wrong=NO_DIGIT),
    telling("estimate-of-rows", FILLED, "EXPLAIN SELECT 1 FROM k", right=DIGIT, wrong=NO_DIGIT),
]  # fmt: skip

CASES = FAILS + STRICT + BROUGHT + REFUSES + HOLDS + REPEATS + WEIGHS + TOKENS + SIZES


def tried(target: Target, case: Telling, guess: str, mode: Mode, *, rehearsal: bool) -> Answer:
    steps = tuple(step.replace("{}", guess) for step in case.steps)
    return play(target, attack(case.name, *steps), mode, rehearsal=rehearsal)


@pytest.mark.e2e
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("mode", [Mode.SIMPLE])
@pytest.mark.by_turns(2)
def test_right_and_wrong_guess_tell_the_same(arena: Arena, case: Telling, mode: Mode) -> None:
    control = [visible(tried(arena.direct, case, guess, mode, rehearsal=True)) for guess in (case.right, case.wrong)]
    assert control[0] != control[1], f"the control cannot tell the guesses apart: {control[0]}"

    right, wrong = (tried(arena.bare, case, guess, mode, rehearsal=False) for guess in (case.right, case.wrong))

    assert (right.refused and wrong.refused) or visible(right) == visible(wrong), (
        f"right: {describe(right)}; wrong: {describe(wrong)}"
    )


@pytest.mark.e2e
@pytest.mark.parametrize("table", ["attack_known", "attack_referring"])
def test_copied_rows_tell_nothing_of_stored_ones(arena: Arena, table: str) -> None:
    tries = [
        attack("copied", f"COPY {table} (word) FROM STDIN", copy_in=f"{guess}\n".encode())
        for guess in ("536-71-9284", "536-71-9285")
    ]
    control = [visible(play(arena.direct, each, Mode.SIMPLE, rehearsal=True)) for each in tries]
    assert control[0] != control[1], f"the control cannot tell the guesses apart: {control[0]}"

    told = [play(arena.bare, each, Mode.SIMPLE, rehearsal=False) for each in tries]

    assert all(answer.refused for answer in told), " / ".join(map(describe, told))


NOT_HELD = [
    f"SELECT age(dob), date_trunc('year', dob), extract(year FROM age(dob)), upper(last_name) || ', ' || first_name {P}",
    f"SELECT avg(age(dob)), max(dob), min(ssn), array_agg(last_name), count(DISTINCT zip) {P}",
    f"SELECT last_name::varchar(3), dob::timestamp, to_char(dob, 'YYYY'), greatest(ssn, mrn), ssn = '1' {P}",
    f"SELECT coalesce(first_name, last_name), nullif(first_name, ''), ARRAY[first_name, last_name] {P}",
    f"EXPLAIN ANALYZE SELECT id, ssn, last_name {P}",
    f"SELECT substr(ssn, 1, 3), substring(upper(last_name) FROM 1 FOR 2), split_part(email, '@', 2) {P}",
    f"SELECT extract(year FROM coalesce(dob, '2000-01-01')), extract(year FROM min(dob)) {P} GROUP BY dob",
    f"SELECT (ssn, zip) < ('5', '9'), (ARRAY[ssn, mrn])[1], round(avg(extract(year FROM age(dob))), 1) {P} GROUP BY ssn, zip, mrn",
    "CREATE TEMP TABLE j AS SELECT patient_id, upper(kind) AS kind, count(*) AS n FROM encounters GROUP BY 1, 2",
    "CREATE INDEX ON j (kind, n)",
    "DROP TABLE j",
    "CREATE TEMP TABLE k (i int NOT NULL, s varchar(40))",
    f"INSERT INTO k SELECT id, ssn {P}",
    "DROP TABLE k",
]


@pytest.mark.e2e
def test_what_cannot_tell_anything_is_not_held(arena: Arena) -> None:
    answer = play(arena.bare, attack("ordinary", *NOT_HELD), Mode.SIMPLE, rehearsal=False)

    assert (answer.errors, answer.review_url) == ([], None), describe(answer)
