"""SQLAlchemy over psycopg: reflection of the clinic, ORM reads, a unit of work."""

from __future__ import annotations

import psycopg
from sqlalchemy import URL, Engine, MetaData, create_engine, func, inspect, select
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import Session

from tests.stack import Stack


def engine_for(dsn: str) -> Engine:
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return create_engine(
        URL.create(
            "postgresql+psycopg",
            username=str(parts["user"]),
            password=str(parts["password"]),
            host=str(parts["host"]),
            port=int(str(parts["port"])),
            database=str(parts["dbname"]),
            query={"sslmode": str(parts.get("sslmode", "prefer"))},
        )
    )


def superuser_engine(stack: Stack) -> Engine:
    return create_engine(stack.superuser_dsn("clinic").replace("postgresql://", "postgresql+psycopg://", 1))


def test_sqlalchemy_reflects_the_clinic_as_it_would_directly(stack: Stack, agent_dsn: str) -> None:
    through, direct = inspect(engine_for(agent_dsn)), inspect(superuser_engine(stack))

    for table in ("patients", "encounters", "claims"):
        assert str(through.get_columns(table)) == str(direct.get_columns(table))
        assert through.get_pk_constraint(table) == direct.get_pk_constraint(table)
        assert through.get_foreign_keys(table) == direct.get_foreign_keys(table)
        assert through.get_indexes(table) == direct.get_indexes(table)


def test_sqlalchemy_metadata_reflects_everything_at_once(agent_dsn: str) -> None:
    metadata = MetaData()

    metadata.reflect(engine_for(agent_dsn), only=["patients", "encounters", "diagnoses", "lab_results", "claims"])

    assert set(metadata.tables) == {"patients", "encounters", "diagnoses", "lab_results", "claims"}


def test_sqlalchemy_orm_reads_masked_patients(stack: Stack, agent_dsn: str) -> None:
    base = automap_base()
    base.prepare(autoload_with=engine_for(agent_dsn))
    patients = base.classes.patients
    with stack.direct() as direct:
        stored = dict(direct.execute("SELECT id, ssn FROM patients WHERE id <= 10").fetchall())

    with Session(engine_for(agent_dsn)) as session:
        found = session.scalars(select(patients).where(patients.id <= 10).order_by(patients.id).limit(10)).all()

    assert [patient.id for patient in found] == sorted(stored)
    assert all(patient.ssn != stored[patient.id] for patient in found)


def test_sqlalchemy_aggregates_over_joins(stack: Stack, agent_dsn: str) -> None:
    metadata = MetaData()
    engine = engine_for(agent_dsn)
    metadata.reflect(engine, only=["encounters", "claims"])
    encounters, claims = metadata.tables["encounters"], metadata.tables["claims"]
    query = (
        select(encounters.c.kind, func.count())
        .join(claims, claims.c.encounter_id == encounters.c.id)
        .group_by(encounters.c.kind)
        .order_by(encounters.c.kind)
    )

    with engine.connect() as through, superuser_engine(stack).connect() as direct:
        assert through.execute(query).all() == direct.execute(query).all()


def test_sqlalchemy_unit_of_work_writes_where_it_may(ledger_dsn: str) -> None:
    base = automap_base()
    engine = engine_for(ledger_dsn)
    base.prepare(autoload_with=engine)
    entries = base.classes.entries

    with Session(engine) as session:
        session.add_all([entries(id=n, label=f"unit {n}") for n in range(5000, 5020)])
        session.flush()
        session.get_one(entries, 5000).label = "changed"
        session.flush()
        labels = session.scalars(select(entries.label).where(entries.id.between(5000, 5019)).order_by(entries.id)).all()
        session.rollback()

    assert labels == ["changed", *(f"unit {n}" for n in range(5001, 5020))]
