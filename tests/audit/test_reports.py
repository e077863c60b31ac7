"""Reports: the right numbers, recorded as exports; sign-offs that name the log they were made over."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.reports import REPORTS, Period, ReportProblem, make_report, sign_off, sign_offs
from audit.models import LogEntry
from tests.audit.factories import authorised, completed, denied, opened

NOW = datetime.now(UTC)
TODAY = Period(NOW - timedelta(hours=1), NOW + timedelta(days=1))  # a run may go on for hours
EARLIER = Period(NOW - timedelta(days=3), NOW - timedelta(days=2))


@pytest.fixture
def activity(db) -> None:
    append_entries([opened(), authorised("a1"), completed("a1"), authorised("a2"), denied("d1")])
    failure = {"claimed_subject": "=cmd", "client_address": "10.0.0.9", "protocol": "postgres", "reason": "expired"}
    append_entries([Entry(kind="authentication.failed", body=failure)])


def lines(name: str, period: Period = TODAY) -> list[list]:
    return [list(row) for row in make_report(name, period=period, viewer="auditor").rows]


def test_activity_counts_statements_of_each_subject(activity):
    (row,) = lines("activity")

    assert row[:7] == ["demo-agent", "clinic", 3, 1, 0, 0, 2]


def test_access_names_tables_and_leaves_denied_statements_out(activity):
    (row,) = lines("access")

    assert row[:6] == ["demo-agent", "clinic", "public.patients", "read", 2, 2]


def test_masking_counts_values_by_rule(activity):
    assert lines("masking") == [["clinic", "ssn", "ssn", "redact", 1, 2]]


def test_failed_authentication_lists_each(activity):
    (row,) = lines("failed-authentication")

    assert row[3:] == ["=cmd", "10.0.0.9", "postgres", None, "expired"]


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_made_in_its_own_columns_and_is_empty_before_anything_happened(activity, name):
    for row in lines(name):
        assert len(row) == len(REPORTS[name].columns)
    if name == "coverage":  # says of every period what was not recorded in it
        assert [row[4] for row in lines(name, EARLIER)] == [0, 0, 0]
    elif name not in {"recertification", "minimum-necessary", "de-identification"}:  # rights exist without activity
        assert lines(name, EARLIER) == []


def test_a_report_is_recorded_as_an_export(activity):
    lines("activity")

    body = json.loads(bytes(LogEntry.objects.get(kind="evidence.exported").canonical))["body"]
    assert (body["subject"], body["scope"]["report"], body["size"]) == ("auditor", "activity", 6)


def test_sign_off_names_the_log_it_was_made_over_and_seals_the_findings(activity):
    newest = LogEntry.objects.get(seq=6)

    place = sign_off(period=EARLIER, reviewer="auditor", note="patient 4711 looked at twice")

    entry = LogEntry.objects.get(seq=place)
    body = json.loads(bytes(entry.canonical))["body"]
    assert (body["size"], body["head"]) == (6, bytes(newest.leaf).hex())
    assert b"patient 4711" not in bytes(entry.canonical)
    assert [row["subject"] for row in sign_offs()] == ["auditor"]


@pytest.mark.parametrize(
    ("period", "note"), [(EARLIER, "  "), (Period(NOW - timedelta(days=1), NOW + timedelta(days=1)), "fine")]
)
def test_sign_off_needs_findings_and_a_past_period(activity, period, note):
    with pytest.raises(ReportProblem):
        sign_off(period=period, reviewer="auditor", note=note)


@pytest.mark.parametrize(
    ("since", "until"), [("", ""), ("2026-01-02", "2026-01-01"), ("2020-01-01", "2026-01-01"), ("x", "2026-01-01")]
)
def test_a_period_that_is_none_is_refused(since, until):
    with pytest.raises(ReportProblem):
        Period.parse(since, until)


def test_page_gives_csv_without_formulas_and_signs_off(client, activity):
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    url = reverse("admin:audit_reports")
    asked = {"since": f"{NOW:%Y-%m-%d}", "until": f"{NOW + timedelta(days=2):%Y-%m-%d}"}

    answer = client.post(url, {**asked, "report": "failed-authentication"})
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert rows[0]["claimed"] == "'=cmd"

    past = {"since": "2026-01-01", "until": "2026-01-02"}
    client.post(url, {**past, "sign_off": "1", "note": "nothing unusual"})
    assert "root" in client.get(url).content.decode()
    assert LogEntry.objects.filter(kind="evidence.reviewed").count() == 1
    assert client.post(url, {**asked, "report": "none"}).status_code == 400


def test_reports_need_the_permission(client, activity):
    client.force_login(User.objects.create_user("nobody", is_staff=True))

    assert client.post(reverse("admin:audit_reports"), {"report": "activity"}).status_code == 403


def test_what_was_chosen_stays_where_a_report_is_refused(admin_client):
    period = {"since": "2026-02-02", "until": "2026-02-01"}

    refused = admin_client.post(reverse("admin:audit_reports"), {"report": "access", **period})
    unsigned = admin_client.post(reverse("admin:audit_reports"), {"sign_off": "1", "note": "looked at all", **period})

    assert (refused.status_code, unsigned.status_code) == (400, 400)
    assert '<option value="access" selected>' in refused.text
    assert 'name="until" value="2026-02-01"' in refused.text
    assert 'name="note" value="looked at all"' in unsigned.text
