"""Shape: the same value under another name, through another expression, at another place of the statement."""

from __future__ import annotations

import pytest

from tests.bypass.attack import Arena, Attack, Mode, assert_contained, attack, by_turns, case_id, cases

P = "FROM patients p WHERE p.id = 900001"
I = "FROM attack_identifiers WHERE id = 1"  # noqa: E741

NAMES = [
    attack("plain-column", f"SELECT ssn {P}"),
    attack("alias", f"SELECT ssn AS y {P}"),
    attack("alias-of-harmless-column", f"SELECT ssn AS city {P}"),
    attack("quoted-alias", f'SELECT p."ssn" AS "SSN ok" {P}'),
    attack("star", f"SELECT * {P}"),
    attack("table-star", f"SELECT p.* {P}"),
    attack("star-twice", f"SELECT p.*, p.* {P}"),
    attack("table-command", "TABLE patients"),
    attack("qualified", "SELECT public.patients.ssn FROM public.patients WHERE id = 900001"),
    attack("only", "SELECT ssn FROM ONLY patients WHERE id = 900001"),
    attack("descendants-star", "SELECT ssn FROM patients * WHERE id = 900001"),
    attack("column-alias-list", "SELECT d FROM patients AS q(a, b, c, e, d) WHERE a = 900001"),
    attack(
        "column-alias-shifts-names",
        "SELECT state FROM patients AS q(id, a, b, c, state, d, e, f, g, h, i, j) WHERE id = 900001",
    ),
    attack(
        "join-stars", "SELECT e.*, p.* FROM encounters e JOIN patients p ON p.id = e.patient_id WHERE p.id = 900001"
    ),
    attack("using-shifts", "SELECT * FROM patients a JOIN patients b USING (id) WHERE id = 900001"),
    attack("using-shifts-sub", "SELECT * FROM (SELECT 1 AS x, id FROM encounters) e JOIN patients USING (id)"),
    attack("natural-join", "SELECT * FROM patients NATURAL JOIN (SELECT 900001 AS id, 1 AS one) t"),
    attack(
        "join-alias",
        "SELECT j.ssn FROM (patients p JOIN encounters e ON e.patient_id = p.id) AS j(a,b,c,d,ssn) WHERE a = 900001",
    ),
    attack("self-join", "SELECT b.ssn FROM patients a JOIN patients b ON a.id = b.id WHERE a.id = 900001"),
    attack(
        "lateral",
        "SELECT l.s FROM encounters e, LATERAL (SELECT ssn AS s FROM patients WHERE id = e.patient_id) l"
        " WHERE e.id = 900001",
    ),
]

