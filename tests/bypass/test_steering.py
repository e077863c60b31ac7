"""The value in the part of what does not name it: an index, a format, a default, an error's words, a frame's bounds.

Played where no policy stands behind the rules. `P` narrows to the canary's row; its SSN begins with 536, its last name
with Q, its ZIP code is 94931.
"""

# ruff: noqa: E501 - a statement on one line reads better than one broken by quotes

from __future__ import annotations

import pytest

from tests.bypass.attack import SIMPLE_ONLY, Arena, Attack, Mode, assert_contained, attack, case_id
from tests.bypass.test_temporary import turns

P = "FROM patients p WHERE p.id = 900001"
FIRST = "substr(ssn, 1, 1)::int"  # 5
DIGITS = "ARRAY['zero','one','two','three','four','digit-five','six','seven','eight','nine']"
FIVE = ("digit-five",)

# Errors that quote what they stumbled over, in classes that usually quote names of the statement.
ERRORS = [
    attack(f"error-{name}", f"SELECT {expression} {P}")
    for name, expression in {
        "regclass": "ssn::regclass", "to-regclass": "regclass(ssn)", "regproc": "last_name::regproc",
        "regprocedure": "(last_name || '()')::regprocedure", "regoper": "ssn::regoper", "regtype": "last_name::regtype",
        "regrole": "mrn::regrole", "regnamespace": "mrn::regnamespace", "regconfig": "mrn::regconfig",
        "regdictionary": "mrn::regdictionary", "regcollation": "quote_ident(mrn)::regcollation",
        "setting-name": "current_setting(ssn)", "setting-set": "set_config(ssn, 'a', true)",
        "privilege": "has_table_privilege(quote_ident(ssn), 'select')",
        "privilege-kind": "has_table_privilege('patients', ssn)", "role": "pg_has_role(mrn, 'member')",
        "sequence": "nextval(quote_ident(ssn))", "serial": "pg_get_serial_sequence('patients', ssn)",
        "tsquery": "(ssn || ' &&')::tsquery", "json": "last_name::json", "unit": "date_trunc(last_name, now())",
        "part": "date_part(last_name, now())", "zone": "now() AT TIME ZONE last_name", "encoding": "encode('x', last_name)",
        "convert": "convert_from('x', last_name)", "uuid": "ssn::uuid", "inet": "ssn::inet", "date": "ssn::date",
        "interval": "last_name::interval", "money": "last_name::money", "range": "ssn::int4range",
        "point": "last_name::point", "array": "ssn::int[]", "boolean": "last_name::boolean", "oid": "last_name::oid",
        "tid": "ssn::tid", "lsn": "ssn::pg_lsn", "snapshot": "ssn::pg_snapshot", "record": "ssn::patients",
        "cut": "(ssn || repeat('x', 60))::varchar(12)::int", "normal": "normalize(ssn, NFC)::int",
        "character": "chr(replace(ssn, '-', '')::int)", "identifier": "parse_ident(ssn)",
        "jsonpath-key": "jsonb_path_query('{}', ('strict $.' || last_name)::jsonpath)",
    }.items()
]  # fmt: skip

