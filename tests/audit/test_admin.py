"""The console's evidence pages: bounded queries, nothing to change, and looking leaves a trace."""

from __future__ import annotations

import asyncio
import re
import struct
from dataclasses import replace

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from audit.domain.append import append_entries
from audit.domain.session_counts import count_sessions
from audit.models import LogEntry
from audit.recording_sink import RecordingSink
from tests.audit.factories import authorised, completed, denied, opened


@pytest.fixture
def console(client, db):
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    return client


@pytest.mark.parametrize(
    ("model", "rows"), [("sessionrecord", 30), ("statementrecord", 60), ("logentry", 150), ("checkpoint", 0)]
)
def test_list_pages_render_in_a_bounded_number_of_queries(console, django_assert_max_num_queries, model, rows):
    for at in range(30):
        append_entries([opened(f"s{at}"), authorised(f"a{at}", f"s{at}"), completed(f"a{at}", f"s{at}")])
        append_entries([denied(f"d{at}", f"s{at}")])
    count_sessions()

    with django_assert_max_num_queries(15):  # two of them for what sessions count
        response = console.get(reverse(f"admin:audit_{model}_changelist"))

    assert response.status_code == 200


def test_session_page_names_its_statements(console, django_assert_max_num_queries):
    append_entries([opened(), authorised("a1"), completed("a1"), denied("d1")])
    count_sessions()

    with django_assert_max_num_queries(16):  # two for the badge beside "Reviews", two for what sessions count
        page = console.get(reverse("admin:audit_sessionrecord_change", args=["s1"])).content.decode()

    assert "2 statements, 1 denied, 2 rows" in page
    assert "agents-read" in page


def test_statement_text_is_shown_only_by_an_act_that_is_recorded(console):
    append_entries([opened(), authorised("a1", text="select ssn from patients where id = 4711")])
    url = reverse("admin:audit_statement_text", args=["a1"])

    looked = console.get(url).content.decode()
    assert "id = 4711" not in looked
    assert not LogEntry.objects.filter(kind="evidence.viewed").exists()

    read = console.post(url).content.decode()
    assert "select ssn from patients where id = 4711" in read
    assert LogEntry.objects.get(kind="evidence.viewed").subject == "root"


def test_statement_text_is_refused_without_the_permission(client, db):
    append_entries([opened(), authorised("a1")])
    client.force_login(User.objects.create_user("nobody", is_staff=True))

    assert client.post(reverse("admin:audit_statement_text", args=["a1"])).status_code == 403
    assert client.get(reverse("admin:audit_statementrecord_change", args=["a1"])).status_code == 403
    assert client.get(reverse("admin:audit_logentry_change", args=["1"])).status_code == 403


@pytest.mark.parametrize("model", ["sessionrecord", "statementrecord", "logentry", "checkpoint"])
def test_nothing_can_be_added_or_deleted_even_by_a_superuser(console, model):
    append_entries([opened(), authorised("a1"), completed("a1")])
    before = LogEntry.objects.count()
    pk = {"sessionrecord": "s1", "statementrecord": "a1", "logentry": "1", "checkpoint": "1"}[model]

    assert console.get(reverse(f"admin:audit_{model}_add")).status_code == 403
    assert console.post(reverse(f"admin:audit_{model}_delete", args=[pk]), {"post": "yes"}).status_code in (302, 403)
    assert LogEntry.objects.count() == before


@pytest.mark.django_db(transaction=True)
def test_recorded_result_is_paged_with_masked_columns_marked(client):
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    digest = asyncio.run(record([(b"1", b"***-**-****")] * 150, statement="a1"))
    append_entries([opened(), authorised("a1"), completed("a1", recording=digest)])
    url = reverse("admin:audit_statement_result", args=["a1"])

    first = client.post(url).content.decode()
    second = client.post(url, {"offset": "100"}).content.decode()

    assert "Rows 1 to 100" in first
    assert 'class="masked" title="redact by rule ssn"' in first
    assert "Rows 101 to 150" in second
    assert LogEntry.objects.filter(kind="evidence.viewed").count() == 2


async def record(rows: list[tuple[bytes, bytes]], *, statement: str) -> str:
    sink = RecordingSink()
    recording = sink.open(session_id="s1", statement_id=statement, format="pgwire")
    recording.write(row_description("id", "ssn"))
    for row in rows:
        recording.write(data_row(*row))
    digest = await recording.close()
    await sink.close()
    return digest


def row_description(*names: str) -> bytes:
    fields = b"".join(name.encode() + b"\0" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0) for name in names)
    return b"T" + struct.pack("!ih", len(fields) + 6, len(names)) + fields


def data_row(*values: bytes) -> bytes:
    fields = b"".join(struct.pack("!i", len(value)) + value for value in values)
    return b"D" + struct.pack("!ih", len(fields) + 6, len(values)) + fields


def test_emergency_access_is_marked_wherever_its_statement_is_shown(console):
    emergency = "0b0f3c7e-6d1f-4c57-9f5e-1e7a8d4c2b11"
    marked = authorised("st-e")
    append_entries([opened(), authorised("st-1"), replace(marked, body={**marked.body, "emergency": emergency})])

    session = console.get(reverse("admin:audit_sessionrecord_change", args=["s1"])).text
    statement = console.get(reverse("admin:audit_statementrecord_change", args=["st-e"])).text
    ordinary = console.get(reverse("admin:audit_statementrecord_change", args=["st-1"])).text
    address = reverse("admin:audit_statementrecord_changelist")
    listed = console.get(f"{address}?emergency__isempty=0").text

    assert "1 statement of this session ran under an emergency access" in session
    assert f"/reviews/emergencies/{emergency}/" in statement
    assert "the glass was broken" not in ordinary
    assert "running, emergency" in listed
    assert "st-1" not in listed


def test_sessions_with_an_emergency_are_marked_and_found_in_the_list(console):
    marked = authorised("st-e", "s2")
    broken = replace(marked, body={**marked.body, "emergency": "0b0f3c7e-6d1f-4c57-9f5e-1e7a8d4c2b11"})
    append_entries([opened(), authorised("st-1"), opened("s2"), broken])
    address = reverse("admin:audit_sessionrecord_changelist")

    def listed(**asked):
        rows = console.get(address, asked).context["cl"].result_list
        return [(row.pk, row.emergency) for row in rows]

    assert sorted(listed()) == [("s1", False), ("s2", True)]
    assert listed(emergency="yes") == [("s2", True)]
    assert listed(emergency="no") == [("s1", False)]
    for page in (address, reverse("admin:audit_live")):
        assert len(re.findall(r">\s*emergency\s*<", console.get(page).text)) == 1
