-- What an attacker might find in a grown database: views, functions, triggers, rules and copies that hide an
-- identifier behind an innocent name. Planted by the owner, directly, before the attacks; names all begin with attack_.

DROP SCHEMA IF EXISTS attack_shadow CASCADE;
DROP TABLE IF EXISTS attack_identifiers, attack_sink, attack_ruled, attack_echo, attack_default, attack_parted,
    attack_open, attack_open2, attack_keyed, attack_dropped, attack_measured, attack_born, attack_stay, attack_referring,
    attack_known, attack_moment, attack_code, attack_coded, attack_upper, attack_under CASCADE;
DROP TABLE IF EXISTS attack_made, attack_words, attack_guarded, attack_checked, attack_indexed, attack_ruled_also, attack_watched,
    attack_split, attack_noticed, attack_noticed_late, attack_noticed_rule, attack_noticed_default CASCADE;
DROP VIEW IF EXISTS attack_telling, attack_view, attack_view_row, attack_swap, attack_instead, attack_view_coded CASCADE;
DROP TYPE IF EXISTS attack_pair, attack_range, attack_mood, attack_nested, attack_named CASCADE;
DROP MATERIALIZED VIEW IF EXISTS attack_matview;
DROP SEQUENCE IF EXISTS attack_sequence;
DROP AGGREGATE IF EXISTS attack_glue(text);
DROP OPERATOR IF EXISTS ~@~ (NONE, integer);
DROP TABLE IF EXISTS attack_keyed_by, attack_filled CASCADE;
DROP DOMAIN IF EXISTS attack_domain, attack_name, attack_default_domain;
DROP ROUTINE IF EXISTS attack_table, attack_atomic, attack_whole, attack_lookup, attack_rows, attack_dynamic, attack_shout, attack_fail, attack_constant,
    attack_set, attack_append, attack_fill, attack_cry, attack_procedure, attack_is_valid, attack_polymorphic,
    attack_notice, attack_tell, attack_tell_parsed, attack_tell_first,
    attack_mood_told, attack_is_known, attack_label(integer), attack_label(text), attack_fixed, attack_words_of, attack_cry_once, attack_index_of;

DELETE FROM claims WHERE patient_id IN (900001, 900002);
DELETE FROM clinical_notes WHERE patient_id IN (900001, 900002);
DELETE FROM encounters WHERE patient_id IN (900001, 900002);
DELETE FROM patients WHERE id IN (900001, 900002);

INSERT INTO patients (id, mrn, first_name, last_name, ssn, dob, sex, email, phone, address, city, state, zip,
                      registered_at)
VALUES (900001, 'MRN-77418093', 'Zyphorae', 'Quixandrel', '536-71-9284', '1947-03-29', 'F',
        'zyphorae.quix@canary-post.example', '(707) 555-8193', '7741 Xanthorrhoea Spur', 'Petaluma', 'CA', '94931',
        '2024-02-03 04:05:06+00'),
       (900002, 'MRN-10000002', 'Decoya', 'Plainfield', '219-04-1177', '1980-06-15', 'M', 'decoya@post.example',
        '(212) 555-0111', '1 Decoy Lane', 'Austin', 'TX', '78701', '2024-02-03 04:05:07+00');
INSERT INTO encounters (id, patient_id, kind, department, provider_npi, admitted_at, status)
VALUES (900001, 900001, 'office', 'Attack Department', '1234567893', '2024-03-04 05:06:07+00', 'open');
INSERT INTO clinical_notes (id, encounter_id, patient_id, kind, author, written_at, note)
VALUES (900001, 900001, 900001, 'progress', 'A. Author', '2024-03-04 05:06:08+00',
        'Patient states her number is 541-82-6637, phone (707) 555-8193, mail zyphorae.quix@canary-post.example.');
INSERT INTO claims (id, patient_id, encounter_id, payer, member_id, claim_number, amount, submitted_on)
VALUES (900001, 900001, 900001, 'Medicare', '4XK9QT7RM31', 'CLM-8830417265', 120.50, '2024-03-05');