EXPRESSIONS = [
    attack("upper", f"SELECT upper(last_name) {P}"),
    attack("concat-operator", f"SELECT 'x' || ssn {P}"),
    attack("concat-function", f"SELECT concat('[', ssn, ']') {P}"),
    attack("concat-ws", f"SELECT concat_ws('-', first_name, last_name) {P}"),
    attack("format", f"SELECT format('%s is %s', last_name, ssn) {P}"),
    attack("quote-literal", f"SELECT quote_literal(ssn) {P}"),
    attack("reverse", f"SELECT reverse(ssn) {P}"),
    attack("translate", f"SELECT translate(ssn, '-', '') {P}"),
    attack("replace", f"SELECT replace(ssn, '-', '') {P}"),
    attack("regexp-replace", f"SELECT regexp_replace(ssn, '[^0-9]', '', 'g') {P}"),
    attack("regexp-match", f"SELECT regexp_match(ssn, '.*') {P}"),
    attack("regexp-split", f"SELECT regexp_split_to_array(last_name, 'zzz') {P}"),
    attack("substring-head", f"SELECT substr(last_name, 1, 8) {P}", leaks=("Quixandr",)),
    attack("substring-from", f"SELECT substring(last_name FROM 2) {P}", leaks=("uixandrel",)),
    attack("left-right", f"SELECT left(last_name, 5), right(last_name, 5) {P}", leaks=("Quixa", "ndrel")),
    attack(
        "split-over-columns",
        f"SELECT substr(last_name,1,4) a, substr(last_name,5,3) b, substr(last_name,8) c {P}",
        leaks=("Quix", "rel"),
    ),
    attack("overlay", f"SELECT overlay(last_name PLACING '' FROM 1 FOR 1) {P}", leaks=("uixandrel",)),
    attack("split-part", f"SELECT split_part(ssn, '-', 3), split_part(email, '@', 1) {P}", leaks=("zyphorae.quix",)),
    attack("lpad", f"SELECT lpad(ssn, 40, '*') {P}"),
    attack("initcap", f"SELECT initcap(last_name) {P}"),
    attack("base64", f"SELECT encode(ssn::bytea, 'base64') {P}"),
    attack("hex", f"SELECT encode(convert_to(ssn, 'UTF8'), 'hex') {P}"),
    attack("bytea-cast", f"SELECT ssn::bytea {P}"),
    attack("md5", f"SELECT md5(ssn) {P}"),
    attack("sha256", f"SELECT sha256(ssn::bytea) {P}"),
    attack("cast-varchar", f"SELECT ssn::varchar(20) {P}"),
    attack("cast-date-text", f"SELECT dob::text {P}"),
    attack("to-char", f"SELECT to_char(dob, 'YYYY-MM-DD') {P}"),
    attack("date-arithmetic", f"SELECT dob - date '1900-01-01' {P}", leaks=("17253",), modes=(Mode.SIMPLE,)),
    attack("date-plus-zero", f"SELECT dob + 0 {P}"),
    attack("date-trunc", f"SELECT date_trunc('day', dob)::date {P}"),
    attack("extract-doy", f"SELECT 'doy' || extract(doy FROM dob) {P}", leaks=("doy88",)),
    attack("daterange", f"SELECT daterange(dob, dob, '[]')::text {P}"),
    attack("age", f"SELECT age(timestamp '2047-03-29', dob)::text {P}", leaks=("100 years",)),
    attack("number-from-text", f"SELECT replace(ssn, '-', '')::bigint {P}", modes=(Mode.SIMPLE, Mode.EXTENDED_TEXT)),
    attack(
        "ascii-array",
        f"SELECT string_agg(ascii(c)::text, ',') FROM (SELECT string_to_table(last_name, NULL) c {P}) x",
        leaks=("81,117,105,120",),
    ),
    attack("string-to-table", f"SELECT string_to_table(last_name, 'zzz') {P}"),
    attack("string-to-array", f"SELECT string_to_array(ssn, ',') {P}"),
    attack("array-constructor", f"SELECT ARRAY[ssn, mrn] {P}"),
    attack("array-subscript", f"SELECT (ARRAY[ssn])[1] {P}"),
    attack("case-always", f"SELECT CASE WHEN true THEN ssn ELSE 'x' END {P}"),
    attack("coalesce", f"SELECT coalesce(NULL, ssn) {P}"),
    attack("nullif", f"SELECT nullif(ssn, '') {P}"),
    attack("greatest", f"SELECT greatest(ssn, '') {P}"),
    attack("collate", f'SELECT ssn COLLATE "C" {P}'),
    attack("scalar-subquery", "SELECT (SELECT ssn FROM patients WHERE id = 900001)"),
    attack("array-subquery", "SELECT ARRAY(SELECT ssn FROM patients WHERE id = 900001)"),
    attack("subquery-in-values", "VALUES (1, (SELECT ssn FROM patients WHERE id = 900001))"),
    attack("subquery-in-function", "SELECT lower((SELECT last_name FROM patients WHERE id = 900001))"),
    attack("subquery-in-case", "SELECT CASE WHEN true THEN (SELECT ssn FROM patients WHERE id = 900001) END"),
    attack("tsvector", f"SELECT to_tsvector('simple', last_name) {P}", modes=(Mode.SIMPLE, Mode.EXTENDED_TEXT)),
    attack("ts-headline", f"SELECT ts_headline('simple', last_name, 'x'::tsquery) {P}"),
    attack("json-object", f"SELECT json_build_object('n', last_name) {P}"),
    attack("json-array", f"SELECT jsonb_build_array(ssn, dob) {P}"),
    attack("json-standard-constructor", f"SELECT JSON_OBJECT('a': ssn) {P}"),
    attack("json-standard-aggregate", f"SELECT JSON_ARRAYAGG(ssn) {P}"),
    attack("jsonb-path", f"SELECT jsonb_path_query(to_jsonb(p), '$.ssn') {P}"),
    attack(
        "json-table",
        "SELECT t.v FROM patients p, JSON_TABLE(to_jsonb(p), '$' COLUMNS (v text PATH '$.ssn')) t WHERE p.id = 900001",
    ),
    attack("operator-spelling", f"SELECT 'x' OPERATOR(pg_catalog.||) ssn {P}"),
    attack("set-byte", f"SELECT convert_from(ssn::bytea || ''::bytea, 'UTF8') {P}"),
]

