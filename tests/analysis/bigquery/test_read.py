"""What the reading says of single statements: origins, predicates, facts, and everything it refuses to understand."""

from __future__ import annotations

import pytest

from analysis.statement import Operation, PredicateUse
from analysis.words import words
from tests.analysis.bigquery.warehouse import analyse, summary

OUTPUTS = """
SELECT ssn FROM patients                                             => ssn<ssn:i
SELECT p.ssn AS harmless FROM clinic.patients AS p                   => harmless<ssn:i
SELECT `ssn` FROM `demo-project.clinic.patients`                     => ssn<ssn:i
SELECT REVERSE(ssn) AS x FROM patients                               => x<ssn:d
SELECT person.ssn FROM patients                                      => ssn<person.ssn:i
SELECT p.person.ssn FROM patients p                                  => ssn<person.ssn:i
SELECT person FROM patients                                          => person{ssn<person.ssn:i city<person.city:i}
SELECT person.* FROM patients                                        => ssn<person.ssn:i city<person.city:i
SELECT STRUCT(ssn AS a, 1 AS b) AS s FROM patients                   => s{a<ssn:i b<}
SELECT STRUCT<a STRING, b INT64>(ssn, 1) AS s FROM patients          => s{a<ssn:i b<}
SELECT STRUCT(ssn AS a).a FROM patients                              => a<ssn:i
SELECT c.phone FROM patients, UNNEST(contacts) AS c                  => phone<contacts.phone:i
SELECT phone FROM patients p, p.contacts                             => phone<contacts.phone:i
SELECT c FROM patients p, UNNEST(p.contacts) AS c                    => c{kind<contacts.kind:i phone<contacts.phone:i}
SELECT contacts[OFFSET(0)].phone FROM patients                       => phone<contacts.phone:i
SELECT t, o FROM patients, UNNEST(tags) AS t WITH OFFSET AS o        => t<tags:i o<
SELECT x.a FROM UNNEST([STRUCT(1 AS a), STRUCT(2)]) AS x             => a<
SELECT ARRAY(SELECT ssn FROM patients) AS xs                         => xs<ssn:d
SELECT ARRAY(SELECT AS STRUCT ssn, id FROM patients) AS xs           => xs{ssn<ssn:i id<id:i}
SELECT ARRAY_AGG(ssn) AS xs FROM patients                            => xs<ssn:d
SELECT AS STRUCT ssn, state FROM patients                            => ssn<ssn:i state<state:i
SELECT x.* FROM (SELECT AS STRUCT ssn FROM patients) AS x            => ssn<ssn:i
SELECT * EXCEPT (mrn, last_name, state, dob, person, tags, contacts, doc) FROM patients => id<id:i ssn<ssn:i
SELECT * REPLACE (ssn AS state) FROM (SELECT ssn, state FROM patients)         => ssn<ssn:i state<ssn:i
SELECT JSON_VALUE(doc, '$.ssn') AS x FROM patients                   => x<doc:d
SELECT doc.person.ssn FROM patients                                  => ssn<doc:d
SELECT label FROM labels                                             => label<labels.label:i,ssn:i
SELECT person_ssn FROM `clinic.events_*`
    => person_ssn<events_*.person_ssn:i,events_2025.person_ssn:i,events_2026.person_ssn:i
SELECT ssn FROM (SELECT mrn AS ssn FROM patients)                    => ssn<mrn:i
WITH patients AS (SELECT mrn AS ssn FROM clinic.patients) SELECT ssn FROM patients       => ssn<mrn:i
SELECT mrn FROM patients UNION ALL SELECT ssn FROM patients          => mrn<mrn:i,ssn:i
SELECT mrn, ssn FROM patients UNION ALL BY NAME SELECT ssn, mrn FROM patients            => mrn<mrn:i ssn<ssn:i
SELECT member_ssn FROM claims EXCEPT DISTINCT SELECT ssn FROM patients => member_ssn<claims.member_ssn:i,ssn:i
SELECT (SELECT MAX(ssn) FROM patients) AS m                          => m<ssn:d
SELECT EXISTS (SELECT 1 FROM patients WHERE ssn = 'x') AS e          => e<ssn:d
SELECT COUNT(ssn) AS n FROM patients                                 => n<ssn:s
SELECT COUNTIF(ssn = 'x') AS n FROM patients                         => n<ssn:d
SELECT ssn IS NULL AS n FROM patients                                => n<ssn:s
SELECT RANK() OVER (ORDER BY ssn) AS r FROM patients                 => r<ssn:d
SELECT RANK() OVER w AS r FROM patients WINDOW w AS (ORDER BY ssn)   => r<ssn:d
SELECT m FROM (SELECT state, ssn FROM patients) PIVOT (MAX(ssn) AS m FOR state IN ('CA' AS ca)) => !
SELECT m_ca FROM (SELECT state, ssn FROM patients) PIVOT (MAX(ssn) AS m FOR state IN ('CA' AS ca))
    => m_ca<ssn:d,state:d
SELECT v, n FROM (SELECT ssn, mrn FROM patients) UNPIVOT (v FOR n IN (ssn, mrn))         => v<mrn:i,ssn:i n<
SELECT clinic.backwards(ssn) AS x FROM patients                      => x<ssn:d
SELECT clinic.anyone() AS x                                          => x<ssn:d
WITH RECURSIVE r AS (SELECT mrn AS x FROM patients UNION ALL SELECT ssn FROM r, patients) SELECT x FROM r
    => x<mrn:i,ssn:i
SELECT table_name FROM clinic.INFORMATION_SCHEMA.COLUMNS => table_name<information_schema.COLUMNS.table_name:i
SELECT @p AS p, ? AS q                                               => p< q<
SELECT IF(ssn = 'x', 1, 0) AS b FROM patients                        => b<ssn:d
SELECT SAFE.SUBSTR(ssn, 1, 3) AS s FROM patients                     => s<ssn:d
"""


