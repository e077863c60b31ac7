"""Who has which right and uses it, which columns nobody asks for, and a proposal that `apply` takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.reports import Period
from gateway.domain.access_reports import minimum_necessary, proposal, recertification
from gateway.domain.configuration.change import apply_document
from gateway.domain.configuration.reading import read_document
from gateway.models import AccessRule

NOW = datetime.now(UTC)
TODAY = Period(NOW - timedelta(hours=1), NOW + timedelta(days=1))  # a run may go on for hours
LAST_WEEK = Period(NOW - timedelta(days=8), NOW - timedelta(days=7))
DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {name: clinic, kind: postgres, host: 127.0.0.1, port: 5433, database: clinic, username: app, tls: disable}
  - {name: other, kind: postgres, host: 127.0.0.1, port: 5433, database: other, username: app, tls: disable}
access:
  - {name: work, groups: [ai-agents], connections: [clinic], operations: [read, write]}
masking:
  - {name: ssn, connections: [clinic], columns: [public.patients.ssn, public.patients.email], technique: redact}
agents:
  - {name: busy, groups: [ai-agents], owner: owner}
  - {name: idle, groups: [ai-agents], owner: owner}
  - {name: stranger, groups: [others], owner: owner}
"""


def used(who: str, columns: list[str]) -> Entry:
    body = {
        "subject": who, "actor": None, "owner": "owner", "connection": "clinic", "protocol": "postgres",
        "kind": "select", "complete": True, "operations": ["read"], "tables_read": ["public.patients"],
        "tables_written": [], "columns_read": columns, "classes": [], "decision": "allow", "rule": "work",
        "snapshot": 1, "risk": 0,
    }  # fmt: skip
    return Entry(kind="statement.authorised", session_id="s1", statement_id=f"{who}1", body=body)


@pytest.fixture
def clinic(db) -> None:
    User.objects.create_user("owner")
    apply_document(read_document(DOCUMENT), base=Path(), actor="os:test")
    append_entries([used("busy", ["public.patients.ssn", "public.patients.id"])])


def test_recertification_names_every_right_and_marks_the_unused(clinic):
    rows = {row[0]: row for row in recertification(TODAY)}

    assert set(rows) == {"busy", "idle"}  # the stranger's groups have no right, the other connection no rule
    _, kind, owner, name, operations, rule, since, last, count, remark = rows["busy"]
    assert (kind, owner, name, operations, rule, count, remark) == (
        "agent",
        "owner",
        "clinic",
        "read write",
        "work",
        1,
        "",
    )
    assert NOW - timedelta(minutes=5) < since <= last
    assert rows["idle"][7:] == [None, 0, "never used"]
    assert {row[0]: row[9] for row in recertification(LAST_WEEK)}["busy"] == "not used in the period"


def test_minimum_necessary_lists_known_columns_with_their_use_and_mask(clinic):
    rows = {(row[0], row[2]): row for row in minimum_necessary(TODAY)}

    assert rows[("busy", "public.patients.ssn")][4:6] == ["ssn (redact)", 1]
    assert rows[("busy", "public.patients.id")][4:6] == ["", 1]
    assert rows[("busy", "public.patients.email")][7] == "never asked for"
    assert rows[("idle", "public.patients.ssn")][7] == "never asked for"


def test_the_databases_catalogue_comes_last_in_minimum_necessary(clinic):
    ours = replace(used("busy", ["pg_catalog.pg_class.oid", "public.patients.zip"]), statement_id="busy2")
    append_entries([ours])

    columns = [row[2] for row in minimum_necessary(TODAY) if row[0] == "busy"]

    assert columns[-1] == "pg_catalog.pg_class.oid"
    assert columns[:-1] == sorted(columns[:-1])


def test_proposal_is_a_document_that_takes_away_what_nobody_used(clinic):
    text = proposal(TODAY)

    apply_document(read_document(text), base=Path(), actor="os:test")

    assert AccessRule.objects.get(name="work").operations == ["read"]
    assert "public.patients.email" in text
    assert "public.patients.ssn" not in text


def test_a_period_in_which_nobody_worked_proposes_nothing(clinic):
    changes = apply_document(read_document(proposal(LAST_WEEK)), base=Path(), actor="os:test", dry_run=True)

    assert changes == []
