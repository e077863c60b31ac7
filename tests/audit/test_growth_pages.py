"""A page of the console costs what it shows, however long the log is. Counted in rows read, never in time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.urls import reverse

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.search import EntrySearch, find_entries
from audit.lists import names_in
from audit.models import SessionRecord, StatementRecord
from gateway.models import Agent
from tests.audit.conftest import KEYS
from tests.audit.factories import WHO, authorised, completed, denied, opened
from tests.audit.test_growth import ENTRIES, STATEMENTS, known_to_the_planner, write_long_log
from tests.audit.test_tampering import rolled_back
from tests.rows import reading

MANY = 4_000  # statements
BIG = 600  # more of one session, the last
LARGE = "t-large"
NEWEST = MANY // 50 * 101 + 2 * BIG + 5  # entry


pytestmark = pytest.mark.django_db


@pytest.fixture
def _django_db_helper() -> None:
    """No transaction of each test's own: all are within `written`'s, which the mark's would close."""


@pytest.fixture(scope="module")
def written(django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[None]:
    """The long log with one session more that is large, and statements that are rare: once, in one transaction."""
    home = tmp_path_factory.mktemp("home")
    with django_db_blocker.unblock(), rolled_back(), override_settings(HOOPWEB_HOME=home, **KEYS):
        write_long_log(MANY)
        write_the_rest()
        yield


@pytest.fixture
def log(written) -> Iterator[None]:
    with rolled_back():
        yield


@pytest.fixture
def console(client, log):
    """Who may read all of it."""
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    return client


def write_the_rest() -> None:
    pairs = [(authorised(f"b{at:04}", LARGE), completed(f"b{at:04}", LARGE)) for at in range(BIG)]
    append_entries([opened(LARGE), *(entry for pair in pairs for entry in pair)])
    other = {**authorised("o1").body, "subject": "other-agent", "rule": "seldom", "connection": "lab"}
    append_entries([Entry(kind="statement.authorised", session_id="s01", statement_id="o1", body=other)])
    append_entries([Entry(kind="statement.held", session_id="s01", statement_id="h1", body=authorised("h1").body)])
    append_entries([denied("d1"), Entry(kind="evidence.viewed", session_id=LARGE, statement_id="b0000", body=WHO)])
    known_to_the_planner()


def shown(response, model: str = "statement") -> list[str]:
    return [str(row.pk) for row in response.context["cl"].result_list]


@pytest.mark.parametrize(
    ("model", "asked", "first"),
    [
        ("statementrecord", "", "d1"),
        ("statementrecord", "connection=clinic", "d1"),
        ("statementrecord", "connection=lab", "o1"),
        ("statementrecord", "protocol=postgres", "d1"),
        ("statementrecord", "decision=allow", "h1"),
        ("statementrecord", "status__exact=held", "h1"),
        ("statementrecord", "status__exact=denied", "d1"),
        ("statementrecord", "emergency__isempty=0", None),
        ("statementrecord", "q=other-agent", "o1"),
        ("statementrecord", "q=other", "o1"),
        ("statementrecord", "q=seldom", "o1"),
        ("statementrecord", "q=s07-49", "s07-49"),
        ("statementrecord", "q=s03", "s03-49"),
        ("statementrecord", "q=nobody", None),
        ("logentry", "", str(NEWEST + 1)),
        ("logentry", "q=2000", "2000"),
        ("logentry", "q=statement.den", str(NEWEST - 1)),
        ("logentry", "q=evidence.viewed", str(NEWEST)),
        ("logentry", "q=s12", "1313"),
        ("logentry", "q=nothing.of-the-kind", None),
    ],
)
@pytest.mark.by_turns(2)
def test_a_list_reads_what_it_shows(console, model, asked, first):
    url = f"{reverse(f'admin:audit_{model}_changelist')}?{asked}"
    console.get(url)

    with reading(STATEMENTS, ENTRIES, most=300):
        page = console.get(url)

    assert page.status_code == 200
    assert next(iter(shown(page)), None) == first


def test_further_pages_of_a_list_are_reached_by_turning_them(console):
    url = reverse("admin:audit_statementrecord_changelist")

    first, second = (shown(console.get(f"{url}?p={page}")) for page in (1, 2))

    assert len(first) == len(second) == 50
    assert set(first).isdisjoint(second)


def test_names_are_read_off_an_index(log):
    StatementRecord.objects.filter(pk="s01-1").update(subject="another-agent")
    StatementRecord.objects.filter(pk="s01-2").update(subject="")

    with reading(STATEMENTS, most=20):
        assert names_in(StatementRecord, "subject") == ["", "another-agent", "demo-agent", "other-agent"]
        assert names_in(StatementRecord, "subject", beginning="demo") == ["demo-agent"]
    assert names_in(SessionRecord, "connection", beginning="x%") == []


@pytest.mark.parametrize("number", [0, BIG - 1])
def test_a_statement_is_shown_without_reading_its_session(console, number):
    with reading(ENTRIES, STATEMENTS, most=100):
        page = console.get(reverse("admin:audit_statementrecord_change", args=[f"b{number:04}"]))

    kinds = [entry.kind for entry in page.context["entries"]]
    assert kinds == ["statement.authorised", "statement.completed", *(["evidence.viewed"] if not number else [])]


def test_why_is_answered_without_reading_the_session(console):
    with reading(ENTRIES, most=20):
        assert console.get(reverse("console:why"), {"statement": "b0000"}).status_code in (200, 404)


def test_a_text_is_shown_without_reading_its_session(console):
    with reading(ENTRIES, "audit_sealedtext_p0", most=100):
        page = console.post(reverse("admin:audit_statement_text", args=["b0003"]))

    assert "select ssn from patients" in page.content.decode()


def test_a_page_of_a_session_gives_its_own_texts(console):
    url = reverse("admin:audit_sessionrecord_change", args=[LARGE])
    with reading(ENTRIES, STATEMENTS, most=500):
        page = console.get(url)
    texts_url = reverse("admin:audit_session_texts", args=[LARGE])
    assert f"{texts_url}?" in page.content.decode()

    with reading(ENTRIES, STATEMENTS, most=900):
        first = console.post(texts_url).json()
    second = console.post(texts_url, query_params={"after": page.context["after"]}).json()

    assert list(first) == [f"b{at:04}" for at in range(200)]
    assert list(second) == [f"b{at:04}" for at in range(200, 400)]
    assert first["b0007"][0]["statement"] == "select ssn from patients"


def test_a_session_shows_what_happened_beside_its_statements_without_reading_them(console):
    with reading(ENTRIES, most=30):
        page = console.get(reverse("admin:audit_sessionrecord_change", args=[LARGE]))

    assert [entry.kind for entry in page.context["reviews"]] == ["session.opened", "evidence.viewed"]


@pytest.fixture
def aged(log) -> datetime:
    """Its first 1,500 entries are 60 days older. Returns a moment between them and the others."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE audit_logentry SET at = at - interval '60 days' WHERE seq <= 1500")
        cursor.execute("SET LOCAL session_replication_role = origin")
    known_to_the_planner()
    return datetime.now(UTC) - timedelta(days=30)


def test_entries_of_a_time_are_found_without_reading_those_of_another(aged):
    with reading(ENTRIES, most=300):
        newer = find_entries(EntrySearch(since=aged.isoformat()))
        older = find_entries(EntrySearch(until=aged.isoformat()))
        neither = find_entries(EntrySearch(since=aged.isoformat(), until=(aged + timedelta(days=1)).isoformat()))

    assert [row.pk for row in newer.rows][:2] == [NEWEST, NEWEST - 1]
    assert [row.pk for row in older.rows][:2] == [1500, 1499]
    assert neither.rows == ()


def test_the_list_of_agents_asks_an_index_when_each_was_last_here(console):
    Agent.objects.create(name="never-here", owner=User.objects.get(username="root"))

    with reading(STATEMENTS, most=20):
        page = console.get(reverse("admin:gateway_agent_changelist"))

    assert page.status_code == 200


def test_entries_that_were_recovered_later_are_found_by_their_own_time(aged):
    at_us = int((aged - timedelta(days=30)).timestamp() * 1e6)
    append_entries([Entry(kind="session.closed", session_id="s01", body={}, at_us=at_us)])
    append_entries([Entry(kind="journal.recovered", body={"journal": "j", "entries": 1})])

    assert find_entries(EntrySearch(until=aged.isoformat())).rows[0].pk == NEWEST + 1
    assert find_entries(EntrySearch(since=aged.isoformat())).rows[1].pk == NEWEST
