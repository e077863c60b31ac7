"""Search: right, stable under insertion, recorded; and quick over a bounded sample of what benchmarks load."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.urls import reverse

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.search import EntrySearch, SearchProblem, StatementSearch, find_entries, find_statements
from audit.models import LogEntry, StatementRecord
from benchmarks.evidence_search import load, searches
from tests.audit.factories import authorised, completed, denied, opened


@pytest.fixture
def statements(db) -> None:
    append_entries([opened(), *(authorised(f"a{at}") for at in range(5)), completed("a0"), denied("d1")])
    body = {**authorised("w").body, "tables_read": [], "tables_written": ["public.claims"], "columns_read": []}
    append_entries([Entry(kind="statement.authorised", session_id="s1", statement_id="w1", body=body)])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"a0", "a1", "a2", "a3", "a4", "d1", "w1"}),
        ({"table": "claims"}, {"w1"}),
        ({"table": "public.patients"}, {"a0", "a1", "a2", "a3", "a4"}),
        ({"column": "public.patients.ssn"}, {"a0", "a1", "a2", "a3", "a4"}),
        ({"data_class": "ssn", "table": "claims"}, {"w1"}),
        ({"rule": "no-ddl"}, {"d1"}),
        ({"decision": "allow", "status": "completed"}, {"a0"}),
        ({"status": "denied"}, {"d1"}),
        ({"subject": "nobody"}, set()),
        ({"until": "2020-01-01"}, set()),
        ({"since": "2020-01-01", "status": "denied"}, {"d1"}),
    ],
)
def test_search_finds_exactly_what_is_asked(statements, asked, expected):
    assert {row.pk for row in find_statements(StatementSearch(**asked)).rows} == expected


def test_pages_neither_repeat_nor_lose_rows_while_statements_arrive(statements):
    first = find_statements(StatementSearch(), limit=3)
    append_entries([authorised("late")])
    second = find_statements(StatementSearch(), after=first.after, limit=3)
    third = find_statements(StatementSearch(), after=second.after, limit=3)

    seen = [row.pk for page in (first, second, third) for row in page.rows]

    assert sorted(seen) == ["a0", "a1", "a2", "a3", "a4", "d1", "w1"]
    assert third.after == ""


def test_a_hold_that_ends_denied_is_still_found_by_its_table(db):
    body = authorised("h1").body
    append_entries([opened(), Entry(kind="statement.held", session_id="s1", statement_id="h1", body=body)])
    append_entries([denied("h1")])

    assert [row.pk for row in find_statements(StatementSearch(table="patients", rule="no-ddl")).rows] == ["h1"]


def test_entries_are_found_by_the_beginning_of_a_kind(statements):
    append_entries([Entry(kind="review.opened", body={"subject": "x"}), Entry(kind="review.decided", body={})])

    found = find_entries(EntrySearch(kind="review."))

    assert [row.kind for row in found.rows] == ["review.decided", "review.opened"]


def test_entries_of_a_time_are_found_by_place(statements):
    now = datetime.now(UTC)
    hour = timedelta(hours=1)

    assert len(find_entries(EntrySearch(since=(now - hour).isoformat())).rows) == LogEntry.objects.count()
    assert find_entries(EntrySearch(since=(now + hour).isoformat())).rows == ()
    assert find_entries(EntrySearch(until=(now - hour).isoformat())).rows == ()


@pytest.mark.parametrize("asked", [{"since": "yesterday"}, {"until": "12"}])
def test_a_moment_that_is_none_is_said_so(db, asked):
    with pytest.raises(SearchProblem, match="expected ISO 8601"):
        find_statements(StatementSearch(**asked))


def test_a_search_is_recorded_once_and_shown(client, statements):
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    url = reverse("admin:audit_statement_search")

    client.get(url)
    assert not LogEntry.objects.filter(kind="evidence.searched").exists()
    page = client.get(url, {"go": "1", "table": "claims"}).content.decode()
    client.get(url, {"go": "1", "table": "claims", "after": f"{datetime.now(UTC).isoformat()},x"})

    assert "public.claims" in page
    assert LogEntry.objects.get(kind="evidence.searched").subject == "root"


@pytest.mark.parametrize("name", ["audit_statement_search", "audit_entry_search"])
def test_searching_needs_the_permission(client, statements, name):
    client.force_login(User.objects.create_user("nobody", is_staff=True))

    assert client.get(reverse(f"admin:{name}"), {"go": "1"}).status_code == 403


def test_bad_place_is_an_answer_not_an_error(client, statements):
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))

    for name in ("audit_statement_search", "audit_entry_search"):
        assert client.get(reverse(f"admin:{name}"), {"go": "1", "after": "\x00"}).status_code == 400


def test_searches_of_the_benchmark_find_what_they_are_for(db):
    """20,000 statements; how quick they are among a million says `python -m benchmarks.evidence_search`."""
    load(connection, 20_000)

    for name, search in searches().items():
        found = find_statements(search)
        assert found.rows or name == "absent", name
    assert StatementRecord.objects.count() == 20_000
