"""Statements and what must be found in them, one a line: the shape a reviewer can extend without reading code."""

from __future__ import annotations

from analysis.statement import Analysis, ColumnRef, Output

# `text  =>  one word an output`. A word is `column` (identity), `~column` (derived), `?column` (safe property) or
# `-` (nothing stored), joined by `+`; only columns of base tables count, views' own names are left out.
OUTPUTS = """
SELECT ssn FROM patients => ssn
SELECT ssn AS y FROM patients => ssn
SELECT upper(ssn), ssn || 'x', left(ssn, 3) FROM patients => ~ssn ~ssn ~ssn
SELECT ssn::text, ssn::varchar(3), ssn::char FROM patients => ssn ~ssn ~ssn
SELECT reverse(ssn), md5(ssn), encode(ssn::bytea, 'base64') FROM patients => ~ssn ~ssn ~ssn
SELECT q.y FROM (SELECT ssn AS y FROM patients) q => ssn
SELECT zip FROM patients UNION ALL SELECT ssn FROM patients => ssn+zip
SELECT '1' UNION SELECT ssn FROM patients => ssn
SELECT dob FROM patients UNION ALL SELECT NULL::date => dob
SELECT dob FROM patients UNION ALL SELECT now() => ~dob
SELECT x FROM (SELECT NULL::timestamptz AS x UNION ALL (SELECT dob FROM patients UNION SELECT NULL)) q => ~dob
WITH RECURSIVE t(n, x) AS (SELECT 1, now() UNION ALL SELECT n + 1, dob FROM t, patients) SELECT x FROM t => ~dob
SELECT a.id, b.ssn FROM patients a, patients b => id ssn
SELECT q.s FROM patients AS q(i, m, f, l, s) => ssn
WITH other AS (SELECT ssn FROM patients) SELECT * FROM other => ssn
WITH patients AS (SELECT zip AS ssn FROM public.patients) SELECT ssn FROM patients => zip
WITH a AS (WITH a AS (SELECT ssn AS v FROM patients) SELECT * FROM a) SELECT * FROM a => ssn
WITH RECURSIVE t(n, s) AS (SELECT 1, ssn FROM patients UNION ALL SELECT n + 1, s FROM t) SELECT * FROM t => - ssn
WITH RECURSIVE t(a, b) AS (SELECT ssn::text, zip FROM patients UNION ALL SELECT b, a FROM t) SELECT a FROM t => ssn+zip
SELECT unnest(ARRAY[ssn, zip]) FROM patients => ~ssn+~zip
SELECT u FROM patients, unnest(ARRAY[ssn]) u => ~ssn
SELECT value FROM patients p, jsonb_each_text(jsonb_build_object('a', ssn)) => ~ssn
SELECT (p).ssn FROM patients p => ssn
SELECT (d.sub).ssn FROM (SELECT p AS sub FROM patients p) d => ssn
SELECT (d.sub).f2 FROM (SELECT ROW(zip, ssn) AS sub FROM patients p) d => ssn
SELECT ROW(ssn, 1), ARRAY[zip] FROM patients => ~ssn ~zip
SELECT (SELECT ssn FROM patients WHERE id = 1) => ssn
SELECT ARRAY(SELECT ssn FROM patients) => ~ssn
SELECT string_agg(ssn, ','), min(ssn), array_agg(zip) FROM patients => ~ssn ~ssn ~zip
SELECT count(*), count(ssn), ssn IS NULL FROM patients GROUP BY ssn => - ?ssn ?ssn
SELECT count(nullif(ssn, '1')) FROM patients => ~ssn
SELECT count(*) FILTER (WHERE ssn > '5') FROM patients => ~ssn
SELECT CASE WHEN ssn > '5' THEN 1 END, ssn > '5', NOT ssn LIKE '1%' FROM patients => ~ssn ~ssn ~ssn
SELECT EXISTS (SELECT 1 FROM patients WHERE ssn LIKE '1%') => ~ssn
SELECT coalesce(ssn, ''), nullif(ssn, 'x'), greatest(ssn, '5') FROM patients => ~ssn ~ssn ~ssn
SELECT lag(ssn) OVER (ORDER BY id), first_value(zip) OVER () FROM patients => ~id+~ssn ~zip
SELECT id, mrn FROM patients JOIN encounters USING (id) => id mrn
SELECT full_name, number FROM patient_names => ~first_name+~last_name ssn
SELECT loud FROM names_of_names => ~ssn
SELECT * FROM patient_counts => state -
SELECT details ->> 'ssn', details #>> '{a,b}', details['x'] FROM encounters => ~details ~details ~details
DELETE FROM patients WHERE id = 1 RETURNING ssn, zip || '' => ssn ~zip
WITH d AS (DELETE FROM patients WHERE id = 1 RETURNING *) SELECT ssn FROM d => ssn
UPDATE patients u SET zip = '' WHERE id = 1 RETURNING ssn => ssn
INSERT INTO guesses SELECT ssn FROM patients RETURNING guess => guess+ssn
UPDATE guesses SET guess = upper(ssn) FROM patients WHERE id = 1 RETURNING guess => guess+~ssn
UPDATE patients SET (city, zip) = (SELECT q.state, q.ssn FROM patients q) RETURNING city, zip => city+state ssn+zip
SELECT loud FROM coded => ~code+loud
INSERT INTO claims (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET year = excluded.year RETURNING amount => amount
TABLE guesses => guess
VALUES (1), (2) => -
SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM patients => ~ssn
SELECT rank('5') WITHIN GROUP (ORDER BY ssn) FROM patients => ~ssn
SELECT array_agg(id ORDER BY ssn), string_agg(DISTINCT ssn, ',') FROM patients => ~id+~ssn ~ssn
SELECT rank() OVER (ORDER BY ssn) FROM patients => ~ssn
SELECT ntile(4) OVER (PARTITION BY state ORDER BY zip, ssn) FROM patients => ~ssn+~state+~zip
SELECT row_number() OVER w, lag(id) OVER w FROM patients WINDOW w AS (ORDER BY ssn) => ~ssn ~id+~ssn
SELECT count(*) OVER (ORDER BY ssn), cume_dist() OVER (ORDER BY left(ssn, 1)) FROM patients => ~ssn ~ssn
SELECT r FROM (SELECT rank() OVER (ORDER BY ssn) AS r FROM patients) q => ~ssn
SELECT sum(id) FILTER (WHERE ssn > '5') OVER () FROM patients => ~id+~ssn
SELECT id IN (SELECT id FROM patients WHERE ssn > '5') FROM claims => ~id+~id+~ssn
SELECT DISTINCT ON (state) state, ssn FROM patients => state ssn
SELECT x.y FROM patients, LATERAL (SELECT ssn || '!' AS y) x => ~ssn
COPY patients (zip, ssn) TO STDOUT => zip ssn
COPY (SELECT ssn FROM patients) TO STDOUT => ssn
EXPLAIN SELECT id FROM patients WHERE ssn = '1' => ~ssn
SELECT (SELECT s FROM shrunk s).ssn, (SELECT s FROM shrunk s).state => ssn state
SELECT (d.s).* FROM (SELECT s FROM shrunk s) d => id state ssn
UPDATE shrunk s SET state = '' RETURNING (SELECT q.r FROM (SELECT s AS r) q).ssn => ssn
"""