SETS = [
    attack("derived-table", f"SELECT x.s FROM (SELECT ssn AS s {P}) x"),
    attack("derived-twice", f"SELECT t FROM (SELECT s AS t FROM (SELECT ssn AS s {P}) x) y"),
    attack("union-later-arm", f"SELECT 'a' UNION ALL SELECT ssn {P}"),
    attack("union-three-arms", f"SELECT city FROM patients WHERE id = 900002 UNION SELECT 'b' UNION SELECT ssn {P}"),
    attack(
        "union-of-literals-and-star",
        f"SELECT id, city, state FROM patients WHERE id = 900002 UNION ALL SELECT id, ssn, state {P}",
    ),
    attack("intersect", f"SELECT ssn {P} INTERSECT SELECT ssn FROM patients"),
    attack("except", f"SELECT ssn {P} EXCEPT SELECT 'x'"),
    attack("union-in-cte", f"WITH u AS (SELECT 'a' AS v UNION ALL SELECT ssn {P}) SELECT v FROM u"),
    attack("values-join", "SELECT p.ssn FROM (VALUES (900001)) v(i) JOIN patients p ON p.id = v.i"),
    attack("cte", f"WITH c AS (SELECT ssn AS s {P}) SELECT s FROM c"),
    attack("cte-column-list", f"WITH c(harmless) AS (SELECT ssn {P}) SELECT harmless FROM c"),
    attack("cte-materialized", f"WITH c AS MATERIALIZED (SELECT ssn {P}) SELECT * FROM c"),
    attack("cte-shadows-table", f"WITH encounters AS (SELECT ssn AS kind {P}) SELECT kind FROM encounters"),
    attack(
        "cte-shadow-is-not-qualified",
        "WITH patients AS (SELECT 'x' AS ssn) SELECT ssn FROM public.patients WHERE id = 900001",
    ),
    attack(
        "cte-inner-scope",
        "WITH a AS (WITH patients AS (SELECT 1 AS id) SELECT * FROM patients) "
        "SELECT p.ssn FROM patients p, a WHERE p.id = 900001",
    ),
    attack(
        "cte-recursive",
        f"WITH RECURSIVE r(n, s) AS (SELECT 1, ssn {P} UNION ALL SELECT n + 1, s FROM r WHERE n < 2) "
        "SELECT s FROM r WHERE n = 2",
    ),
    attack(
        "cte-recursive-swaps",
        f"WITH RECURSIVE r(n, a, b) AS (SELECT 1, 'x'::text, ssn {P} UNION ALL "
        "SELECT n + 1, b, a FROM r WHERE n < 2) SELECT a FROM r WHERE n = 2",
    ),
    attack(
        "cte-search-clause",
        f"WITH RECURSIVE r(n, s) AS (SELECT 1, ssn {P} UNION ALL SELECT n + 1, s FROM r "
        "WHERE n < 2) SEARCH DEPTH FIRST BY s SET path SELECT path FROM r",
    ),
    attack("distinct-on", f"SELECT DISTINCT ON (id) ssn {P}"),
    attack("group-by-value", f"SELECT ssn, count(*) {P} GROUP BY ssn"),
    attack("grouping-sets", f"SELECT ssn {P} GROUP BY GROUPING SETS ((ssn), ())"),
    attack("pivot-by-case", "SELECT max(CASE WHEN id = 900001 THEN ssn END) AS c1 FROM patients"),
    attack("min", f"SELECT min(ssn) {P}"),
    attack("max-date", f"SELECT max(dob) {P}"),
    attack("any-value", f"SELECT any_value(ssn) {P}"),
    attack("string-agg", f"SELECT string_agg(ssn, ',') {P}"),
    attack("array-agg", f"SELECT array_agg(ssn) {P}"),
    attack("aggregate-filter", "SELECT max(ssn) FILTER (WHERE id = 900001) FROM patients"),
    attack("mode-within-group", f"SELECT mode() WITHIN GROUP (ORDER BY ssn) {P}"),
    attack("percentile", f"SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY dob) {P}"),
    attack("first-value", f"SELECT first_value(ssn) OVER (ORDER BY id) {P}"),
    attack("lag", "SELECT lag(ssn) OVER (ORDER BY id) FROM patients WHERE id IN (900001, 900002)"),
    attack("named-window", f"SELECT last_value(ssn) OVER w {P} WINDOW w AS (ORDER BY id)"),
    attack("unnest", f"SELECT unnest(array_agg(ssn)) {P}"),
    attack("unnest-in-from", "SELECT u FROM unnest(ARRAY(SELECT ssn FROM patients WHERE id = 900001)) u"),
    attack(
        "rows-from",
        "SELECT * FROM ROWS FROM (unnest(ARRAY(SELECT ssn FROM patients WHERE id = 900001)), "
        "generate_series(1, 2)) AS t(a, b)",
    ),
    attack("lateral-function", "SELECT f FROM patients p, LATERAL string_to_table(p.ssn, 'x') f WHERE p.id = 900001"),
    attack("tablesample", "SELECT ssn FROM patients TABLESAMPLE BERNOULLI (100) WHERE id = 900001"),
    attack("fetch-first-ties", f"SELECT ssn {P} ORDER BY id FETCH FIRST 1 ROW WITH TIES"),
    attack("for-update", f"SELECT ssn {P} FOR UPDATE"),
    attack("for-share-skip", f"SELECT ssn {P} FOR KEY SHARE SKIP LOCKED"),
]