def cases(text: str) -> list[tuple[str, str]]:
    """`statement => expected`, the expectation perhaps on a line of its own."""
    lines = (line.split("=>") for line in text.strip().replace("\n    =>", " =>").splitlines())
    return [(statement.strip(), expected.strip()) for statement, expected in lines]


@pytest.mark.parametrize(("text", "expected"), cases(OUTPUTS), ids=[t for t, _ in cases(OUTPUTS)])
def test_outputs_name_their_origins(text: str, expected: str) -> None:
    analysis = analyse(text)

    if expected == "!":
        assert not analysis.complete
        return
    assert analysis.complete, analysis.problems
    assert " ".join(map(summary, analysis.outputs or ())) == expected


WHOLE_ROWS = """
SELECT TO_JSON_STRING(p) FROM patients p
SELECT TO_JSON(p) FROM patients AS p
SELECT FORMAT('%t', p) FROM patients p
SELECT ANY_VALUE(p) FROM patients p
SELECT ARRAY_AGG(p) FROM patients p
SELECT FORMAT('%T', (SELECT AS STRUCT p.*)) FROM patients p
"""
LEAVES = words("id mrn ssn last_name state dob person.ssn person.city tags contacts.kind contacts.phone doc")


@pytest.mark.parametrize("text", WHOLE_ROWS.strip().splitlines())
def test_whole_rows_are_made_of_every_field(text: str) -> None:
    analysis = analyse(text)

    assert analysis.complete, analysis.problems
    assert analysis.outputs is not None
    assert {origin.column.column for origin in analysis.outputs[0].origins} == LEAVES
    assert {origin.transform.value for origin in analysis.outputs[0].origins} == {"derived"}


def test_a_row_variable_keeps_its_fields_apart() -> None:
    output = (analyse("SELECT p FROM patients p").outputs or ())[0]

    assert [inner.name for inner in output.fields][:3] == ["id", "mrn", "ssn"]
    assert {str(origin.column) for origin in output.origins} >= {"clinic.patients.ssn", "clinic.patients.person.ssn"}