# Whole rows: every column of `patients` must be among the origins, none of them as a safe property.
WHOLE_ROWS = """
SELECT p FROM patients p
SELECT p::text FROM patients p
SELECT to_jsonb(p) FROM patients p
SELECT row_to_json(p) FROM patients p
SELECT json_agg(p) FROM patients p
SELECT ROW(p.*) FROM patients p
SELECT concat(p) FROM patients p
SELECT sub FROM (SELECT p AS sub FROM patients p) d
SELECT jsonb_build_object('a', p) FROM patients p
SELECT array_agg(p) FROM patients p
SELECT (SELECT p FROM patients p LIMIT 1)
UPDATE patients u SET zip = '' WHERE id = 1 RETURNING to_jsonb(u)
WITH d AS (DELETE FROM patients p RETURNING p) SELECT d.p FROM d
"""

# One column whose values the statement itself, or another column, may have a part in; and one of which that is not so.
MIXED = """
SELECT mrn FROM patients UNION ALL SELECT '1'
SELECT mrn FROM patients UNION ALL SELECT g::text FROM generate_series(1, 9) g
SELECT mrn FROM patients UNION ALL SELECT guess FROM guesses
SELECT x FROM patients, LATERAL (VALUES (mrn), ('1')) v (x)
SELECT x FROM (SELECT mrn AS x FROM patients UNION ALL (SELECT NULL UNION ALL SELECT '1')) q
WITH RECURSIVE r(i, x) AS (SELECT 1, mrn FROM patients UNION ALL SELECT 2, '1' FROM r WHERE i < 2) SELECT x FROM r
SELECT (SELECT x FROM (SELECT mrn AS x FROM patients UNION ALL SELECT '1') q LIMIT 1)
INSERT INTO guesses SELECT mrn FROM patients RETURNING guess
"""
UNMIXED = """
SELECT mrn FROM patients UNION ALL SELECT mrn FROM patients WHERE id = 1
SELECT mrn FROM patients UNION ALL SELECT NULL
SELECT (SELECT mrn FROM patients WHERE id = 1)
SELECT number FROM patient_names
SELECT patient_ssn FROM visits UNION SELECT patient_ssn FROM visits_2024
WITH RECURSIVE r(i, x) AS (SELECT 1, mrn FROM patients UNION ALL SELECT i + 1, x FROM r WHERE i < 2) SELECT x FROM r
UPDATE patients SET zip = '' WHERE id = 1 RETURNING mrn
"""