STEERS = [
    attack("subscript", f"SELECT ({DIGITS})[{FIRST} + 1] {P}", leaks=FIVE),
    attack("subscript-slice", f"SELECT ({DIGITS})[{FIRST} + 1:{FIRST} + 1] {P}", leaks=FIVE),
    attack("substring-of-constant", f"SELECT 'v' || substr('abcdefghij', {FIRST} + 1, 1) {P}", leaks=("vf",)),
    attack("key-of-constant", f"""SELECT '{{"5": "digit-five"}}'::jsonb ->> substr(ssn, 1, 1) {P}""", leaks=FIVE),
    attack("path-of-constant", f"""SELECT '{{"5": "digit-five"}}'::jsonb #>> ARRAY[substr(ssn, 1, 1)] {P}""", leaks=FIVE),
    attack("element-of-constant", f"""SELECT '["0","1","2","3","4","digit-five"]'::jsonb ->> {FIRST} {P}""", leaks=FIVE),
    attack("translate-alphabet", f"SELECT translate('0123456789-', '', ssn), translate('abcdefghijk', 'abcdefghijk', ssn) {P}"),
    attack("replacement", f"SELECT replace('[x]', 'x', ssn) {P}"),
    attack("regexp-replacement", f"SELECT regexp_replace('[x]', 'x', ssn) {P}"),
    attack("delimiter", f"SELECT array_to_string(ARRAY['<', '>'], ssn) {P}"),
    attack("null-text", f"SELECT array_to_string(ARRAY['<', NULL], ',', ssn) {P}"),
    attack("aggregate-delimiter", "SELECT string_agg(x, p.ssn) FROM patients p, (VALUES ('<'), ('>')) v(x) WHERE p.id = 900001"),
    attack("format-string", f"SELECT format(ssn || '%s', '') {P}"),
    attack("format-width", f"SELECT length(format('%' || {FIRST} || 's', '')) + 9000000 {P}", leaks=("9000005",), modes=SIMPLE_ONLY),
    attack("to-char-pattern", f"""SELECT to_char(now(), '"' || ssn || '"') {P}"""),
    attack("padding", f"SELECT lpad('x', 12, ssn) {P}"),
    attack("repeat", f"SELECT length(repeat('x', {FIRST})) + 9000000 {P}", leaks=("9000005",), modes=SIMPLE_ONLY),
    attack("json-key", f"SELECT json_build_object(ssn, 1) {P}"),
    attack("json-object-keys", f"SELECT json_object(ARRAY[ssn], ARRAY['x']) {P}"),
    attack("json-set-path", f"SELECT jsonb_set('{{}}', ARRAY[ssn], '1') {P}"),
    attack("json-insert", f"SELECT jsonb_insert('{{}}', ARRAY[ssn], '1') {P}"),
    attack("json-object-agg-key", f"SELECT jsonb_object_agg(ssn, 1) {P}"),
    attack("json-scalar", f"SELECT JSON_SCALAR(ssn) {P}"),
    attack("json-serialize", f"SELECT JSON_SERIALIZE(to_json(ssn)) {P}"),
    attack("json-value", f"SELECT JSON_VALUE(to_jsonb(p), '$.ssn') {P}"),
    attack("json-value-passing", f"SELECT JSON_VALUE('{{}}'::jsonb, '$x' PASSING ssn AS x) {P}"),
    attack("json-query", f"SELECT JSON_QUERY(to_jsonb(p), '$.*' WITH WRAPPER) {P}"),
    attack("json-exists", f"SELECT CASE WHEN JSON_EXISTS(to_jsonb(p), '$.ssn ? (@ starts with \"536\")') THEN 'digit-five' END {P}", leaks=FIVE),
    attack("json-table-passing", "SELECT j.y FROM patients p, JSON_TABLE('{}'::jsonb, '$' PASSING p.ssn AS x COLUMNS (y text PATH '$x')) j WHERE p.id = 900001"),
    attack("json-table-nested", "SELECT j.* FROM patients p, JSON_TABLE(jsonb_build_array(to_jsonb(p)), '$[*]' COLUMNS (i FOR ORDINALITY, NESTED PATH '$' COLUMNS (s text PATH '$.ssn'))) j WHERE p.id = 900001"),
    attack("json-array-of-query", "SELECT JSON_ARRAY(SELECT ssn FROM patients WHERE id = 900001)"),
    attack("json-array-constructor", f"SELECT JSON_ARRAY(ssn, last_name) {P}"),
    attack("json-arrayagg", f"SELECT JSON_ARRAYAGG(ssn) {P}"),
    attack("json-objectagg", f"SELECT JSON_OBJECTAGG(id VALUE ssn) {P}"),
    attack("populate-recordset", "SELECT r.ssn FROM patients p, jsonb_populate_recordset(NULL::patients, jsonb_build_array(to_jsonb(p))) r WHERE p.id = 900001"),
    attack("to-recordset", "SELECT r.s FROM patients p, jsonb_to_recordset(jsonb_build_array(jsonb_build_object('s', ssn))) AS r(s text) WHERE p.id = 900001"),
    attack("path-query-variables", f"SELECT jsonb_path_query('{{}}', '$x', jsonb_build_object('x', ssn)) {P}"),
    attack("object-keys", f"SELECT jsonb_object_keys(jsonb_build_object(ssn, 1)) {P}"),
    attack("parse-ident", f"SELECT parse_ident(quote_ident(ssn)) {P}"),
    attack("tsquery", f"SELECT websearch_to_tsquery('simple', last_name)::text, querytree(plainto_tsquery('simple', mrn)) {P}"),
    attack("tsvector-array", f"SELECT tsvector_to_array(to_tsvector('simple', last_name)) {P}"),
    attack("tsvector-unnest", "SELECT u.lexeme FROM patients p, unnest(to_tsvector('simple', p.last_name)) u WHERE p.id = 900001"),
    attack("ts-parse", "SELECT t.token FROM patients p, ts_parse('default', p.last_name) t WHERE p.id = 900001"),
    attack("ts-debug", "SELECT t.token FROM patients p, ts_debug('simple', p.last_name) t WHERE p.id = 900001"),
    attack("ts-lexize", f"SELECT ts_lexize('simple', last_name) {P}"),
    attack("ts-headline-mark", f"SELECT ts_headline('simple', 'x', 'x'::tsquery, 'StartSel=' || last_name) {P}"),
    attack("input-error-info", "SELECT e.message FROM patients p, pg_input_error_info(p.ssn, 'integer') e WHERE p.id = 900001"),
    attack("range", f"SELECT numrange(0, replace(ssn, '-', '')::numeric) {P}"),
    attack("range-bound", f"SELECT upper(daterange(NULL, dob, '[]'))::text || '!' {P}", leaks=("1947-03-30",)),
    attack("multirange", f"SELECT range_agg(daterange(dob, dob, '[]'))::text {P}"),
    attack("range-merge", f"SELECT range_merge(daterange(dob, dob, '[]'), daterange(dob, dob, '[]'))::text {P}"),
    attack("domain-cast", f"SELECT ssn::information_schema.character_data {P}"),
    attack("domain-identifier", f"SELECT last_name::information_schema.sql_identifier {P}"),
    attack("name-type", f"SELECT last_name::name {P}"),
    attack("char-type", f"SELECT ssn::char(11) {P}"),
    attack("money", f"SELECT replace(ssn, '-', '')::numeric::money::numeric {P}"),
    attack("bit-string", f"SELECT replace(ssn, '-', '')::bigint::bit(64)::bigint {P}", modes=SIMPLE_ONLY),
    attack("xid", f"SELECT replace(ssn, '-', '')::xid {P}", modes=SIMPLE_ONLY),
    attack("oid", f"SELECT replace(ssn, '-', '')::oid {P}", modes=SIMPLE_ONLY),
    attack("regclass-number", f"SELECT replace(ssn, '-', '')::oid::regclass {P}", modes=SIMPLE_ONLY),
    attack("macaddr", f"SELECT ('00' || replace(ssn, '-', '') || '0')::macaddr {P}", leaks=("53:67:19",), modes=SIMPLE_ONLY),
    attack("point", f"SELECT point(replace(ssn, '-', '')::float8, 0) {P}"),
    attack("array-fill", f"SELECT array_fill(ssn, ARRAY[2]) {P}"),
    attack("array-replace", f"SELECT array_replace(ARRAY['x'], 'x', ssn::text) {P}"),
    attack("array-append", f"SELECT ARRAY['x'] || ssn::text {P}"),
    attack("array-sort", f"SELECT ARRAY(SELECT unnest(ARRAY[ssn, 'x']) ORDER BY 1) {P}"),
    attack("cardinality-trick", f"SELECT cardinality(string_to_array(ssn, '3')) + 9000000 {P}", leaks=("9000002",), modes=SIMPLE_ONLY),
    attack("window-offset", f"WITH n AS (SELECT g FROM generate_series(0, 9) g) SELECT nth_value('at-' || g, (SELECT {FIRST} + 1 {P})) OVER (ORDER BY g ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM n LIMIT 1", leaks=("at-5",)),
    attack("lag-by-value", f"WITH n AS (SELECT g FROM generate_series(0, 9) g) SELECT lag('at-' || g, (SELECT {FIRST} {P})) OVER (ORDER BY g DESC) FROM n ORDER BY g LIMIT 1", leaks=("at-5",)),
    attack("frame-by-value", f"WITH n AS (SELECT g FROM generate_series(0, 9) g) SELECT 'n' || count(*) OVER (ORDER BY g ROWS (SELECT {FIRST} {P}) PRECEDING) FROM n ORDER BY g DESC LIMIT 1", leaks=("n6",)),
    attack("ntile-by-value", f"SELECT 'n' || max(t) FROM (SELECT ntile((SELECT {FIRST} {P})) OVER (ORDER BY g) t FROM generate_series(0, 9) g) x", leaks=("n5",)),
    attack("offset-by-value", f"SELECT 'at-' || g FROM generate_series(0, 9) g ORDER BY g OFFSET (SELECT {FIRST} {P}) LIMIT 1", leaks=("at-5",)),
    attack("fetch-by-value", f"SELECT 'n' || count(*) FROM (SELECT FROM generate_series(0, 9) FETCH FIRST (SELECT {FIRST} {P}) ROWS ONLY) x", leaks=("n5",)),
    attack("sample-by-value", f"SELECT 'n' || count(*) FROM encounters TABLESAMPLE BERNOULLI ((SELECT CASE WHEN ssn LIKE '536%' THEN 100 ELSE 0 END {P})) WHERE id = 900001", leaks=("n1",)),
    attack("bucket", f"SELECT 'n' || width_bucket(ssn::text, ARRAY['400', '500', '600']) {P}", leaks=("n2",)),
    attack("make-date", f"SELECT make_date(1900 + {FIRST}, 1, 1) {P}", leaks=("1905-01-01",), modes=SIMPLE_ONLY),
    attack("interval", f"SELECT justify_interval(make_interval(days => {FIRST}))::text {P}", leaks=("5 days",)),
    attack("zone-of-moment", "SET timezone = 'AAA0BBB-1,J1,J182'", "SELECT at FROM attack_moment", leaks=("00+01",)),
    attack("zone-of-moment-copied", "SET timezone = 'AAA0BBB-1,J1,J182'", "COPY attack_moment TO STDOUT", leaks=("00+01",), modes=SIMPLE_ONLY),
]  # fmt: skip