PREDICATES = """
SELECT 1 FROM patients WHERE ssn = '123-45-6789'                               => comparison
SELECT 1 FROM patients WHERE ssn = @p                                          => comparison
SELECT 1 FROM patients WHERE ssn LIKE '1%'                                     => comparison
SELECT 1 FROM patients WHERE ssn IN UNNEST(@p)                                 => comparison
SELECT 1 FROM patients WHERE STARTS_WITH(ssn, '1')                             => computed
SELECT 1 FROM patients WHERE ssn IS NOT NULL                                   => null_test
SELECT 1 FROM patients p JOIN claims c ON p.ssn = c.member_ssn                 => join_equality
SELECT 1 FROM patients WHERE ssn IN (SELECT member_ssn FROM claims)            => join_equality
SELECT 1 FROM patients WHERE ssn = (SELECT member_ssn FROM claims LIMIT 1)     => comparison
SELECT id FROM patients ORDER BY ssn                                           => order
SELECT id, ssn AS s FROM patients ORDER BY s                                   => order
SELECT id, ssn FROM patients ORDER BY 2                                        => order
SELECT COUNT(*) FROM patients GROUP BY ssn                                     => group
SELECT DISTINCT ssn FROM patients                                              => group
SELECT COUNT(DISTINCT ssn) FROM patients                                       => group
SELECT id FROM patients QUALIFY ROW_NUMBER() OVER (ORDER BY ssn) = 1           => computed
SELECT id FROM patients GROUP BY id HAVING MAX(ssn) > '5'                      => computed
SELECT 1 / IF(ssn = 'x', 0, 1) FROM patients                                   => comparison computed
SELECT CAST(ssn AS INT64) FROM patients                                        => computed
SELECT ERROR(ssn) FROM patients                                                => computed
SELECT CASE ssn WHEN 'x' THEN 1 END FROM patients                              => comparison
SELECT ssn FROM patients INTERSECT DISTINCT SELECT member_ssn FROM claims      => join_equality
SELECT ssn FROM patients EXCEPT DISTINCT SELECT 'x'                            => comparison
SELECT id FROM patients WHERE EXISTS (SELECT 1 FROM claims WHERE member_ssn = patients.ssn) => join_equality
SELECT 1 FROM (SELECT state, ssn FROM patients) PIVOT (COUNT(*) FOR ssn IN ('x')) => comparison
SELECT id FROM patients LIMIT 5                                                =>
"""


@pytest.mark.parametrize(("text", "expected"), cases(PREDICATES), ids=[t for t, _ in cases(PREDICATES)])
def test_predicates_name_what_steers_rows(text: str, expected: str) -> None:
    analysis = analyse(text)

    assert analysis.complete, analysis.problems
    about = {p.use.value for p in analysis.predicates if p.column.column == "ssn"}
    assert about == set(expected.split())


def test_a_join_names_its_partner() -> None:
    analysis = analyse("SELECT 1 FROM patients JOIN claims ON ssn = member_ssn")

    partners = {str(p.column): [str(c) for c in p.partners] for p in analysis.predicates}
    assert partners == {
        "clinic.patients.ssn": ["clinic.claims.member_ssn"],
        "clinic.claims.member_ssn": ["clinic.patients.ssn"],
    }


def test_what_a_views_author_asked_is_no_question_of_the_client() -> None:
    analysis = analyse("SELECT id FROM labels WHERE label = 'x'")

    uses = {(p.column.column, p.use) for p in analysis.predicates}
    assert uses == {("label", PredicateUse.COMPARISON), ("ssn", PredicateUse.COMPARISON)}


INCOMPLETE = """
EXECUTE IMMEDIATE 'SELECT ssn FROM clinic.patients'
CALL clinic.anything()
SELECT * FROM EXTERNAL_QUERY('us.other', 'SELECT ssn FROM patients')
SELECT * FROM ML.PREDICT(MODEL clinic.m, TABLE clinic.patients)
SELECT * FROM clinic.table_function(1)
SELECT AI.GENERATE(ssn) FROM patients
SELECT clinic.scripted(ssn) FROM patients
SELECT clinic.unknown(ssn) FROM patients
SELECT no_such_function(ssn) FROM patients
SELECT ssn FROM other_project.clinic.patients
SELECT ssn FROM clinic.no_such_table
SELECT no_such_column FROM patients
SELECT * FROM `demo-project._a1b2c3.anonf00d`
SELECT query FROM `region-us`.INFORMATION_SCHEMA.JOBS
SELECT query FROM clinic.INFORMATION_SCHEMA.JOBS_BY_PROJECT
SELECT ssn FROM `clinic.patients$20260101`
SELECT ssn FROM `clinic.patients@-3600000`
FROM patients |> SELECT ssn
SELECT @@error.message
CREATE ROW ACCESS POLICY p ON clinic.patients GRANT TO ('allUsers') FILTER USING (TRUE)
CREATE PROCEDURE clinic.p() BEGIN SELECT ssn FROM clinic.patients; END
CREATE TEMP FUNCTION f(x STRING) RETURNS STRING LANGUAGE js AS "return x"; SELECT f(ssn) FROM patients
CREATE TEMP FUNCTION first(x STRING) AS ((SELECT MAX(ssn) FROM clinic.patients)); SELECT first('a')
CREATE TEMP AGGREGATE FUNCTION f(x STRING) AS (STRING_AGG(x)); SELECT f(ssn) FROM patients
DECLARE x STRING DEFAULT (SELECT MAX(ssn) FROM clinic.patients); SELECT x
BEGIN SELECT 1/0; EXCEPTION WHEN ERROR THEN SELECT @@error.message; END
SELECT ssn FROM patients MATCH_RECOGNIZE (ORDER BY id MEASURES A.ssn AS x PATTERN (A) DEFINE A AS TRUE)
SELECT person.ssn FROM patients person
SELECT ssn FROM patients AS p(a, b)
SELECT 'unfinished
SELECT 1 WITHOUT MEANING
"""