# `text  =>  column:use …` for the columns of `patients`.
PREDICATES = """
SELECT id FROM patients WHERE ssn = '1' => ssn:comparison
SELECT id FROM patients WHERE '1' = ssn => ssn:comparison
SELECT id FROM patients WHERE ssn LIKE '1%' => ssn:comparison
SELECT id FROM patients WHERE ssn BETWEEN '1' AND '2' => ssn:comparison
SELECT id FROM patients WHERE ssn = ANY (ARRAY['1']) => ssn:comparison
SELECT id FROM patients WHERE ssn IN ('1', '2') => ssn:comparison
SELECT id FROM patients WHERE ssn IN (SELECT guess FROM guesses) => ssn:join_equality=guess
SELECT id FROM patients WHERE ssn IN (SELECT guess || '' FROM guesses) => ssn:comparison
SELECT id FROM patients WHERE ssn IN (VALUES ('1'), ('2')) => ssn:comparison
SELECT id FROM patients WHERE ssn IN (SELECT guess FROM guesses UNION SELECT '1') => ssn:comparison
SELECT id FROM patients WHERE left(ssn, 1) = '1' => ssn:computed
SELECT id FROM patients WHERE ssn IS NULL => ssn:null_test
SELECT id FROM patients WHERE nullif(ssn, '1') IS NULL => ssn:computed
SELECT p.id FROM patients p JOIN guesses g ON g.guess = p.ssn => ssn:join_equality=guess
SELECT p.id FROM patients p JOIN guesses g ON g.guess > p.ssn => ssn:comparison
SELECT p.id FROM patients p JOIN (VALUES ('1')) v (s) ON v.s = p.ssn => ssn:comparison
SELECT p.id FROM patients p JOIN (SELECT '1'::text AS s) v ON v.s = p.ssn => ssn:comparison
SELECT p.id FROM patients p JOIN pg_settings s ON s.setting = p.ssn => ssn:comparison
SELECT id FROM patients ORDER BY ssn => ssn:order
SELECT id FROM patients ORDER BY ssn USING > => ssn:order
SELECT id FROM patients ORDER BY ssn USING OPERATOR(pg_catalog.<) NULLS FIRST, id => ssn:order
SELECT id FROM patients ORDER BY greatest(ssn, '5') => ssn:computed
SELECT ssn FROM patients UNION ALL SELECT '5' ORDER BY 1 => ssn:computed
SELECT ssn FROM patients INTERSECT SELECT '5' => ssn:comparison
SELECT ssn FROM patients EXCEPT SELECT guess FROM guesses => ssn:join_equality=guess
SELECT ssn FROM patients UNION SELECT guess FROM guesses => ssn:join_equality=guess
SELECT a.id FROM patients a JOIN patients b ON a.ssn = b.ssn => ssn:join_equality=ssn
SELECT a.id FROM patients a JOIN patients b USING (ssn) => ssn:join_equality=ssn
SELECT a.id FROM patients a JOIN patient_names b ON a.ssn = b.number => ssn:join_equality=ssn
SELECT 1 FROM patients WHERE ssn IN (TABLE guesses UNION ALL SELECT ssn FROM patients) => ssn:join_equality=guess+ssn
SELECT p.id FROM visits v JOIN patients p ON v.patient_ssn = p.ssn => ssn:join_equality=patient_ssn
SELECT DISTINCT s FROM (SELECT ssn FROM patients UNION ALL SELECT guess FROM guesses) q (s) => ssn:group=guess
SELECT s FROM (SELECT ssn FROM patients UNION ALL SELECT guess FROM guesses) q (s) ORDER BY s => ssn:order=guess
SELECT count(*) FROM (SELECT ssn FROM patients UNION ALL SELECT guess FROM guesses) q (s) GROUP BY s => ssn:group=guess
SELECT count(*) FROM patients GROUP BY ssn => ssn:group
SELECT DISTINCT ssn FROM patients => ssn:group
SELECT count(*) FROM patients GROUP BY left(ssn, 1) => ssn:computed
SELECT count(*) FROM patients GROUP BY state HAVING min(ssn) > '5' => ssn:computed state:group
SELECT rank() OVER (ORDER BY ssn) FROM patients => ssn:computed
SELECT 1 / (ascii(ssn) - 49) FROM patients => ssn:computed
SELECT 1 / (CASE WHEN ssn > '5' THEN 1 ELSE 0 END) FROM patients => ssn:comparison ssn:computed
SELECT ssn::int FROM patients => ssn:computed
SELECT substr('x', 1, ascii(ssn)) FROM patients => ssn:computed
SELECT upper(ssn), to_char(dob, 'YYYY') FROM patients =>
SELECT count(*) FILTER (WHERE ssn > '5') FROM patients => ssn:comparison
SELECT id FROM patients LIMIT (SELECT length(min(ssn)) FROM patients) => ssn:computed
SELECT g FROM patients, generate_series(1, length(ssn)) g => ssn:computed
SELECT number FROM patient_names WHERE number = '1' => ssn:comparison
DELETE FROM patients WHERE ssn = '1' => ssn:comparison
UPDATE patients SET zip = '' WHERE CASE WHEN ssn > '5' THEN true END => ssn:comparison ssn:computed
EXPLAIN ANALYZE SELECT id FROM patients WHERE ssn = '1' => ssn:comparison
SELECT ssn = '1' AND 1 / (id - 1) > 0 FROM patients => ssn:computed
SELECT coalesce(nullif(ssn, '1'), (1 / (id - 1))::text) FROM patients => ssn:computed
SELECT substr(nullif(ssn, '1'), 1, -1) FROM patients => ssn:computed
SELECT substring(nullif(ssn, '1') FROM '(') FROM patients => ssn:computed
SELECT split_part(nullif(zip, '1'), '-', 0) FROM patients => zip:computed
SELECT extract(hour FROM nullif(dob, '2000-01-01')) FROM patients => dob:computed
SELECT to_char(nullif(length(ssn), 1), 'RN9.9.9') FROM patients => ssn:computed
SELECT to_char(x, '9V9') FROM (SELECT sum(length(ssn)) AS x FROM patients) q => ssn:computed
SELECT substr(upper(ssn), 1, 3), split_part(email || '', '@', 2), to_char(length(ssn), '99') FROM patients =>
SELECT extract(year FROM coalesce(dob, '2000-01-01')), left(nullif(ssn, '1'), 3) FROM patients =>
SELECT extract(year FROM min(dob)), substr((SELECT ssn FROM patients WHERE id = 1), 1) FROM patients =>
SELECT (ssn, 1 / (id - 1)) < ('1', 0) FROM patients => ssn:computed
SELECT (ssn, zip) < ('1', '2') FROM patients =>
SELECT (nullif(to_jsonb(ssn), '"1"'))[1 / (id - 1)] FROM patients => ssn:computed
SELECT (to_jsonb(ssn))['a'], (ARRAY[ssn])[id] FROM patients =>
SELECT sum(coalesce(nullif(x, 1.0), 9.0)) FROM (SELECT avg(length(ssn)) AS x FROM patients) q => ssn:computed
SELECT round(coalesce(nullif(x, 1.0), 9.5)) FROM (SELECT avg(length(ssn)) AS x FROM patients) q => ssn:computed
SELECT ceil(coalesce(nullif(x, 1.0), 9.5)) FROM (SELECT avg(length(ssn)) AS x FROM patients) q => ssn:computed
SELECT round(avg(extract(year FROM age(dob))), 1), avg(length(ssn)), sum(id) FROM patients =>
INSERT INTO guesses SELECT replace(ssn, '1', repeat('2', 3000)) FROM patients =>
UPDATE patients SET mrn = mrn || '' WHERE id = 1 => mrn:computed mrn:comparison
SELECT coalesce(ssn, upper(email), 'none'), ssn = '1' OR city = 'x', ssn IS NULL AND zip IS NULL FROM patients =>
INSERT INTO patients (id, mrn) VALUES (1, 'M1') =>
INSERT INTO patients (id, mrn) VALUES (1, 'M1') ON CONFLICT DO NOTHING => mrn:comparison
INSERT INTO patients (id, mrn) SELECT g, 'M' || g FROM generate_series(1, 9) g => mrn:comparison
UPDATE patients SET mrn = 'M1' WHERE id = 1 =>
UPDATE patients SET mrn = zip WHERE id = 1 => mrn:comparison zip:comparison
INSERT INTO stays (id, mrn) VALUES (1, 'M1') => mrn:reference=mrn
INSERT INTO stays (id, mrn) VALUES (1, NULL) =>
INSERT INTO stays (id, mrn) SELECT g, 'M' || g FROM generate_series(1, 9) g => mrn:comparison
UPDATE stays SET mrn = 'M1' WHERE id = 1 => mrn:reference=mrn
UPDATE stays SET mrn = $1 WHERE id = 1 => mrn:reference=mrn
SELECT '{"a": "\\u0000"}'::json ->> nullif(ssn, '1') FROM patients => ssn:computed
SELECT '["\\u0000"]'::json -> nullif(length(ssn), 1) FROM patients => ssn:computed
SELECT json_extract_path('{"a": "\\u0000"}'::json, nullif(ssn, '1')) FROM patients => ssn:computed
SELECT to_jsonb('{"1": 1e999999}'::json -> ssn) FROM patients => ssn:computed
SELECT to_jsonb((ARRAY['"\\u0000"'::json, '1'])[strpos(ssn, '5')]) FROM patients => ssn:computed
SELECT to_jsonb(coalesce(to_json(nullif(ssn, '1')), '"\\u0000"'::json)) FROM patients => ssn:computed
SELECT jsonb_build_object('a', (ARRAY['"\\u0000"'::json, '1'])[strpos(ssn, '5')]) FROM patients => ssn:computed
SELECT jsonb_agg((ARRAY['"\\u0000"'::json, '1'])[strpos(ssn, '5')]) FROM patients => ssn:computed
SELECT jsonb_build_array((ARRAY[NULL, d])[strpos(ssn, '5')]) FROM patients, documents d => ssn:computed
SELECT coalesce(nullif(ssn, '1'), '{"a": "\\u0000"}'::json ->> 'a') FROM patients => ssn:computed
SELECT document ->> nullif(ssn, '1') FROM patients, documents => ssn:computed
SELECT document ->> 'a', to_jsonb(document), to_jsonb(d), to_jsonb(ssn) FROM patients, documents d =>
SELECT to_json(p) ->> 'ssn', to_jsonb(upper(ssn)), details ->> nullif(ssn, '1') FROM patients p, encounters =>
SELECT nullif(ssn, '1') IS JSON FROM patients => ssn:computed
SELECT ssn IS JSON FROM patients =>
SELECT length((ARRAY['0,0,1e308,1e308'::lseg, '0,0,1,1'])[strpos(ssn, '5')]) FROM patients => ssn:computed
SELECT (ARRAY['0,0,1e308,1e308'::lseg, '0,0,1,1'])[strpos(ssn, '5')] < '0,0,1,1'::lseg FROM patients => ssn:computed
SELECT md5(nullif(ssn, '1')) FROM patients => ssn:computed
SELECT upper(nullif(ssn, '1') COLLATE "ucs_basic") FROM patients => ssn:computed
SELECT upper(ssn COLLATE "ucs_basic"), upper(nullif(ssn, '1') COLLATE "C"), md5(ssn) FROM patients =>
SELECT greatest(nullif(ssn, '1') COLLATE "ucs_basic", 'x') FROM patients => ssn:computed
SELECT max(nullif(ssn, '1') COLLATE "ucs_basic") FROM patients => ssn:computed
SELECT max(nullif(ssn, '1') COLLATE "ucs_basic") OVER () FROM patients => ssn:computed
SELECT nullif(nullif(ssn, '1') COLLATE "ucs_basic", 'x') FROM patients => ssn:computed
SELECT coalesce(nullif(ssn, '1'), upper('x' COLLATE "ucs_basic")) FROM patients => ssn:computed
SELECT replace(ltrim(ssn, '5') COLLATE "ucs_basic", 'x', 'y') FROM patients => ssn:computed
SELECT upper(nullif(ssn, '1') || a || b) FROM patients, (SELECT '' COLLATE "C" a, '' COLLATE "POSIX" b) => ssn:computed
SELECT (nullif(ssn, '1') || a || b) = 'x' FROM patients, (SELECT '' COLLATE "C" a, '' COLLATE "POSIX" b) => ssn:computed
SELECT upper(nullif(ssn, '1') || relname) = 'x' FROM patients, pg_class =>
"""

