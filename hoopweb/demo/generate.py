"""A seeded generator of a synthetic clinic: the same seed and size give the same rows, byte for byte.

Nothing can belong to anyone: SSNs use areas 900-999 with groups 01-49 (never issued as SSNs, nor as ITINs), phone
numbers 555-0100 to 555-0199 (reserved for fiction), e-mail the example domains of RFC 2606, provider numbers a failing
check digit, Medicare ids the letter S that real ones never use.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from hoopweb.demo import words

PATIENTS = 12_000
SEED = 164_514
TODAY = date(2026, 6, 30)  # fixed: ages and visits must not depend on the day of the run
SCHEMA = Path(__file__).with_name("schema.sql")

Row = tuple[object, ...]
_OVER_89 = 0.02  # share of patients whose age Safe Harbor hides
_DAYS_OF_VISITS = 1_500  # before them everybody was registered, and before that everybody was born
_RESTRICTED = 10  # the last entries of words.PLACES


@dataclass(slots=True)
class Clinic:
    """Rows by table, in an order that satisfies the foreign keys, with their column names."""

    patients: list[Row] = field(default_factory=list)
    encounters: list[Row] = field(default_factory=list)
    diagnoses: list[Row] = field(default_factory=list)
    lab_results: list[Row] = field(default_factory=list)
    clinical_notes: list[Row] = field(default_factory=list)
    claims: list[Row] = field(default_factory=list)

    def tables(self) -> Iterator[tuple[str, tuple[str, ...], list[Row]]]:
        for table, columns in COLUMNS.items():
            yield table, columns, getattr(self, table)


@dataclass(frozen=True, slots=True)
class Visit:
    """What the rows of one encounter share."""

    encounter: int
    patient: Row
    admitted: datetime

    @property
    def patient_id(self) -> int:
        return int(str(self.patient[0]))


COLUMNS: dict[str, tuple[str, ...]] = {
    "patients": tuple(
        "id mrn first_name last_name ssn dob sex email phone address city state zip active registered_at".split()
    ),
    "encounters": tuple("id patient_id kind department provider_npi admitted_at discharged_at status".split()),
    "diagnoses": tuple("id encounter_id patient_id icd10 description rank diagnosed_on".split()),
    "lab_results": tuple(
        "id encounter_id patient_id loinc test_name value unit abnormal collected_at".split(),
    ),
    "clinical_notes": tuple("id encounter_id patient_id kind author written_at note".split()),
    "claims": tuple(
        "id patient_id encounter_id payer member_id claim_number amount status submitted_on paid_on".split()
    ),
}


def generate(*, patients: int = PATIENTS, seed: int = SEED) -> Clinic:
    """Return a whole clinic of that many patients."""
    chance = random.Random(seed)  # noqa: S311 - reproducible on purpose; nothing secret comes from it
    clinic = Clinic()
    ssns = _distinct(chance, patients, 100 * 49 * 9_999)
    mrns = _distinct(chance, patients, 9_000_000)
    for index in range(patients):
        patient = _patient(chance, number=index + 1, ssn=_ssn(ssns[index]), mrn=f"MRN{1_000_000 + mrns[index]}")
        clinic.patients.append(patient)
        for _ in range(chance.choices((1, 2, 3, 4), (40, 30, 20, 10))[0]):
            _add_encounter(clinic, chance, patient)
    return clinic


def load(dsn: str, clinic: Clinic) -> None:
    """Create the schema and copy the rows in, in one transaction. The caller sees to an empty schema `public`."""
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(SCHEMA.read_bytes())
        for table, columns, rows in clinic.tables():
            _copy(cursor, table, columns, rows)
            cursor.execute(
                sql.SQL("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)"), [f"public.{table}", len(rows)]
            )
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")


def _copy(cursor: psycopg.Cursor[Row], table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _distinct(chance: random.Random, count: int, below: int) -> list[int]:
    return chance.sample(range(below), count)


def _ssn(number: int) -> str:
    serial, rest = number % 9_999 + 1, number // 9_999
    return f"{900 + rest // 49}-{rest % 49 + 1:02}-{serial:04}"


def _patient(chance: random.Random, *, number: int, ssn: str, mrn: str) -> Row:
    sex = chance.choice("FM")
    first, last = chance.choice(words.FEMALE if sex == "F" else words.MALE), chance.choice(words.LAST)
    city, state, prefix = _place(chance)
    house = f"{chance.randrange(1, 9_900)} {chance.choice(words.STREETS)} {chance.choice(words.STREET_KINDS)}"
    flat = f", Apt {chance.randrange(1, 60)}" if chance.random() < 0.2 else ""
    return (
        number,
        mrn,
        first,
        last,
        ssn,
        _dob(chance),
        sex,
        _email(chance, first, last, number) if chance.random() < 0.93 else None,
        _phone(chance) if chance.random() < 0.97 else None,
        house + flat,
        city,
        state,
        f"{prefix}{chance.randrange(1, 99):02}",
        chance.random() < 0.94,
        _moment(chance, TODAY - timedelta(days=chance.randrange(_DAYS_OF_VISITS, _DAYS_OF_VISITS + 300))),
    )


def _place(chance: random.Random) -> tuple[str, str, str]:
    """Restricted ZIP prefixes are rare, as in life, but present in every few hundred patients."""
    places = words.PLACES[-_RESTRICTED:] if chance.random() < 0.03 else words.PLACES[:-_RESTRICTED]
    return chance.choice(places)


def _dob(chance: random.Random) -> date:
    years = chance.randrange(90, 104) if chance.random() < _OVER_89 else chance.randrange(5, 90)
    return TODAY - timedelta(days=int((years + chance.random()) * 365.25) + 1)


def _email(chance: random.Random, first: str, last: str, number: int) -> str:
    domain = chance.choice(("example.com", "example.org", "example.net"))
    return f"{first}.{last}{number}@{domain}".lower()


def _phone(chance: random.Random) -> str:
    area, line = chance.choice(words.AREA_CODES), 100 + chance.randrange(100)
    return f"({area}) 555-0{line}" if chance.random() < 0.6 else f"{area}-555-0{line}"


def _moment(chance: random.Random, day: date) -> datetime:
    return datetime(day.year, day.month, day.day, chance.randrange(7, 20), chance.randrange(60), tzinfo=UTC)


def _add_encounter(clinic: Clinic, chance: random.Random, patient: Row) -> None:
    kind = chance.choices(("office", "emergency", "inpatient", "telehealth"), (60, 12, 10, 18))[0]
    admitted = _moment(chance, TODAY - timedelta(days=chance.randrange(1, _DAYS_OF_VISITS)))
    days = timedelta(days=chance.randrange(1, 12))
    discharged = admitted + (days if kind == "inpatient" else timedelta(minutes=chance.randrange(15, 240)))
    department = chance.choice(words.DEPARTMENTS[kind])
    visit = Visit(encounter=len(clinic.encounters) + 1, patient=patient, admitted=admitted)
    clinic.encounters.append(
        (visit.encounter, visit.patient_id, kind, department, _npi(chance), admitted, discharged, "finished")
    )
    problems = chance.sample(words.DIAGNOSES, chance.choice((1, 1, 2)))
    _add_diagnoses(clinic, visit, problems)
    _add_labs(clinic, chance, visit)
    if chance.random() < 0.6:
        note_kind = "discharge" if kind == "inpatient" else chance.choice(("progress", "progress", "phone"))
        _add_note(clinic, chance, visit, kind=note_kind, problem=problems[0][1])
    _add_claim(clinic, chance, visit)


def _npi(chance: random.Random) -> str:
    """Ten digits starting with 1 whose Luhn check over `80840` + NPI fails, so that no provider has it."""
    body = f"1{chance.randrange(10**8):08}"
    digits = [int(digit) for digit in f"80840{body}"]
    total = sum(sum(divmod(2 * digit, 10)) for digit in digits[::-1][::2]) + sum(digits[::-1][1::2])
    return f"{body}{(-total + 1) % 10}"


def _add_diagnoses(clinic: Clinic, visit: Visit, problems: list[tuple[str, str]]) -> None:
    for rank, (code, description) in enumerate(problems, 1):
        number = len(clinic.diagnoses) + 1
        day = visit.admitted.date()
        clinic.diagnoses.append((number, visit.encounter, visit.patient_id, code, description, rank, day))


def _add_labs(clinic: Clinic, chance: random.Random, visit: Visit) -> None:
    for loinc, name, unit, low, high in chance.sample(words.LABS, chance.choice((0, 1, 2, 3))):
        value = max(0.1, round(chance.gauss((low + high) / 2, (high - low) / 2.5), 2))
        abnormal = not low <= value <= high
        number = len(clinic.lab_results) + 1
        clinic.lab_results.append(
            (number, visit.encounter, visit.patient_id, loinc, name, value, unit, abnormal, visit.admitted)
        )


def _add_note(clinic: Clinic, chance: random.Random, visit: Visit, *, kind: str, problem: str) -> None:
    text = chance.choice(words.NOTES[kind]).format(**_facts(chance, visit, problem))
    author = f"{chance.choice(words.FEMALE + words.MALE)} {chance.choice(words.LAST)}, MD"
    number = len(clinic.clinical_notes) + 1
    clinic.clinical_notes.append(
        (number, visit.encounter, visit.patient_id, kind, author, visit.admitted, text[0].upper() + text[1:])
    )


def _facts(chance: random.Random, visit: Visit, problem: str) -> dict[str, object]:
    """What a note template may mention; the values are the patient's own."""
    values = dict(zip(COLUMNS["patients"], visit.patient, strict=True))
    dob, ssn = values["dob"], str(values["ssn"])
    assert isinstance(dob, date)
    return {
        "first": values["first_name"],
        "last": values["last_name"],
        "mrn": values["mrn"],
        "ssn": ssn,
        "ssn4": ssn[-4:],
        "dob": dob.strftime("%m/%d/%Y"),
        "age": (visit.admitted.date() - dob).days // 365,
        "title": "Ms." if values["sex"] == "F" else "Mr.",
        "phone": values["phone"] or _phone(chance),
        "email": values["email"] or "the postal address",
        "address": values["address"],
        "city": values["city"],
        "relative": f"{chance.choice(words.FEMALE)} {values['last_name']}",
        "date": visit.admitted.date().isoformat(),
        "date_us": visit.admitted.strftime("%m/%d/%Y"),
        "problem": problem[0].lower() + problem[1:],
    }


def _add_claim(clinic: Clinic, chance: random.Random, visit: Visit) -> None:
    number = len(clinic.claims) + 1
    payer = chance.choice(words.PAYERS)
    member = _member_id(payer, visit.patient_id)
    amount = round(chance.lognormvariate(5.5, 1.0), 2)
    status = chance.choices(("paid", "submitted", "denied", "appealed"), (75, 12, 10, 3))[0]
    submitted = visit.admitted.date() + timedelta(days=chance.randrange(1, 20))
    paid = submitted + timedelta(days=chance.randrange(10, 60)) if status == "paid" else None
    clinic.claims.append(
        (
            number,
            visit.patient_id,
            visit.encounter,
            payer,
            member,
            f"CLM{number:08}",
            amount,
            status,
            submitted,
            paid,
        )
    )


def _member_id(payer: str, patient: int) -> str:
    """One id per patient and payer. Medicare's begin 1S00, the form CMS uses for synthetic beneficiaries."""
    if payer == "Medicare":
        return f"1S00E{patient % 10}{chr(65 + patient % 5)}{patient // 10 % 10}AA{patient // 100 % 90 + 10}"
    return f"{payer[:2].upper()}{sum(payer.encode()) % 90 + 10}{patient:07}"
