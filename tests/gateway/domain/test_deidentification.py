"""The report on de-identification: every known column that tells of an identifier, and what becomes of it."""

from __future__ import annotations

import pytest

from audit.domain.append import append_entries
from gateway.domain.deidentification import de_identification
from gateway.models import Connection
from tests.gateway.domain.test_access_reports import LAST_WEEK, TODAY, clinic, used

__all__ = ["clinic", "used"]


@pytest.fixture
def protected(clinic: None) -> None:
    Connection.objects.filter(name="clinic").update(phi=True)
    Connection.objects.filter(name="other").update(phi=False)


@pytest.mark.usefixtures("protected")
def test_known_columns_are_judged() -> None:
    rows = {row[2]: (row[1][:3], row[4], row[6], row[7]) for row in de_identification(TODAY)}

    assert rows == {
        "public.patients.email": ("(F)", "ssn", "removed", "yes"),
        "public.patients.ssn": ("(G)", "ssn", "removed", "yes"),
    }


@pytest.mark.usefixtures("protected")
def test_columns_that_were_only_read_count_in_their_period() -> None:
    append_entries([used("idle", ["public.visits.patient_phone", "pg_catalog.pg_class.relname"])])

    assert [row[2] for row in de_identification(TODAY) if row[7] == "no"] == ["public.visits.patient_phone"]
    assert [row[2] for row in de_identification(LAST_WEEK) if row[7] == "no"] == []