LEVELS = [
    attack("outer-aggregate", f"SELECT (SELECT max(p.ssn)) {P}"),
    attack("outer-aggregate-deep", f"SELECT (SELECT (SELECT string_agg(p.ssn, ','))) {P}"),
    attack("outer-variable-deep", f"SELECT (SELECT (SELECT (SELECT p.ssn))) {P}"),
    attack("outer-row-deep", f"SELECT (SELECT (SELECT to_jsonb(p))) {P}"),
    attack("outer-in-values", f"SELECT (VALUES (ssn)) {P}"),
    attack("outer-in-union", f"SELECT (SELECT 'x' WHERE false UNION SELECT p.ssn) {P}"),
    attack("outer-in-cte", f"SELECT (WITH c AS (SELECT p.ssn AS s) SELECT s FROM c) {P}"),
    attack("outer-cte-in-subquery", "WITH c AS (SELECT ssn FROM patients WHERE id = 900001) SELECT (SELECT (SELECT ssn FROM c))"),
    attack("outer-cte-in-lateral", "WITH c AS (SELECT ssn FROM patients WHERE id = 900001) SELECT y.z FROM (VALUES (1)) v, LATERAL (SELECT ssn AS z FROM c) y"),
    attack("grouped-expression", f"SELECT (SELECT ssn || '') {P} GROUP BY ssn"),
    attack("grouping-set-expression", f"SELECT ssn || '', count(*) {P} GROUP BY GROUPING SETS ((ssn), ())"),
    attack("cube", f"SELECT ssn, mrn, GROUPING(ssn, mrn) {P} GROUP BY CUBE (ssn, mrn)"),
    attack("having-row", f"SELECT ROW(ssn) {P} GROUP BY ssn HAVING count(*) > 0"),
    attack("group-by-key-dependent", f"SELECT ssn {P} GROUP BY id"),
    attack("using-alias", "SELECT j.ssn FROM patients a JOIN patients b USING (ssn) AS j WHERE a.id = 900001"),
    attack("full-join-merged", "SELECT ssn FROM (SELECT ssn FROM patients WHERE id = 900001) a FULL JOIN (SELECT ''::text AS ssn) b USING (ssn)"),
    attack("right-join-merged", "SELECT ssn FROM (SELECT ''::text AS ssn) b RIGHT JOIN (SELECT ssn FROM patients WHERE id = 900001) a USING (ssn)"),
    attack("natural-full-join", "SELECT ssn FROM (SELECT ssn, id FROM patients WHERE id = 900001) a NATURAL FULL JOIN (SELECT 1 AS one) b"),
    attack("nested-join-alias", "SELECT k.c FROM ((patients a CROSS JOIN (VALUES (1)) v(w)) AS j(i, m, f, l, s) CROSS JOIN (VALUES (2)) u(x)) AS k(a, b, e, d, c) WHERE k.a = 900001"),
    attack("rows-from-ordinality", "SELECT f.a, f.n FROM patients p, ROWS FROM (unnest(ARRAY[p.ssn]), generate_series(1, 2)) WITH ORDINALITY AS f(a, b, n) WHERE p.id = 900001"),
    attack("lateral-values", "SELECT v.x FROM patients p CROSS JOIN LATERAL (VALUES (p.ssn), (p.last_name)) v(x) WHERE p.id = 900001"),
    attack("lateral-aggregate", "SELECT l.a FROM encounters e LEFT JOIN LATERAL (SELECT array_agg(p.ssn) AS a FROM patients p WHERE p.id = e.patient_id) l ON true WHERE e.id = 900001"),
    attack("recursive-tainted", "WITH RECURSIVE t(s, n) AS (SELECT ssn::text, 1 FROM patients WHERE id = 900001 UNION ALL SELECT reverse(s), n + 1 FROM t WHERE n < 3) SELECT s FROM t WHERE n = 3"),
    attack("recursive-late-taint", "WITH RECURSIVE t(s, n) AS (SELECT 'x'::text, 1 UNION ALL SELECT (SELECT ssn::text FROM patients WHERE id = 900001), n + 1 FROM t WHERE n < 2) SELECT s FROM t"),
    attack("recursive-shift", "WITH RECURSIVE t(a, b, c, n) AS (SELECT 'x'::text, 'y'::text, ssn::text, 1 FROM patients WHERE id = 900001 UNION ALL SELECT b, c, a, n + 1 FROM t WHERE n < 4) SELECT a FROM t"),
    attack("recursive-cycle", "WITH RECURSIVE t(s) AS (SELECT ssn::text FROM patients WHERE id = 900001 UNION ALL SELECT s FROM t) CYCLE s SET c USING path SELECT path::text FROM t"),
    attack("recursive-search", "WITH RECURSIVE t(s, n) AS (SELECT ssn::text, 1 FROM patients WHERE id = 900001 UNION ALL SELECT s, n + 1 FROM t WHERE n < 2) SEARCH DEPTH FIRST BY s SET o SELECT o::text FROM t"),
    attack("merge-returning-row", "MERGE INTO encounters e USING (SELECT * FROM patients WHERE id = 900001) p ON e.patient_id = p.id WHEN MATCHED THEN UPDATE SET status = status RETURNING merge_action(), to_jsonb(p)"),
    attack("update-whole-assignment", "UPDATE attack_open2 SET (id, z) = (SELECT id, ssn FROM patients WHERE id = 900001) WHERE id = 77 RETURNING z", "INSERT INTO attack_open2 VALUES (77)", "UPDATE attack_open2 SET (id, z) = (SELECT id, ssn FROM patients WHERE id = 900001) WHERE id = 77 RETURNING z"),
    attack("returning-with-subquery", "UPDATE encounters SET status = status WHERE id = 900001 RETURNING (SELECT ssn FROM patients WHERE id = patient_id)"),
    attack("current-of", "BEGIN", "DECLARE c CURSOR FOR SELECT * FROM patients WHERE id = 900001 FOR UPDATE", "FETCH c", "UPDATE patients SET sex = sex WHERE CURRENT OF c RETURNING ssn", "ROLLBACK"),
]  # fmt: skip