WHOLE_ROWS = [
    attack("row", f"SELECT p {P}"),
    attack("row-of-table-name", "SELECT patients FROM patients WHERE id = 900001"),
    attack("row-text", f"SELECT p::text {P}"),
    attack("row-field", f"SELECT (p).ssn {P}"),
    attack("row-expansion", f"SELECT (p).* {P}"),
    attack("row-constructor", f"SELECT ROW(p.*)::text {P}"),
    attack("row-of-columns", f"SELECT (id, ssn) {P}"),
    attack("row-to-json", f"SELECT row_to_json(p) {P}"),
    attack("to-jsonb", f"SELECT to_jsonb(p) {P}"),
    attack("to-jsonb-field", f"SELECT to_jsonb(p) ->> 'ssn' {P}"),
    attack("json-agg", f"SELECT json_agg(p) {P}"),
    attack("jsonb-object-agg", f"SELECT jsonb_object_agg(p.id, p) {P}"),
    attack("array-of-rows", f"SELECT array_agg(p) {P}"),
    attack("subselected-row", "SELECT (SELECT p FROM patients p WHERE p.id = 900001)"),
    attack("field-of-derived-row", f"SELECT (d.sub).ssn FROM (SELECT p AS sub {P}) d"),
    attack("expansion-of-derived-row", f"SELECT (d.sub).* FROM (SELECT p AS sub {P}) d"),
    attack("row-in-cte", f"WITH c AS (SELECT p AS r {P}) SELECT (r).last_name FROM c"),
    attack("row-aggregate-field", f"SELECT (array_agg(p))[1].ssn {P}"),
    attack("attribute-as-function", "SELECT ssn(p) FROM patients p WHERE p.id = 900001"),
    attack("function-as-attribute", "SELECT p.row_to_json FROM patients p WHERE p.id = 900001"),
    attack("jsonb-each", "SELECT e.* FROM patients p, jsonb_each_text(to_jsonb(p)) e WHERE p.id = 900001"),
    attack("jsonb-elements", "SELECT jsonb_array_elements(jsonb_agg(p)) FROM patients p WHERE p.id = 900001"),
    attack("populate-record", f"SELECT (jsonb_populate_record(NULL::patients, to_jsonb(p))).ssn {P}"),
    attack(
        "jsonb-to-record",
        "SELECT r.ssn FROM patients p, jsonb_to_record(to_jsonb(p)) AS r(ssn text) WHERE p.id = 900001",
    ),
    attack("row-max", f"SELECT max(ROW(ssn, 1)::text) {P}"),
    attack("row-coalesce", f"SELECT coalesce(p, p) {P}"),
    attack("row-in-record-union", f"SELECT p {P} UNION ALL SELECT p {P}"),
    attack(
        "join-row",
        "SELECT j FROM (patients p JOIN encounters e ON e.patient_id = p.id) AS j "
        "WHERE j.department = 'Attack Department'",
    ),
    attack("derived-row-reference", f"SELECT d FROM (SELECT ssn {P}) d"),
    attack("view-row", "SELECT doc FROM attack_view_row WHERE id = 900001"),
    attack("polymorphic-function", f"SELECT attack_polymorphic(p) {P}"),
    attack("concat-row", f"SELECT concat(p) {P}"),
    attack("format-row", f"SELECT format('%s', p) {P}"),
]