# Ordinary work: complete, with these operations.
ORDINARY = """
SELECT 1 => read
SELECT version(), current_user, now(), current_setting('server_version') => read
SELECT * FROM patients WHERE id = 5 => read
SELECT p.last_name, e.kind FROM patients p JOIN encounters e ON e.patient_id = p.id WHERE p.state = 'TX' => read
SELECT p.id FROM patients p LEFT JOIN encounters e ON e.patient_id = p.id WHERE e.id IS NULL => read
SELECT state, count(*) FROM patients GROUP BY state HAVING count(*) > 3 ORDER BY 2 DESC => read
SELECT date_trunc('month', started_at), count(*) FROM encounters GROUP BY 1 ORDER BY 1 => read
SELECT extract(year FROM dob)::int, avg(amount) FROM patients JOIN claims ON patient_id = patients.id GROUP BY 1 => read
SELECT * FROM patients ORDER BY id LIMIT 10 OFFSET 20 => read
SELECT id FROM patients WHERE dob BETWEEN '1950-01-01' AND '1960-01-01' => read
SELECT id FROM patients WHERE last_name ILIKE 'a%' => read
SELECT id FROM patients WHERE id IN (SELECT patient_id FROM claims WHERE amount > 100) => read
SELECT id, row_number() OVER (PARTITION BY state ORDER BY id) FROM patients => read
WITH r AS (SELECT * FROM encounters WHERE started_at > now() - interval '1 day') SELECT count(*) FROM r => read
SELECT coalesce(city, 'none'), CASE sex WHEN 'F' THEN 1 ELSE 0 END FROM patients WHERE id = 1 => read
SELECT details ->> 'a', details @> '{"a": 1}' FROM encounters WHERE id = 1 => read
SELECT jsonb_agg(jsonb_build_object('id', id)) FROM claims WHERE patient_id = 1 => read
SELECT * FROM generate_series(1, 3) => read
SELECT to_char(started_at, 'YYYY-MM') FROM encounters WHERE id = 1 => read
SELECT sum(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM claims => read
SELECT id FROM patients WHERE id = ANY ('{1,2,3}') => read
SELECT a.id FROM patients a CROSS JOIN LATERAL (SELECT 1 FROM claims c WHERE c.patient_id = a.id LIMIT 1) x => read
SELECT * FROM patient_names WHERE id = 3 => read
SELECT * FROM patient_counts => read
SELECT * FROM visits WHERE at > '2024-02-01' => read
SELECT array_length(tags, 1) FROM clinical_notes => read
SELECT id FROM claims UNION SELECT id FROM patients => read
SELECT DISTINCT state FROM patients => read
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) FROM claims => read
SELECT state, sum(amount) FROM patients p JOIN claims c ON c.patient_id = p.id GROUP BY ROLLUP (state) => read
SELECT id FROM patients WHERE (state, zip) = ('TX', '75001') => read
SELECT id FROM patients FOR UPDATE SKIP LOCKED => read
SELECT nspname FROM pg_catalog.pg_namespace => read
SELECT c.relname, pg_catalog.pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.relkind IN ('r', 'p') => read
SELECT * FROM information_schema.columns WHERE table_name = 'patients' => read
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE attrelid = 'patients'::regclass => read
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'public.patients'::regclass => read
SELECT pg_advisory_unlock_all() => read
SELECT id, m, m::text, m = 'odd' FROM moods => read
SELECT set_config('application_name', 'me', false) => read
SELECT nextval('clinical_notes_id_seq') => read write
INSERT INTO claims (id, amount) VALUES (1, 2), (3, 4) => write
INSERT INTO claims (id) VALUES (1) RETURNING id => read write
INSERT INTO claims SELECT id, id FROM patients WHERE id = 3 => read write
INSERT INTO claims (id) VALUES (1) ON CONFLICT DO NOTHING => write
UPDATE claims SET amount = amount + 1 WHERE id = 1 => read write
UPDATE claims c SET year = 1 FROM patients p WHERE p.id = c.patient_id => read write
DELETE FROM claims WHERE id = 1 => read write
DELETE FROM claims USING patients p WHERE p.id = patient_id => read write
MERGE INTO claims c USING patients p ON c.patient_id = p.id WHEN MATCHED THEN UPDATE SET year = 1 => read write
TRUNCATE claims => write
LOCK TABLE claims IN SHARE MODE => admin
LOCK claims => admin
LOCK TABLE claims IN ACCESS SHARE MODE NOWAIT => read
LOCK claims IN ROW SHARE MODE => read
LOCK claims IN ROW EXCLUSIVE MODE => write
COPY patients TO STDOUT => read
COPY (SELECT id FROM patients) TO STDOUT WITH (FORMAT csv, HEADER) => read
COPY claims (id, year) FROM STDIN => write
COPY claims FROM STDIN WITH BINARY => write
EXPLAIN SELECT * FROM patients => read
UPDATE claims SET year = 1 WHERE CURRENT OF c => write
SELECT j.id FROM patients p JOIN claims c USING (id) AS j WHERE j.id = 1 => read
INSERT INTO encounters (id, patient_id) OVERRIDING SYSTEM VALUE VALUES (1, 2) => write
INSERT INTO encounters (id, patient_id) OVERRIDING USER VALUE SELECT id, id FROM patients WHERE id = 1 => read write
COPY claims TO STDOUT WITH (FORMAT csv, ENCODING 'UTF8') => read
COPY claims TO STDOUT WITH (ENCODING utf8) => read
COPY claims FROM STDIN WITH (FORMAT csv, ON_ERROR stop) => write
SET ROLE none => session
SET search_path TO public => session
SET LOCAL search_path = "$user", public => session
SET search_path = pg_catalog, public => session
SET search_path TO '' => session
SET search_path TO DEFAULT => session
SELECT set_config('search_path', 'public', false) => read
EXPLAIN (ANALYZE, BUFFERS) DELETE FROM claims => write
EXPLAIN ("analyze", costs off) DELETE FROM claims => write
SELECT id AS into FROM claims => read
SELECT c.into FROM (SELECT 1 AS into) c => read
PREPARE p (int) AS SELECT ssn FROM patients WHERE id = $1 => session
DECLARE c NO SCROLL CURSOR FOR SELECT ssn FROM patients => session
DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT ssn FROM patients => read session
DEALLOCATE ALL => session
CLOSE ALL => session
BEGIN => session
START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY => session
COMMIT AND CHAIN => session
ROLLBACK TO SAVEPOINT a => session
SAVEPOINT "A" => session
RELEASE a => session
SET statement_timeout = '5s' => session
SET LOCAL timezone TO 'UTC' => session
SET TIME ZONE 'UTC' => session
SET client_encoding TO 'UTF8' => session
SET NAMES 'utf8' => session
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY => session
SET extra_float_digits = 3 => session
SHOW ALL => session
SHOW TIME ZONE => session
RESET ALL => session
DISCARD ALL => session
UNLISTEN * => session
CREATE TABLE t AS SELECT id FROM claims => ddl read
create unlogged table if not exists other.t (a, "B") as (select id, year from claims) with no data => ddl read
CREATE TABLE "T"/**/AS TABLE claims => ddl read
SELECT id INTO t FROM claims => ddl read
SELECT id INTO UNLOGGED TABLE other.t FROM claims => ddl read
CREATE VIEW v AS SELECT id FROM claims => ddl read
CREATE VIEW v (a) AS WITH c AS (SELECT id FROM claims) SELECT id FROM c => ddl read
CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT max(id) AS m FROM claims WITH DATA => ddl read
CREATE TABLE t AS SELECT ssn FROM patients => ddl read
LISTEN x => listen
listen "Odd Name" => listen
"""

