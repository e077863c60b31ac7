CREATE TABLE patients (
  id integer PRIMARY KEY, mrn text NOT NULL UNIQUE, first_name text, last_name text, ssn varchar(11), dob date,
  sex char(1), email text, phone text, address text, city text, state text, zip text
);
CREATE TABLE encounters (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, patient_id integer NOT NULL REFERENCES patients, kind text,
  started_at timestamptz NOT NULL DEFAULT now(), details jsonb
);
CREATE TABLE clinical_notes (
  id serial PRIMARY KEY, encounter_id bigint REFERENCES encounters, note text, tags text[]
);
CREATE TABLE claims (id integer PRIMARY KEY, patient_id integer, amount numeric(12, 2), year integer, UNIQUE (patient_id, year));
CREATE VIEW patient_names AS SELECT id, first_name || ' ' || last_name AS full_name, ssn AS number FROM patients WHERE dob IS NOT NULL;
CREATE VIEW names_of_names AS SELECT full_name, upper(number) AS loud FROM patient_names;
CREATE MATERIALIZED VIEW patient_counts AS SELECT state, count(*) AS n FROM patients GROUP BY state;
CREATE TABLE visits (id integer, patient_ssn text, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE visits_2024 PARTITION OF visits FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE FUNCTION shout(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT upper(value) $$;
CREATE FUNCTION copy_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TABLE watched (id integer PRIMARY KEY, body text);
CREATE TRIGGER watch BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION copy_note();
CREATE TABLE shouted (id integer PRIMARY KEY, body text DEFAULT shout('x'));
CREATE FUNCTION strange_equal(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT $1 = $2 $$;
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = strange_equal);
CREATE FUNCTION is_odd(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
CREATE DOMAIN odd_text AS text CHECK (is_odd(VALUE));
CREATE TABLE guesses (guess text);
CREATE TABLE coded (code text, loud text GENERATED ALWAYS AS (upper(code)) STORED);
CREATE SCHEMA other;
CREATE TABLE other.patients (id integer, ssn text);
CREATE TYPE odd_row AS (word odd_text, n integer);
CREATE TYPE mood AS ENUM ('calm', 'odd');
CREATE FUNCTION mood_told(mood) RETURNS json LANGUAGE sql AS $$ SELECT 'null'::json $$;
CREATE CAST (mood AS json) WITH FUNCTION mood_told(mood);
CREATE TABLE moods (id integer, m mood);
CREATE TABLE shrunk (gone integer, id integer, state text, ssn text);
ALTER TABLE shrunk DROP COLUMN gone;
CREATE TABLE stays (
  id integer PRIMARY KEY, mrn text REFERENCES patients (mrn), born date, admitted date, released date, ward text,
  days integer GENERATED ALWAYS AS (released - admitted) STORED CHECK (days >= 0), CHECK (born <= admitted)
);
CREATE VIEW young_stays AS SELECT id, admitted FROM stays WHERE born > admitted - 9000 WITH CHECK OPTION;
CREATE VIEW all_stays AS SELECT id, admitted, released FROM stays;
CREATE TABLE beds (
  id integer PRIMARY KEY, ward text, patient text, code text, kept daterange, stay daterange, note text,
  UNIQUE (patient, ward) INCLUDE (note), EXCLUDE USING gist (kept WITH &&, stay WITH &&)
);
CREATE UNIQUE INDEX ON beds (code) WHERE patient > '5';
CREATE TABLE documents (id integer, document json);