RETURNING = [
    attack("update-returning", "UPDATE patients SET sex = sex WHERE id = 900001 RETURNING ssn"),
    attack("update-returning-star", "UPDATE patients SET sex = sex WHERE id = 900001 RETURNING *"),
    attack("update-returning-row", "UPDATE patients SET sex = sex WHERE id = 900001 RETURNING to_jsonb(patients)"),
    attack("update-returning-old", "UPDATE patients SET ssn = 'x' WHERE id = 900001 RETURNING old.ssn"),
    attack(
        "update-from-returning",
        "UPDATE encounters e SET status = status FROM patients p WHERE p.id = e.patient_id "
        "AND p.id = 900001 RETURNING p.ssn",
    ),
    attack("delete-returning", "DELETE FROM claims WHERE id = 900001 RETURNING member_id"),
    attack(
        "delete-using-returning",
        "DELETE FROM claims c USING patients p WHERE p.id = c.patient_id AND p.id = 900001 RETURNING p.last_name",
    ),
    attack(
        "insert-select-returning",
        "INSERT INTO attack_echo (id, note) SELECT 900002, ssn FROM patients WHERE id = 900001 RETURNING note",
    ),
    attack(
        "upsert-returning",
        "INSERT INTO patients SELECT * FROM patients WHERE id = 900001 "
        "ON CONFLICT (id) DO UPDATE SET sex = excluded.sex RETURNING ssn",
    ),
    attack("writable-cte", "WITH u AS (UPDATE patients SET sex = sex WHERE id = 900001 RETURNING *) SELECT ssn FROM u"),
    attack(
        "writable-cte-delete", "WITH d AS (DELETE FROM claims WHERE id = 900001 RETURNING *) SELECT to_jsonb(d) FROM d"
    ),
    attack(
        "merge-returning",
        "MERGE INTO patients t USING (SELECT 900001 AS id) s ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET sex = t.sex RETURNING t.ssn",
    ),
]