# What must never be complete.
INCOMPLETE = """
SELECT '{a}'::odd_text[]
SELECT '(a,1)'::odd_row
SELECT json_populate_record(NULL::odd_row, '{"word": "a"}')
SELECT JSON_VALUE(jsonb '{"a": "b"}', '$.a' RETURNING odd_text)
SELECT pg_input_is_valid('a', 'odd_text')
PREPARE p (odd_text) AS SELECT 1
PREPARE p (odd_row[]) AS SELECT 1
SELECT to_json('odd'::mood)
SELECT row_to_json(t) FROM moods t
SELECT jsonb_agg(m) FROM moods
SELECT JSON_ARRAY(m) FROM moods
DO $$ BEGIN END $$
CALL something()
VACUUM patients
CREATE OR REPLACE VIEW v AS SELECT id FROM claims
CREATE RECURSIVE VIEW v (n) AS SELECT id FROM claims
CREATE VIEW v WITH (security_barrier) AS SELECT id FROM claims
CREATE VIEW v AS SELECT id FROM claims WITH CHECK OPTION
CREATE VIEW v AS SELECT id FROM claims WITH LOCAL CHECK OPTION
CREATE TABLE t TABLESPACE pg_default AS SELECT id FROM claims
CREATE TABLE t USING heap AS SELECT id FROM claims
CREATE TABLE t WITH (fillfactor = 50) AS SELECT id FROM claims
CREATE TABLE t (a int, b text) AS SELECT id FROM claims
CREATE TABLE t () AS SELECT id FROM claims
CREATE TABLE t AS EXECUTE q
CREATE TABLE pg_temp.t AS SELECT id FROM claims
CREATE TABLE U&"pg\\005ftemp".t AS SELECT id FROM claims
CREATE TABLE "pg_temp_3".t AS SELECT id FROM claims
CREATE VIEW pg_catalog.t AS SELECT id FROM claims
CREATE TABLE t AS SELECT shout(id) FROM claims
CREATE TABLE t AS SELECT pg_read_file('/etc/passwd')
CREATE TABLE t AS SELECT id FROM claims; SELECT 1
EXPLAIN ANALYZE CREATE TABLE t AS SELECT id FROM claims
EXPLAIN ANALYZE SELECT id INTO t FROM claims
SELECT id INTO pg_temp.t FROM claims
CREATE TABLE a.b.t AS SELECT id FROM claims
CREATE TABLE other.patients AS SELECT id FROM claims
CREATE VIEW other."patients" AS SELECT id FROM claims
SELECT id INTO other.U&"pa\\0074ients" FROM claims
CREATE TABLE pg_class AS SELECT id FROM claims
DROP TABLE patients
GRANT SELECT ON patients TO public
ALTER SYSTEM SET work_mem = '1GB'
SET search_path TO other
SET ROLE postgres
SET row_security = off
SET search_path = public, pg_catalog
SET search_path = public, other
SET search_path = 'public, other'
SET search_path = "$user" public
SET search_path = pg_temp, public
SELECT set_config('search_path', 'public, pg_catalog', false)
EXPLAIN EXECUTE nothing
EXPLAIN (U&"analyze") SELECT id FROM claims
PREPARE U&"\\0070" AS SELECT id FROM claims
DECLARE U&"\\0063" CURSOR FOR SELECT id FROM claims
DEALLOCATE U&"\\0070"
CLOSE U&"\\0063"
FETCH FROM U&"\\0063"
EXECUTE U&"\\0070"
COPY claims TO STDOUT WITH (ENCODING default)
SET SESSION AUTHORIZATION postgres
SET standard_conforming_strings TO off
SET session_replication_role = replica
SET client_encoding TO 'LATIN1'
SET my.variable = '1'
SET TRANSACTION SNAPSHOT '1'
RESET ROLE
LISTEN
COPY patients TO '/tmp/x'
COPY patients TO PROGRAM 'cat'
COPY patients FROM '/tmp/x'
COPY patients TO STDOUT WITH (ENCODING 'latin1')
PREPARE TRANSACTION $1
COMMIT PREPARED 'x'
TRUNCATE patients CASCADE
SELECT set_config('search_path', 'x', false)
SELECT set_config('my.variable', ssn, false) FROM patients
SELECT set_config(kind, 'x', false) FROM encounters
SELECT pg_read_file('/etc/passwd')
SELECT pg_ls_dir('.')
SELECT lo_import('/etc/passwd')
SELECT query_to_xml('select ssn from patients', true, true, '')
SELECT table_to_xml('patients', true, true, '')
SELECT * FROM ts_stat('select to_tsvector(ssn) from patients')
SELECT pg_terminate_backend(1)
SELECT pg_notify('x', ssn) FROM patients
SELECT pg_stat_get_activity(1)
SELECT current_query()
SELECT shout(ssn) FROM patients
SELECT 'a' === 'b'
SELECT 'x'::odd_text
INSERT INTO watched VALUES (1, 'x')
COPY watched FROM STDIN
INSERT INTO shouted (id) VALUES (1)
SELECT * FROM pg_stats
SELECT most_common_vals FROM pg_catalog.pg_stats
SELECT * FROM pg_statistic
SELECT query FROM pg_stat_activity
SELECT * FROM pg_authid
SELECT * FROM pg_prepared_statements
SELECT * FROM pg_cursors
EXECUTE nothing
FETCH ALL FROM nothing
SELECT 1; SELECT 2
SELECT 'unterminated
SELECT 1; END; DROP TABLE guesses; --
"""


def rows(table: str) -> list[tuple[str, list[str]]]:
    """The lines of a table as (text, expected words)."""
    found = []
    for line in table.strip().splitlines():
        text, _, expected = line.partition(" =>")
        found.append((text.strip(), expected.split()))
    return found


_MARKS = {"identity": "", "derived": "~", "safe": "?"}
_VIEWS = {"patient_names", "names_of_names", "patient_counts"}


def summarise_output(output: Output) -> str:
    assert output.resolved
    origins = sorted(
        (origin.column.column, _MARKS[origin.transform])
        for origin in output.origins
        if origin.column.table not in _VIEWS
    )
    return "+".join(mark + column for column, mark in origins) or "-"


def summarise_predicates(analysis: Analysis) -> list[str]:
    return sorted(
        f"{predicate.column.column}:{predicate.use}" + "=" * bool(predicate.partners) + _names(predicate.partners)
        for predicate in analysis.predicates
        if predicate.column.table == "patients"
    )


def _names(columns: tuple[ColumnRef, ...]) -> str:
    return "+".join(sorted(column.column for column in columns))
