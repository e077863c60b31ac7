-- The demo's clinical database. Every identifier of 45 CFR 164.514(b)(2) that fits a small clinic has its column;
-- the values are synthetic (hoopweb/demo/generate.py).

CREATE TABLE patients (
    id             integer PRIMARY KEY,
    mrn            text NOT NULL UNIQUE,
    first_name     text NOT NULL,
    last_name      text NOT NULL,
    ssn            text NOT NULL UNIQUE,
    dob            date NOT NULL,
    sex            char(1) NOT NULL CHECK (sex IN ('F', 'M')),
    email          text,
    phone          text,
    address        text NOT NULL,
    city           text NOT NULL,
    state          char(2) NOT NULL,
    zip            char(5) NOT NULL,
    active         boolean NOT NULL DEFAULT true,
    registered_at  timestamptz NOT NULL
);
CREATE INDEX patients_last_name ON patients (last_name, first_name);

CREATE TABLE encounters (
    id             integer PRIMARY KEY,
    patient_id     integer NOT NULL REFERENCES patients (id),
    kind           text NOT NULL CHECK (kind IN ('office', 'emergency', 'inpatient', 'telehealth')),
    department     text NOT NULL,
    provider_npi   text NOT NULL,
    admitted_at    timestamptz NOT NULL,
    discharged_at  timestamptz,
    status         text NOT NULL DEFAULT 'finished' CHECK (status IN ('planned', 'open', 'finished', 'cancelled')),
    CHECK (discharged_at IS NULL OR discharged_at >= admitted_at)
);
CREATE INDEX encounters_patient ON encounters (patient_id);

CREATE TABLE diagnoses (
    id             integer PRIMARY KEY,
    encounter_id   integer NOT NULL REFERENCES encounters (id),
    patient_id     integer NOT NULL REFERENCES patients (id),
    icd10          text NOT NULL,
    description    text NOT NULL,
    rank           smallint NOT NULL DEFAULT 1,
    diagnosed_on   date NOT NULL
);
CREATE INDEX diagnoses_patient ON diagnoses (patient_id);
CREATE INDEX diagnoses_icd10 ON diagnoses (icd10);

CREATE TABLE lab_results (
    id             integer PRIMARY KEY,
    encounter_id   integer NOT NULL REFERENCES encounters (id),
    patient_id     integer NOT NULL REFERENCES patients (id),
    loinc          text NOT NULL,
    test_name      text NOT NULL,
    value          numeric(8, 2) NOT NULL,
    unit           text NOT NULL,
    abnormal       boolean NOT NULL,
    collected_at   timestamptz NOT NULL
);
CREATE INDEX lab_results_patient ON lab_results (patient_id);

CREATE TABLE clinical_notes (
    id             integer PRIMARY KEY,
    encounter_id   integer NOT NULL REFERENCES encounters (id),
    patient_id     integer NOT NULL REFERENCES patients (id),
    kind           text NOT NULL CHECK (kind IN ('progress', 'discharge', 'phone')),
    author         text NOT NULL,
    written_at     timestamptz NOT NULL,
    note           text NOT NULL
);
CREATE INDEX clinical_notes_patient ON clinical_notes (patient_id);

CREATE TABLE claims (
    id             integer PRIMARY KEY,
    patient_id     integer NOT NULL REFERENCES patients (id),
    encounter_id   integer NOT NULL REFERENCES encounters (id),
    payer          text NOT NULL,
    member_id      text NOT NULL,
    claim_number   text NOT NULL UNIQUE,
    amount         numeric(10, 2) NOT NULL CHECK (amount >= 0),
    status         text NOT NULL DEFAULT 'submitted' CHECK (status IN ('submitted', 'paid', 'denied', 'appealed')),
    submitted_on   date NOT NULL,
    paid_on        date
);
CREATE INDEX claims_patient ON claims (patient_id);
