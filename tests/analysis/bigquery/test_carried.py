"""What statements carry from column to column: `origin>place`, as a copy of protected data would."""

from __future__ import annotations

import pytest

from analysis.statement import Destination
from tests.analysis.bigquery.warehouse import PROJECT, analyse

SSN = "clinic.patients.ssn"


def carried(text: str, destination: str = "") -> set[str]:
    to = Destination(destination, "WRITE_APPEND") if destination else None
    found = analyse(text, destination=to).carries
    return {f"{each.origin}>{each.into}".replace("clinic.patients.", "") for each in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CREATE TABLE clinic.t AS SELECT ssn AS z FROM patients", {"ssn>clinic.t.z"}),
        ("CREATE TABLE clinic.t AS SELECT CONCAT('a', ssn) AS z FROM patients", {"ssn>clinic.t.z"}),
        (
            "CREATE OR REPLACE TABLE clinic.t AS SELECT label FROM labels",
            {"ssn>clinic.t.label", "clinic.labels.label>clinic.t.label"},
        ),
        ("CREATE TABLE clinic.t AS SELECT MAX(ssn) AS z FROM patients", {"ssn>clinic.t.z"}),
        ("CREATE TABLE clinic.t AS SELECT t FROM patients, UNNEST(tags) AS t", {"tags>clinic.t.t"}),
        (
            "CREATE TABLE clinic.t AS SELECT person FROM patients",
            {"person.ssn>clinic.t.person.ssn", "person.city>clinic.t.person.city"},
        ),
        ("CREATE TABLE clinic.t AS SELECT STRUCT(ssn AS a) AS s FROM patients", {"ssn>clinic.t.s.a"}),
        ("CREATE TABLE clinic.t AS SELECT COUNT(ssn) AS n FROM patients", set()),
        ("CREATE TABLE clinic.t AS SELECT 1 AS n FROM patients WHERE ssn = 'a'", set()),
        ("CREATE VIEW clinic.v AS SELECT ssn AS z FROM patients", set()),
        ("CREATE TEMP TABLE t AS SELECT ssn AS z FROM patients", set()),
        ("INSERT INTO claims (member_ssn) SELECT ssn FROM patients", {"ssn>clinic.claims.member_ssn"}),
        ("INSERT INTO claims (claim_id) VALUES ((SELECT MAX(id) FROM patients))", {"id>clinic.claims.claim_id"}),
        (
            "DECLARE x STRING; SET x = (SELECT MAX(ssn) FROM patients); INSERT INTO claims (member_ssn) VALUES (x)",
            {"ssn>clinic.claims.member_ssn"},
        ),
        ("UPDATE patients SET last_name = ssn WHERE id = 1", {"ssn>last_name"}),
        ("UPDATE patients SET last_name = 'a' WHERE ssn = 'b'", set()),
        ("UPDATE patients SET ssn = 'a' WHERE id = 1", set()),
        (
            "MERGE claims USING patients ON claim_id = id WHEN MATCHED THEN UPDATE SET member_ssn = ssn"
            " WHEN NOT MATCHED THEN INSERT (member_ssn) VALUES (mrn)",
            {"ssn>clinic.claims.member_ssn", "mrn>clinic.claims.member_ssn"},
        ),
        ("ALTER TABLE patients RENAME COLUMN ssn TO harmless", {"ssn>harmless"}),
        ("DELETE FROM patients WHERE ssn = 'a'", set()),
        ("EXPORT DATA OPTIONS (uri = 'gs://a/*') AS SELECT ssn FROM patients", {"ssn>outside.warehouse.ssn"}),
    ],
)
def test_what_a_statement_carries(text: str, expected: set[str]) -> None:
    assert carried(text) == expected


@pytest.mark.parametrize("word", ["CLONE", "COPY"])
def test_a_copy_carries_every_column(word: str) -> None:
    found = carried(f"CREATE TABLE clinic.t {word} patients")

    assert {"ssn>clinic.t.ssn", "person.ssn>clinic.t.person.ssn", "doc>clinic.t.doc"} <= found


def test_a_table_under_another_name_carries_every_column() -> None:
    assert "ssn>clinic.innocent.ssn" in carried("ALTER TABLE patients RENAME TO innocent")


def test_a_destination_table_takes_the_result() -> None:
    table = f"{PROJECT}.clinic.t"

    assert carried("SELECT ssn AS z, id FROM patients", table) == {"ssn>clinic.t.z", "id>clinic.t.id"}
    assert "person.ssn>clinic.t.person.ssn" in carried("SELECT * FROM patients", table)
