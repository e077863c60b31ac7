"""The synthetic clinic: reproducible, unlike anyone, and as awkward as real data."""

from __future__ import annotations

import re
from datetime import date

import psycopg
import pytest

from hoopweb.demo.generate import COLUMNS, PATIENTS, TODAY, Clinic, generate

SAMPLE = 400


@pytest.fixture(scope="module")
def clinic() -> Clinic:
    return generate(patients=SAMPLE)


def column(clinic: Clinic, table: str, name: str) -> list[object]:
    position = COLUMNS[table].index(name)
    return [row[position] for row in getattr(clinic, table)]


def test_generate_same_seed_gives_the_same_rows(clinic: Clinic) -> None:
    assert generate(patients=SAMPLE) == clinic


def test_generate_other_seed_gives_other_rows(clinic: Clinic) -> None:
    assert generate(patients=SAMPLE, seed=1) != clinic


def test_generate_makes_twelve_thousand_patients_with_distinct_identifiers() -> None:
    whole = generate()

    assert len(whole.patients) == PATIENTS == 12_000
    assert len(set(column(whole, "patients", "ssn"))) == PATIENTS
    assert len(set(column(whole, "patients", "mrn"))) == PATIENTS


def test_generate_ssns_were_never_issued(clinic: Clinic) -> None:
    for ssn in column(clinic, "patients", "ssn"):
        match = re.fullmatch(r"(9\d\d)-(\d\d)-(\d{4})", str(ssn))

        assert match is not None
        assert 1 <= int(match[2]) <= 49  # ITINs have groups 50 and over
        assert match[3] != "0000"


def test_generate_contacts_reach_nobody(clinic: Clinic) -> None:
    for phone in filter(None, column(clinic, "patients", "phone")):
        assert re.fullmatch(r"(\(\d{3}\) |\d{3}-)555-01\d\d", str(phone))
    for email in filter(None, column(clinic, "patients", "email")):
        assert re.search(r"@example\.(com|org|net)$", str(email))


def test_generate_has_ages_over_89_and_nobody_unborn(clinic: Clinic) -> None:
    births = [value for value in column(clinic, "patients", "dob") if isinstance(value, date)]

    assert any((TODAY - born).days > 90 * 365.25 for born in births)
    assert all((TODAY - born).days > 4 * 365 for born in births)


def test_generate_notes_mention_their_patients_identifiers(clinic: Clinic) -> None:
    by_id = dict(zip(column(clinic, "patients", "id"), clinic.patients, strict=True))
    mentioned = {"mrn": 0, "last_name": 0, "ssn": 0, "phone": 0}
    for row in clinic.clinical_notes:
        patient = dict(zip(COLUMNS["patients"], by_id[row[2]], strict=True))
        for name in mentioned:
            mentioned[name] += bool(patient[name]) and str(patient[name]) in str(row[-1])

    assert all(count >= 5 for count in mentioned.values()), mentioned


def test_load_fills_every_table_and_leaves_ids_to_the_database(clinic_owner_dsn: str) -> None:
    with psycopg.connect(clinic_owner_dsn) as connection:
        counts = {
            table: connection.execute(f"SELECT count(*), max(id) FROM {table}").fetchone()  # type: ignore[arg-type]
            for table in COLUMNS
        }
        added = connection.execute(
            "INSERT INTO lab_results (encounter_id, patient_id, loinc, test_name, value, unit, abnormal, collected_at) "
            "VALUES (1, 1, '2345-7', 'Glucose', 90, 'mg/dL', false, now()) RETURNING id"
        ).fetchone()
        connection.rollback()

    assert counts["patients"] == (300, 300)
    assert all(row is not None and row[0] == row[1] > 100 for row in counts.values())
    assert added is not None
    assert added[0] == counts["lab_results"][1] + 1


def test_gateway_role_may_change_rows_and_nothing_else(clinic_dsn: str) -> None:
    with psycopg.connect(clinic_dsn) as connection:
        changed = connection.execute("UPDATE patients SET city = city WHERE id = 1").rowcount
        connection.execute("CREATE TEMP TABLE probe (id integer)")
        connection.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE kept (id integer)")

    assert changed == 1
