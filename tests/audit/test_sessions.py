"""The session pages: replay, texts, results, downloads, live. Every reading leaves its entry."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest
from channels.layers import get_channel_layer
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from audit.domain.append import append_entries
from audit.domain.session_document import statements_of
from audit.live import LiveRecord
from audit.models import LogEntry, SessionRecord
from tests.audit.factories import authorised, completed, denied, opened
from tests.audit.test_admin import record


@pytest.fixture
def console(client, transactional_db):
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    return client


@pytest.fixture
def session(transactional_db) -> SessionRecord:
    digest = asyncio.run(record([(b"1", b"***-**-****")] * 150, statement="a1"))
    append_entries([opened(), authorised("a1", text="select ssn from patients where id = 4711")])
    append_entries([completed("a1", recording=digest), denied("d1")])
    return SessionRecord.objects.get()


def test_replay_page_shows_statements_with_decision_and_masks(console, session):
    page = console.get(reverse("admin:audit_sessionrecord_change", args=["s1"])).content.decode()

    assert 'id="st-a1"' in page
    assert "by rule agents-read" in page
    assert "ssn (redact)" in page
    assert "?statement=a1#st-a1" in page
    assert "id = 4711" not in page


HOSTILE = "paid\u202etxt.exe\u200b<script>"


def test_nothing_a_client_chose_hides_or_reorders_what_is_shown(console, transactional_db):
    statement = authorised("h1", text=f"select 1\n-- {HOSTILE}")
    statement.body["kind"], statement.body["tables_read"] = "COPY_TO", [f"public.{HOSTILE}"]
    session = opened()
    session.body["application"] = HOSTILE
    append_entries([session, statement])

    pages = [
        console.get(reverse(f"admin:audit_{name}", args=arguments)).content.decode()
        for name, arguments in [
            ("sessionrecord_change", ["s1"]),
            ("statementrecord_change", ["h1"]),
            ("statementrecord_changelist", []),
            ("logentry_change", [LogEntry.objects.get(kind="session.opened").pk]),
        ]
    ]
    pages.append(console.post(reverse("admin:audit_statement_text", args=["h1"])).content.decode())
    pages.append(console.post(reverse("admin:audit_session_texts", args=["s1"])).content.decode())

    assert not [page for page in pages for hidden in ("\u202e", "\u200b", "txt.exe<") if hidden in page]
    assert pages[0].count("paid⟨U+202E⟩txt.exe⟨U+200B⟩&lt;script&gt;") == 2
    assert "paid\\u202etxt.exe\\u200b" in pages[3]
    assert "select 1\n-- paid⟨U+202E⟩txt.exe" in pages[4]
    assert all("COPY TO" in page and "COPY_TO" not in page for page in pages[:3])


def test_permalink_begins_its_page_at_the_statement(console, session):
    url = reverse("admin:audit_sessionrecord_change", args=["s1"])

    page = console.get(url, {"statement": "d1"}).content.decode()

    assert 'id="st-d1"' in page
    assert 'id="st-a1"' not in page


def test_statements_are_paged_without_loss_or_repetition(session):
    for at in range(7):
        append_entries([authorised(f"x{at}")])
    seen: list[str] = []
    after = ""
    while True:
        page = statements_of(session, after=after, limit=3)
        seen += [statement.pk for statement in page.statements]
        after = page.after
        if not after:
            break

    assert seen == ["a1", "d1", *(f"x{at}" for at in range(7))]


def test_texts_come_by_post_alone_and_are_recorded(console, session):
    url = reverse("admin:audit_session_texts", args=["s1"])

    assert console.get(url).status_code == 405
    assert not LogEntry.objects.filter(kind="evidence.viewed").exists()
    texts = console.post(url).json()

    assert texts["a1"][0]["statement"] == "select ssn from patients where id = 4711"
    assert LogEntry.objects.get(kind="evidence.viewed").subject == "root"


def test_results_are_paged_with_masks_explained_and_recorded(console, session):
    url = reverse("admin:audit_session_rows", args=["s1", "a1"])

    assert console.get(url).status_code == 405
    page = console.post(url, {"offset": "100"}).json()

    assert (len(page["rows"]), page["more"], page["rows"][0]) == (50, False, ["1", "***-**-****"])
    assert page["columns"][0]["mask"] is None
    assert page["columns"][1]["mask"]["why"] == "redact by rule ssn: 2 of 2 values were changed on the way"
    assert LogEntry.objects.filter(kind="evidence.viewed").count() == 1


def test_result_of_another_session_is_not_found(console, session):
    append_entries([opened("s2")])

    assert console.post(reverse("admin:audit_session_rows", args=["s2", "a1"])).status_code == 404


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("audit_session_texts", ["s1"]),
        ("audit_session_rows", ["s1", "a1"]),
        ("audit_session_download", ["s1"]),
        ("audit_live", []),
    ],
)
def test_nobody_reads_without_the_permission(client, session, name, arguments):
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    url = reverse(f"admin:{name}", args=arguments)

    assert client.post(url).status_code == 403
    assert not LogEntry.objects.filter(kind__in=["evidence.viewed", "evidence.exported"]).exists()


@pytest.mark.parametrize("format", ["json", "csv", "html"])
def test_downloads_hold_texts_and_results_and_are_recorded(console, session, format):
    url = reverse("admin:audit_session_download", args=["s1"])

    answer = console.post(url, {"format": format, "with_text": "1", "with_results": "1"})

    content = answer.content.decode()
    assert f'filename="session-s1.{format}"' in answer["Content-Disposition"]
    assert "4711" in content
    entry = LogEntry.objects.get(kind="evidence.exported")
    assert json.loads(bytes(entry.canonical))["body"]["format"] == format
    if format == "json":
        document = json.loads(content)
        assert document["statements"][0]["result"]["rows"][0] == ["1", "***-**-****"]
    if format == "csv":
        rows = list(csv.DictReader(io.StringIO(content)))
        assert [row["status"] for row in rows] == ["completed", "denied"]


def test_download_without_the_permissions_holds_neither_text_nor_result(client, session):
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_sessionrecord"))
    client.force_login(user)
    url = reverse("admin:audit_session_download", args=["s1"])

    content = client.post(url, {"format": "json", "with_text": "1", "with_results": "1"}).content.decode()

    assert "id = 4711" not in content
    assert "***-**-****" not in content


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("\uff1dHYPERLINK(1)", "'\uff1dHYPERLINK(1)"),  # full-width, as East Asian spreadsheets take it
        ("SELECT 1;=HYPERLINK(1)", "SELECT 1;'=HYPERLINK(1)"),  # where semicolons separate cells
        ("SELECT 1\t@SUM(1)", "SELECT 1\t'@SUM(1)"),
        ("SELECT 1\n=HYPERLINK(1)", "SELECT 1\n'=HYPERLINK(1)"),
        ("SELECT -1; SELECT a = b\n FROM t", "SELECT -1; SELECT a = b\n FROM t"),
    ],
)
def test_spreadsheets_are_given_no_formula(console, session, text, cell):
    append_entries([authorised("f1", text=text)])

    answer = console.post(
        reverse("admin:audit_session_download", args=["s1"]), {"format": "csv", "with_text": "1"}
    ).content.decode()

    rows = list(csv.DictReader(io.StringIO(answer)))
    assert rows[-1]["statement"] == cell


def test_live_page_lists_open_sessions_only(console, session):
    append_entries([opened("s2"), type(opened())(kind="session.closed", session_id="s2", body={"reason": "client"})])

    page = console.get(reverse("admin:audit_live")).content.decode()

    assert 'data-session="s1"' in page
    assert 'data-session="s2"' not in page


class Kept:
    """A record whose entries are durable at once."""

    def __init__(self) -> None:
        self.entries: list = []

    async def append(self, entry):
        self.entries.append(entry)
        return "receipt"

    def append_later(self, entry) -> None:
        self.entries.append(entry)


class Refusing(Kept):
    async def append(self, entry):
        raise RuntimeError("not written")


async def test_live_record_tells_what_is_durable_in_one_message_without_text(settings):
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add("events", channel)
    live = LiveRecord(Kept())

    await live.append(authorised("a1", text="select 4711"))
    live.append_later(completed("a1"))
    message = await asyncio.wait_for(layer.receive(channel), timeout=60)

    told = message["event"]["entries"]
    assert [event["event"] for event in told] == ["statement.authorised", "statement.completed"]
    assert told[1]["masked"] == 1
    assert "select 4711" not in json.dumps(message)


async def test_live_record_tells_nothing_that_was_not_written():
    live = LiveRecord(Refusing())

    with pytest.raises(RuntimeError):
        await live.append(authorised("a1"))

    assert live._waiting == []