CREATE TABLE attack_identifiers (
    id           integer PRIMARY KEY,
    national_id  integer,
    account      bigint,
    score        numeric,
    balance      double precision,
    admitted     date,
    seen         timestamptz,
    device       uuid,
    origin       inet,
    payload      jsonb,
    tags         text[],
    photo        bytea,
    code         char(8)
);
INSERT INTO attack_identifiers
VALUES (1, 1836311903, 7540113804746346429, 83177254.9318, 61803.39887498949, '1951-11-23',
        '2021-07-19 04:41:53.271828+00', 'c0ffee51-7a2b-4d19-9b3e-5d41ca11ab1e', '203.113.77.41',
        '{"name": "Vexilloryx"}', ARRAY['Brontolimax', 'x'], 'Cryptozenith', 'KZWX7QJV'),
       (2, 11, 12, 13.5, 14.5, '1990-01-02', '2020-01-02 03:04:05+00', '00000000-0000-4000-8000-000000000002',
        '10.0.0.2', '{"name": "plain"}', ARRAY['plain'], 'plain', 'plain');
ANALYZE attack_identifiers;

CREATE VIEW attack_view AS SELECT id, ssn AS code, upper(last_name) AS label FROM patients;
CREATE VIEW attack_view_deep AS SELECT v.id, v.code AS c FROM attack_view v;
CREATE VIEW attack_view_row AS SELECT id, to_jsonb(p) AS doc FROM patients p;
CREATE VIEW attack_swap AS SELECT id, sex::text AS v FROM patients;
CREATE MATERIALIZED VIEW attack_matview AS SELECT id, ssn AS code FROM patients WHERE id = 900001;

CREATE FUNCTION attack_lookup(integer) RETURNS text LANGUAGE sql STABLE
    AS 'SELECT ssn FROM patients WHERE id = $1';
CREATE FUNCTION attack_atomic(integer) RETURNS text LANGUAGE sql STABLE
    RETURN (SELECT ssn FROM patients WHERE id = $1);
CREATE FUNCTION attack_whole(integer) RETURNS jsonb LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT to_jsonb(p) FROM patients p WHERE id = $1; END;
CREATE FUNCTION attack_table() RETURNS TABLE (a text, b text) LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT state, attack_atomic(id) FROM patients WHERE id = 900001; END;
CREATE FUNCTION attack_rows() RETURNS SETOF patients LANGUAGE sql STABLE
    AS 'SELECT * FROM patients WHERE id = 900001';
CREATE FUNCTION attack_polymorphic(anyelement) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1::text';
CREATE FUNCTION attack_dynamic(query text) RETURNS text LANGUAGE plpgsql
    AS 'DECLARE r text; BEGIN EXECUTE query INTO r; RETURN r; END';
CREATE FUNCTION attack_shout(wanted integer) RETURNS integer LANGUAGE plpgsql
    AS 'BEGIN RAISE NOTICE ''seen %'', (SELECT ssn FROM patients WHERE id = wanted); RETURN 1; END';
CREATE FUNCTION attack_fail(wanted integer) RETURNS integer LANGUAGE plpgsql
    AS 'BEGIN RAISE EXCEPTION ''failed on %'', (SELECT ssn FROM patients WHERE id = wanted)
        USING DETAIL = (SELECT last_name FROM patients WHERE id = wanted),
              HINT = (SELECT mrn FROM patients WHERE id = wanted); END';
CREATE FUNCTION attack_constant(integer) RETURNS text LANGUAGE sql IMMUTABLE
    AS 'SELECT ssn FROM patients WHERE id = $1';
CREATE FUNCTION attack_set(integer) RETURNS integer LANGUAGE plpgsql
    AS 'BEGIN PERFORM set_config(''attack.secret'', (SELECT ssn FROM patients WHERE id = $1), false); RETURN 1; END';