HIT = ("hit-it",)
ASKS = [
    attack(f"asks-{name}", f"SELECT CASE WHEN {condition} THEN 'hit' || '-it' END {P}", leaks=HIT)
    for name, condition in {
        "starts-with": "starts_with(ssn, '536')", "caret": "ssn ^@ '536'", "similar": "ssn SIMILAR TO '536%'",
        "position": "position('536' IN ssn) = 1", "any": "ssn = ANY (ARRAY['536-71-9284'])", "in-values": "ssn IN (VALUES ('536-71-9284'))",
        "distinct-from": "ssn IS NOT DISTINCT FROM '536-71-9284'", "row": "ROW(ssn, 1) = ROW('536-71-9284', 1)",
        "between": "ssn BETWEEN SYMMETRIC '537' AND '535'", "range": "dob <@ daterange('1947-01-01', '1948-01-01')",
        "empty-range": "NOT isempty(daterange(dob, '1948-01-01'))", "overlaps": "(dob, dob) OVERLAPS (date '1947-03-01', date '1947-04-01')",
        "json-path": "to_jsonb(p) @? '$.ssn ? (@ like_regex \"^536\")'", "json-path-match": "to_jsonb(p) @@ '$.ssn == \"536-71-9284\"'",
        "jsonb-has-key": "jsonb_build_object(ssn, 1) ? '536-71-9284'", "array-overlap": "ARRAY[ssn::text] && ARRAY['536-71-9284']",
        "text-search": "to_tsvector('simple', last_name) @@ to_tsquery('simple', 'quix:*')", "row-is": "(ROW(nullif(ssn, '536-71-9284'))) IS NULL",
        "input-valid": "pg_input_is_valid(replace(ssn, '536', ''), 'int') OR starts_with(ssn, '53')", "hash": "hashtext(ssn::text) = hashtext('536-71-9284'::text)",
        "like-escape": "ssn LIKE '536!-%' ESCAPE '!'", "exists": "EXISTS (SELECT WHERE ssn > '536-71')", "all": "ssn >= ALL (ARRAY['536-71-9284'])",
        "size": "octet_length(last_name || 'x') = 11", "extract": "extract(year FROM dob) = 1947",
    }.items()
] + [
    attack("asks-bool-or", "SELECT 'hit' || '-it' WHERE (SELECT bool_or(ssn = '536-71-9284') FROM patients)", leaks=HIT),
    attack("asks-filter", "SELECT 'n' || count(*) FILTER (WHERE ssn LIKE '536-71-928%') FROM patients", leaks=("n1",)),
    attack("asks-hypothetical-rank", "SELECT 'n' || rank('536-71-9285') WITHIN GROUP (ORDER BY ssn) - rank('536-71-9284') WITHIN GROUP (ORDER BY ssn) FROM patients", leaks=("n1",)),
    attack("asks-hypothetical-dense", "SELECT 'n' || (dense_rank('536-71-9285') WITHIN GROUP (ORDER BY ssn) - dense_rank('536-71-9284') WITHIN GROUP (ORDER BY ssn)) FROM patients", leaks=("n1",)),
    attack("asks-percentile", "SELECT percentile_disc(0) WITHIN GROUP (ORDER BY ssn) FROM patients WHERE id = 900001"),
    attack("asks-partition", "SELECT 'n' || count(*) OVER (PARTITION BY ssn LIKE '536-71-928%') FROM patients ORDER BY 1 LIMIT 1", leaks=("n1",)),
    attack("asks-distinct-on", "SELECT 'at-' || id FROM (SELECT DISTINCT ON (ssn = '536-71-9284') id, ssn FROM patients ORDER BY ssn = '536-71-9284' DESC, id) x LIMIT 1", leaks=("at-900001",)),
    attack("asks-order-using", "SELECT 'at-' || id FROM (SELECT id FROM patients ORDER BY (ssn = '536-71-9284') USING > LIMIT 1) x", leaks=("at-900001",)),
    attack("asks-update", "UPDATE encounters SET status = status WHERE id = 900001 AND (SELECT ssn LIKE '536%' FROM patients WHERE id = 900001)", leaks=("UPDATE 1",)),
    attack("asks-delete-using", "DELETE FROM attack_open2 USING patients p WHERE p.id = 900001 AND p.ssn LIKE '536%' AND attack_open2.id = 5", "INSERT INTO attack_open2 VALUES (5)", "DELETE FROM attack_open2 USING patients p WHERE p.id = 900001 AND p.ssn LIKE '536%' AND attack_open2.id = 5", leaks=("DELETE 1",)),
    attack("asks-merge", "MERGE INTO encounters e USING patients p ON e.patient_id = p.id AND e.id = 900001 WHEN MATCHED AND p.ssn LIKE '536%' THEN UPDATE SET status = status", leaks=("MERGE 1",)),
    attack("asks-conflict-where", "INSERT INTO patients SELECT * FROM patients WHERE id = 900001 ON CONFLICT (id) DO UPDATE SET sex = 'F' WHERE patients.ssn LIKE '536%'", leaks=("INSERT 0 1",)),
    attack("asks-lock", "SELECT 'at-' || id FROM patients WHERE ssn LIKE '536-71-928%' FOR UPDATE NOWAIT", leaks=("at-900001",)),
    attack("asks-move", "BEGIN", "DECLARE c CURSOR FOR SELECT id FROM patients WHERE ssn = '536-71-9284'", "MOVE ALL IN c", "ROLLBACK", leaks=("MOVE 1",)),
    attack("asks-copy-count", "COPY (SELECT id FROM patients WHERE ssn = '536-71-9284') TO STDOUT", leaks=("COPY 1",), modes=SIMPLE_ONLY),
    attack("asks-explain", "EXPLAIN (ANALYZE, TIMING off, SUMMARY off, COSTS off) SELECT id FROM patients WHERE ssn = '536-71-9284'", leaks=("rows=1",)),
    attack("asks-notify", "LISTEN attack_told", "SELECT pg_notify('attack_told', 'hit' || '-it') FROM patients WHERE ssn = '536-71-9284'", "SELECT 1", leaks=("hit-it",), transaction=False),
    attack("asks-sequence", "SELECT setval('attack_sequence', 77001100 + 22) FROM patients WHERE ssn = '536-71-9284'", "SELECT last_value FROM attack_sequence", leaks=("77001122",), modes=SIMPLE_ONLY, undo="SELECT setval('attack_sequence', 1, false)"),
    attack("asks-setting", "SELECT set_config('attack.told', 'hit' || '-it', false) FROM patients WHERE ssn = '536-71-9284'", "SHOW attack.told", leaks=HIT),
    attack("asks-advisory", "SELECT 'lock-' || pg_try_advisory_xact_lock(1)::text FROM patients WHERE ssn = '536-71-9284'", leaks=("lock-true",)),
    attack("asks-prepared-parameter", "PREPARE q(text) AS SELECT 'hit' || '-it' FROM patients WHERE ssn = $1", "EXECUTE q('536-71-9284')", "DEALLOCATE q", leaks=HIT),

]  # fmt: skip

ATTACKS: list[Attack] = ERRORS + STEERS + LEVELS + ASKS


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_value_that_steers_discloses_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode, at=arena.bare)