@pytest.mark.parametrize("text", INCOMPLETE.strip().splitlines())
def test_the_unknown_is_never_complete(text: str) -> None:
    analysis = analyse(text)

    assert not analysis.complete
    assert analysis.problems
    assert all(not output.resolved for output in analysis.outputs or ())
    assert all("ssn" not in problem and "6789" not in problem for problem in analysis.problems)


ADMINISTRATION = """
EXECUTE IMMEDIATE 'SELECT 1'
SELECT * FROM EXTERNAL_QUERY('us.other', 'SELECT 1')
SELECT query FROM `region-us`.INFORMATION_SCHEMA.JOBS
SELECT * FROM `demo-project._a1b2c3.anonf00d`
EXPORT DATA OPTIONS (uri = 'gs://b/*.csv', format = 'CSV') AS SELECT ssn FROM clinic.patients
LOAD DATA INTO clinic.claims FROM FILES (format = 'CSV', uris = ['gs://b/x'])
GRANT `roles/bigquery.dataViewer` ON TABLE clinic.patients TO 'user:a@example.com'
CREATE ROW ACCESS POLICY p ON clinic.patients GRANT TO ('allUsers') FILTER USING (TRUE)
"""


@pytest.mark.parametrize("text", ADMINISTRATION.strip().splitlines())
def test_what_reaches_beyond_the_tables_is_administration(text: str) -> None:
    assert Operation.ADMIN in analyse(text).operations


OPERATIONS = """
SELECT 1                                                              => read
INSERT clinic.claims (claim_id) VALUES (1)                            => write
INSERT INTO clinic.claims (member_ssn) SELECT ssn FROM patients       => read write
UPDATE clinic.claims SET amount = 1 WHERE claim_id = 2                => read write
DELETE FROM clinic.claims WHERE claim_id = 2                          => read write
TRUNCATE TABLE clinic.claims                                          => write
MERGE clinic.claims t USING patients s ON t.patient_id = s.id WHEN MATCHED THEN UPDATE SET member_ssn = s.ssn
    => read write
CREATE TABLE clinic.copy AS SELECT ssn FROM patients                  => ddl read
CREATE TABLE clinic.copy COPY clinic.patients                         => ddl read
CREATE VIEW clinic.copy AS SELECT ssn FROM patients                   => ddl read
DROP TABLE clinic.claims                                              => ddl
ALTER TABLE clinic.claims ADD COLUMN x INT64                          => ddl
BEGIN TRANSACTION                                                     => session
CREATE TEMP FUNCTION f(x STRING) AS (UPPER(x)); SELECT f(ssn) FROM patients => read session
"""


@pytest.mark.parametrize(("text", "expected"), cases(OPERATIONS), ids=[t for t, _ in cases(OPERATIONS)])
def test_ordinary_statements_are_complete(text: str, expected: str) -> None:
    analysis = analyse(text)

    assert analysis.complete, analysis.problems
    assert {str(operation) for operation in analysis.operations} == set(expected.split())


WRITES = """
INSERT clinic.claims (claim_id, amount) VALUES (1, 2)                 => claim_id amount
INSERT clinic.claims VALUES (1, 2, 3, 'x')                            => claim_id patient_id amount member_ssn
UPDATE clinic.patients SET person.ssn = 'x' WHERE id = 1              => person.ssn
UPDATE clinic.patients p SET p.person = STRUCT('a', 'b') WHERE id = 1 => person person.ssn person.city
MERGE clinic.claims t USING patients s ON t.patient_id = s.id WHEN NOT MATCHED THEN INSERT (member_ssn) VALUES (s.ssn)
    => member_ssn
TRUNCATE TABLE clinic.claims                                          => claim_id patient_id amount member_ssn
"""