CREATE FUNCTION attack_append(state text, next text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT state || next';
CREATE AGGREGATE attack_glue(text) (SFUNC = attack_append, STYPE = text, INITCOND = '');
CREATE OPERATOR ~@~ (FUNCTION = attack_lookup, RIGHTARG = integer);
CREATE PROCEDURE attack_procedure(INOUT answer text) LANGUAGE sql AS 'SELECT ssn FROM patients WHERE id = 900001';
CREATE FUNCTION attack_is_valid(text) RETURNS boolean LANGUAGE plpgsql
    AS 'BEGIN RAISE NOTICE ''checked %'', (SELECT ssn FROM patients WHERE id = 900001); RETURN true; END';
CREATE DOMAIN attack_domain AS text CHECK (attack_is_valid(VALUE));

CREATE SEQUENCE attack_sequence;
CREATE TABLE attack_sink (id integer, note text);
CREATE FUNCTION attack_fill() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN NEW.note := (SELECT ssn FROM patients WHERE id = NEW.id); RETURN NEW; END';
CREATE TRIGGER attack_fill BEFORE INSERT ON attack_sink FOR EACH ROW EXECUTE FUNCTION attack_fill();
CREATE TABLE attack_echo (id integer, note text);
CREATE FUNCTION attack_cry() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN RAISE NOTICE ''stored %'', (SELECT ssn FROM patients WHERE id = NEW.id); RETURN NEW; END';
CREATE TRIGGER attack_cry BEFORE INSERT ON attack_echo FOR EACH ROW EXECUTE FUNCTION attack_cry();
CREATE FUNCTION attack_cry_once() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN RAISE NOTICE ''touched %'', (SELECT ssn FROM patients WHERE id = 900001);
        IF TG_LEVEL = ''STATEMENT'' THEN RETURN NULL; END IF; RETURN COALESCE(NEW, OLD); END';
CREATE TABLE attack_ruled (id integer);
CREATE RULE attack_ruled AS ON INSERT TO attack_ruled DO INSTEAD SELECT ssn FROM patients WHERE id = NEW.id;
CREATE TABLE attack_default (id integer, note text DEFAULT attack_lookup(900001));
CREATE TABLE attack_parted (id integer, secret text) PARTITION BY RANGE (id);
CREATE TABLE attack_part PARTITION OF attack_parted FOR VALUES FROM (0) TO (10);
INSERT INTO attack_parted VALUES (1, '536-71-9284');

CREATE TABLE attack_dropped (gone integer, id integer, secret text, label text);
ALTER TABLE attack_dropped DROP COLUMN gone;
INSERT INTO attack_dropped VALUES (1, reverse('Quixandrel'), 'x');
CREATE TABLE attack_born (id integer, born date) PARTITION BY RANGE (born);
CREATE TABLE attack_born_forties PARTITION OF attack_born FOR VALUES FROM ('1940-01-01') TO ('1950-01-01');
CREATE TABLE attack_born_later PARTITION OF attack_born FOR VALUES FROM ('1950-01-01') TO ('2050-01-01');
INSERT INTO attack_born VALUES (1, '1947-03-29'), (2, '1980-06-15');
GRANT SELECT, INSERT, UPDATE, DELETE ON attack_born, attack_born_forties, attack_born_later TO PUBLIC;
CREATE TABLE attack_measured (id integer, n integer CHECK (n > 0), word text);
CREATE INDEX ON attack_measured (word);
CREATE TABLE attack_stay (id integer PRIMARY KEY, born date, seen date, CHECK (born <= seen));
INSERT INTO attack_stay VALUES (1, '1947-03-29', '2000-01-01');
CREATE VIEW attack_stay_checked AS SELECT id, seen FROM attack_stay WHERE born < seen WITH CHECK OPTION;
CREATE TABLE attack_known (word text PRIMARY KEY);
INSERT INTO attack_known VALUES ('536-71-9284');
CREATE TABLE attack_referring (word text REFERENCES attack_known);
CREATE TABLE attack_code (word text PRIMARY KEY);
INSERT INTO attack_code VALUES ('calm'), ('angina');
CREATE TABLE attack_coded (id integer, word text REFERENCES attack_code);
INSERT INTO attack_coded VALUES (1, 'angina');
CREATE TABLE attack_moment (id integer, at timestamptz);
INSERT INTO attack_moment VALUES (1, '2024-06-15 12:00+00');
GRANT SELECT, INSERT, UPDATE, DELETE ON attack_dropped, attack_measured, attack_stay, attack_stay_checked, attack_known,
    attack_referring, attack_moment, attack_code, attack_coded TO PUBLIC;

-- Nothing in these is protected, until something protected is carried into them.
CREATE TABLE attack_open (id integer, x text, y text, loud text GENERATED ALWAYS AS (upper(x)) STORED);
CREATE TABLE attack_open2 (id integer, z text);
CREATE TABLE attack_keyed (word text PRIMARY KEY, note_of text);
CREATE VIEW attack_narrow AS SELECT id, x FROM attack_open WHERE x <> 'q' WITH CHECK OPTION;
CREATE VIEW attack_open_view AS SELECT id, x AS harmless FROM attack_open;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON attack_open, attack_open2, attack_keyed, attack_open_view,
    attack_narrow TO PUBLIC;

-- Functions a person classified: they read words that nobody protects, by names that could mean something else.
CREATE TABLE attack_words (id integer, word text);
INSERT INTO attack_words VALUES (1, 'plain');
CREATE FUNCTION attack_words_of(integer) RETURNS text LANGUAGE sql STABLE
    AS 'SELECT word FROM attack_words WHERE id = $1';
CREATE FUNCTION attack_label(integer) RETURNS text LANGUAGE plpgsql STABLE
    AS 'BEGIN RETURN attack_words_of($1); END';
CREATE FUNCTION attack_label(text) RETURNS text LANGUAGE sql STABLE
    AS 'SELECT ssn FROM patients WHERE id = 900000 + $1::int';
CREATE FUNCTION attack_fixed(integer) RETURNS text LANGUAGE plpgsql STABLE SET search_path = public, pg_temp
    AS 'BEGIN RETURN (SELECT word FROM attack_words WHERE id = $1); END';

-- Code that runs when a table is read, written or converted.
CREATE TABLE attack_guarded (id integer, note text);
INSERT INTO attack_guarded VALUES (900001, 'x');
ALTER TABLE attack_guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY shouts ON attack_guarded USING (attack_shout(id) = 1);
CREATE TABLE attack_checked (id integer, note text CHECK (attack_is_valid(note)));
INSERT INTO attack_checked VALUES (5, 'x');
CREATE FUNCTION attack_index_of(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN RAISE NOTICE ''indexed %'', (SELECT ssn FROM public.patients WHERE id = 900001); RETURN $1; END';
CREATE TABLE attack_indexed (id integer);
INSERT INTO attack_indexed VALUES (7);
CREATE INDEX ON attack_indexed (attack_index_of(id));
CREATE TABLE attack_keyed_by (id integer) PARTITION BY LIST (attack_index_of(id));
CREATE TABLE attack_keyed_by_one PARTITION OF attack_keyed_by FOR VALUES IN (1);
CREATE DOMAIN attack_default_domain AS integer DEFAULT attack_shout(900001);
CREATE TABLE attack_filled (id integer, word attack_domain, number attack_default_domain);
CREATE TABLE attack_ruled_also (id integer);
INSERT INTO attack_ruled_also VALUES (900001);
CREATE RULE attack_also AS ON UPDATE TO attack_ruled_also DO ALSO SELECT ssn FROM patients WHERE id = OLD.id;
CREATE TABLE attack_watched (id integer PRIMARY KEY);
CREATE TRIGGER attack_cry BEFORE DELETE OR TRUNCATE ON attack_watched FOR EACH STATEMENT
    EXECUTE FUNCTION attack_cry_once();
CREATE TABLE attack_upper (id integer PRIMARY KEY);
INSERT INTO attack_upper VALUES (1);
CREATE TABLE attack_under (id integer REFERENCES attack_upper ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO attack_under VALUES (1);
CREATE TRIGGER attack_cry BEFORE UPDATE OR DELETE ON attack_under FOR EACH ROW EXECUTE FUNCTION attack_cry_once();
CREATE TABLE attack_split (id integer) PARTITION BY LIST (id);
CREATE TABLE attack_split_one PARTITION OF attack_split FOR VALUES IN (1);
CREATE TRIGGER attack_cry BEFORE INSERT ON attack_split_one FOR EACH ROW EXECUTE FUNCTION attack_cry_once();
CREATE VIEW attack_instead AS SELECT id FROM attack_words;
CREATE TRIGGER attack_cry INSTEAD OF INSERT OR UPDATE ON attack_instead FOR EACH ROW
    EXECUTE FUNCTION attack_cry_once();
CREATE VIEW attack_view_coded AS SELECT id, attack_shout(id) AS shouted FROM patients WHERE attack_shout(id) = 1;
CREATE TYPE attack_pair AS (id integer);
CREATE FUNCTION text(attack_pair) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM patients WHERE id = $1.id';
CREATE CAST (attack_pair AS text) WITH FUNCTION text(attack_pair) AS ASSIGNMENT;
CREATE TYPE attack_range AS RANGE (subtype = integer);
CREATE TYPE attack_mood AS ENUM ('calm');
CREATE FUNCTION attack_mood_told(attack_mood) RETURNS json LANGUAGE sql STABLE
    AS 'SELECT to_json(reverse(last_name)) FROM patients WHERE id = 900001';
CREATE CAST (attack_mood AS json) WITH FUNCTION attack_mood_told(attack_mood);
CREATE TYPE attack_nested AS (word attack_domain);
CREATE FUNCTION attack_is_known(text) RETURNS boolean LANGUAGE plpgsql
    AS 'BEGIN RAISE EXCEPTION ''no %'', (SELECT reverse(last_name) FROM patients WHERE id = 900001)
        USING ERRCODE = ''undefined_table''; END';
CREATE DOMAIN attack_name AS text CHECK (attack_is_known(VALUE));
CREATE TYPE attack_named AS (name attack_name);
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON attack_words, attack_guarded, attack_checked, attack_indexed,
    attack_ruled_also, attack_watched, attack_keyed_by, attack_keyed_by_one, attack_filled, attack_upper, attack_under, attack_split, attack_split_one, attack_instead, attack_view_coded TO PUBLIC;

-- What notifies with a value no detector knows, when somebody writes, reads or calls it.
CREATE FUNCTION attack_tell() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS 'BEGIN PERFORM pg_notify(''attack'', reverse(last_name)) FROM patients WHERE id = 900001; RETURN ''told''; END';
CREATE FUNCTION attack_notice() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN PERFORM attack_tell(); RETURN NULL; END';
CREATE FUNCTION attack_tell_parsed() RETURNS text LANGUAGE sql
    BEGIN ATOMIC SELECT pg_notify('attack', reverse(last_name))::text FROM patients WHERE id = 900001; END;
CREATE FUNCTION attack_tell_first(text, text) RETURNS text LANGUAGE sql
    BEGIN ATOMIC SELECT pg_notify($1, $2)::text; END;
CREATE TABLE attack_noticed (id integer);
CREATE TRIGGER attack_notice AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON attack_noticed FOR EACH STATEMENT
    EXECUTE FUNCTION attack_notice();
CREATE TABLE attack_noticed_late (id integer);
CREATE CONSTRAINT TRIGGER attack_notice AFTER INSERT ON attack_noticed_late DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION attack_notice();
CREATE TABLE attack_noticed_rule (id integer);
CREATE RULE attack_also AS ON INSERT TO attack_noticed_rule DO ALSO
    SELECT pg_notify('attack', reverse(last_name)) FROM patients WHERE patients.id = 900001;
CREATE TABLE attack_noticed_default (id integer, told text DEFAULT attack_tell());
CREATE VIEW attack_telling AS SELECT id, pg_notify('attack', reverse(last_name))::text AS told FROM patients;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON attack_noticed, attack_noticed_late, attack_noticed_rule,
    attack_noticed_default, attack_telling TO PUBLIC;

CREATE SCHEMA attack_shadow;
CREATE VIEW attack_shadow.encounters AS SELECT id, ssn AS kind FROM public.patients;
CREATE FUNCTION attack_shadow.lower(text) RETURNS text LANGUAGE sql STABLE
    AS 'SELECT ssn FROM public.patients WHERE id = 900001';

CREATE VIEW attack_shadow.attack_words AS SELECT 1 AS id, reverse(last_name) AS word FROM public.patients WHERE id = 900001;
CREATE FUNCTION attack_shadow.is_told(integer, integer) RETURNS boolean LANGUAGE plpgsql
    AS 'BEGIN RAISE NOTICE ''asked %'', (SELECT ssn FROM public.patients WHERE id = $1); RETURN true; END';
CREATE OPERATOR attack_shadow.~!~ (FUNCTION = attack_shadow.is_told, LEFTARG = integer, RIGHTARG = integer);

GRANT USAGE ON SCHEMA attack_shadow TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA attack_shadow TO PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON attack_identifiers, attack_sink, attack_echo, attack_ruled, attack_default,
    attack_parted, attack_part, attack_view, attack_view_deep, attack_view_row, attack_swap, attack_matview TO PUBLIC;
GRANT ALL ON SEQUENCE attack_sequence TO PUBLIC;