_COLUMNS = (
    "national_id",
    "account",
    "score",
    "balance",
    "admitted",
    "device",
    "origin",
    "payload",
    "tags",
    "photo",
    "code",
)
TYPES = [
    *(attack(f"type-{column}", f"SELECT {column} {I}") for column in _COLUMNS),
    *(attack(f"type-{column}-array", f"SELECT ARRAY[{column}] {I}") for column in _COLUMNS if column != "tags"),
    *(attack(f"type-{column}-text", f"SELECT {column}::text {I}") for column in _COLUMNS if column != "photo"),
    attack("type-all", f"SELECT * {I}"),
    attack("type-seen", f"SELECT seen {I}", modes=(Mode.SIMPLE, Mode.EXTENDED_TEXT)),
    attack("type-jsonb-field", f"SELECT payload ->> 'name' {I}"),
    attack("type-jsonb-subscript", f"SELECT payload['name'] {I}"),
    attack("type-array-element", f"SELECT tags[1] {I}"),
    attack("type-int-plus-zero", f"SELECT national_id + 0 {I}"),
    attack("type-sum", f"SELECT sum(account) {I}", modes=(Mode.SIMPLE, Mode.EXTENDED_TEXT)),
    attack("type-avg", f"SELECT avg(national_id)::bigint::text {I}"),
    attack("type-int-range", f"SELECT int4range(national_id, NULL)::text {I}"),
    attack("type-bit-cast", f"SELECT national_id::bit(32)::int {I}"),
]

N = "FROM clinical_notes WHERE id = 900001"
NOTES = [
    attack("note", f"SELECT note {N}"),
    attack("note-upper", f"SELECT upper(note) {N}"),
    attack("note-in-json", f"SELECT json_build_object('note', note) {N}"),
    attack("note-whole-row", f"SELECT n {N.replace('clinical_notes', 'clinical_notes n')}"),
    attack("note-aggregated", f"SELECT string_agg(note, '; ') {N}"),
    attack("note-bytes", f"SELECT note::bytea {N}"),
    attack("note-match", f"SELECT substring(note FROM '[0-9]{{3}}-[0-9]{{2}}-[0-9]{{4}}') {N}"),
    # The next ones are what an agent tries once it knows that values are recognised by their look.
    attack("note-reversed", f"SELECT reverse(note) {N}"),
    attack("note-base64", f"SELECT encode(note::bytea, 'base64') {N}"),
    attack("note-hex", f"SELECT encode(note::bytea, 'hex') {N}"),
    attack("note-spaced", f"SELECT regexp_replace(note, '(.)', '\\1_', 'g') {N}", leaks=("5_4_1_-_8_2_-_6_6_3_7",)),
    attack(
        "note-split",
        f"SELECT substr(note, strpos(note, '541'), 5), substr(note, strpos(note, '541') + 5, 6) {N}",
        leaks=("2-6637", "-6637"),
    ),
    attack("note-translated", f"SELECT translate(note, '0123456789', 'abcdefghij') {N}", leaks=("feb-ic-ggdh",)),
]

ATTACKS: list[Attack] = NOTES + NAMES + EXPRESSIONS + SETS + WHOLE_ROWS + RETURNING + TYPES
# A type is written otherwise in each mode.
CASES = by_turns(ATTACKS[: -len(TYPES)]) + cases(TYPES)


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), CASES, ids=case_id)
@pytest.mark.by_turns(2)
def test_shape_discloses_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode)