@pytest.mark.parametrize(("text", "expected"), cases(WRITES), ids=[t for t, _ in cases(WRITES)])
def test_writes_name_their_columns(text: str, expected: str) -> None:
    assert {column.column for column in analyse(text).writes} == set(expected.split())


FACTS = """
SELECT mrn FROM patients                                              => no_where
SELECT mrn FROM patients WHERE TRUE                                   => no_where
SELECT mrn FROM patients WHERE id = id                                => no_where
SELECT mrn FROM patients WHERE id IS NOT NULL                         => no_where
SELECT mrn FROM patients WHERE id = 1                                 =>
SELECT mrn FROM patients WHERE id = 1 LIMIT 7                         => bound=7
SELECT COUNT(*) FROM patients WHERE id = 1                            => bound=1 aggregated
SELECT state, COUNT(*) FROM patients WHERE id > 1 GROUP BY state      => aggregated
SELECT mrn, COUNT(*) FROM patients WHERE id > 1 GROUP BY mrn          =>
SELECT ARRAY_AGG(mrn) FROM patients WHERE id > 1                      => collects
SELECT mrn FROM (SELECT mrn FROM patients LIMIT 3)                    => no_where bound=3
SELECT mrn FROM (SELECT mrn, id FROM patients) WHERE id = 5           =>
SELECT 1 UNION ALL SELECT 2                                           => bound=2
SELECT * FROM UNNEST([1, 2, 3])                                       => bound=3
UPDATE clinic.claims SET amount = 1 WHERE TRUE                        => no_where bound=0
DELETE FROM clinic.claims WHERE claim_id = 1                          => bound=0
CREATE TABLE clinic.copy AS SELECT mrn FROM patients WHERE id = 1     => export bound=0
"""


@pytest.mark.parametrize(("text", "expected"), cases(FACTS), ids=[t for t, _ in cases(FACTS)])
def test_facts(text: str, expected: str) -> None:
    facts = analyse(text).facts

    found = [name for name in ("no_where", "export", "collects", "aggregated") if getattr(facts, name)]
    found += [] if facts.row_bound is None else [f"bound={facts.row_bound}"]
    assert sorted(found) == sorted(expected.split())


def test_a_directive_for_legacy_sql_is_never_followed() -> None:
    assert analyse("SELECT ssn FROM patients").complete

    analysis = analyse("#legacySQL\nSELECT ssn FROM patients")

    assert not analysis.complete
    assert Operation.ADMIN in analysis.operations


def test_scripts_follow_what_they_make() -> None:
    analysis = analyse(
        "CREATE TEMP TABLE s AS SELECT ssn AS z FROM patients; INSERT INTO s SELECT mrn FROM patients; SELECT z FROM s"
    )

    assert analysis.kind == "SCRIPT"
    assert " ".join(map(summary, analysis.outputs or ())) == "z<mrn:i,ssn:i"
    assert analysis.facts.statement_count == 3
    assert analysis.problems == ("BigQuery gave no second reading of a part",)


def test_a_branch_decided_by_a_protected_column_is_a_predicate() -> None:
    text = "IF (SELECT COUNT(*) FROM patients WHERE ssn LIKE '1%') > 0 THEN SELECT 1; END IF"
    analysis = analyse(text)

    assert {p.use.value for p in analysis.predicates if p.column.column == "ssn"} == {"comparison"}


def test_the_last_of_several_queries_that_may_run_is_not_believed() -> None:
    analysis = analyse("IF TRUE THEN SELECT ssn FROM patients; ELSE SELECT 1; END IF")

    assert not analysis.complete
    assert [output.resolved for output in analysis.outputs or ()] == [False]


def test_a_merge_that_inserts_names_its_source_alone() -> None:
    """What dbt's incremental models send: the same names on both sides."""
    source = "(SELECT id AS patient_id, ssn FROM clinic.patients)"
    using = f"MERGE clinic.claims t USING {source} s ON t.patient_id = s.patient_id"
    inserting = analyse(f"{using} WHEN NOT MATCHED THEN INSERT (patient_id) VALUES (patient_id)")
    updating = analyse(f"{using} WHEN MATCHED THEN UPDATE SET patient_id = patient_id")

    assert inserting.complete, inserting.problems
    assert "clinic.patients.id" in {str(column) for column in inserting.reads}
    assert not updating.complete  # here both could be meant
