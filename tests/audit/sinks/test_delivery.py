"""Delivery to real receivers: order, no loss over restarts and refusals, the same ids again, nothing sensitive."""

from __future__ import annotations

import json
import re
import ssl
import time
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.db import connection
from joserfc import jwt
from joserfc.jwk import RSAKey

from audit.domain.append import append_entries
from audit.models import LogEntry, Sink, StatementRecord
from audit.sinks.attempts import TELL_AFTER
from audit.sinks.delivery import deliver, due_sinks
from audit.sinks.lag import lags
from audit.sinks.secret import store_secret
from tests.audit.factories import authorised, completed, denied, opened
from tests.audit.sinks.receivers import HttpReceiver, SyslogReceiver, TricklingReceiver, running

LOOPBACK = ["127.0.0.0/8", "::1/128"]
PASSWORDLIKE = "canary-token-3f9a"


@pytest.fixture(autouse=True)
def loopback(settings, tmp_path, db):
    settings.HOOPWEB_SINK_NETWORKS = LOOPBACK
    settings.HOOPWEB_SINK_DIR = tmp_path / "sinks"


def sink(url: str, format: str = "json", **fields) -> Sink:
    row = Sink(name="siem", format=format, url=url, **{"history": True, **fields})
    row.full_clean()
    row.save()
    return row


def write(count: int) -> None:
    append_entries([denied(f"d{at}") for at in range(count)])


def now_due(row: Sink) -> None:
    Sink.objects.filter(pk=row.pk).update(next_try_at=datetime.now(UTC) - timedelta(seconds=1))


def seqs(receiver: HttpReceiver) -> list[int]:
    return [item["seq"] for body in receiver.bodies for item in body]


def test_http_receiver_gets_every_entry_once_in_order():
    write(3)
    with running(HttpReceiver()) as receiver:
        row = sink(f"http://127.0.0.1:{receiver.port}/in")
        deliver(row.pk)
        write(2)
        deliver(row.pk)
        deliver(row.pk)

    assert seqs(receiver) == [1, 2, 3, 4, 5]
    assert due_sinks() == []


def test_a_receiver_that_is_away_gets_everything_when_it_is_back():
    receiver = HttpReceiver()
    row = sink(f"http://127.0.0.1:{receiver.port}/in")
    write(2)
    deliver(row.pk)
    receiver.close()
    write(3)

    assert deliver(row.pk) == 0
    row.refresh_from_db()
    assert (row.cursor, row.failures) == (2, 1)
    assert due_sinks() == []  # it waits before it asks again

    now_due(row)
    assert due_sinks() == [row.pk]
    with running(HttpReceiver(port=receiver.port)) as back:
        deliver(row.pk)
    assert seqs(back) == [3, 4, 5]
    row.refresh_from_db()
    assert (row.failures, row.failing_since, row.problem) == (0, None, "")


def test_a_wait_from_before_the_clock_was_set_back_is_no_wait():
    write(1)
    row = sink("http://127.0.0.1:9/in")
    deliver(row.pk)
    assert due_sinks() == []

    Sink.objects.filter(pk=row.pk).update(next_try_at=datetime.now(UTC) + timedelta(days=365))

    assert due_sinks() == [row.pk]


def test_what_was_sent_and_not_acknowledged_is_sent_again_under_the_same_id():
    write(1)
    with running(HttpReceiver()) as receiver:
        row = sink(f"http://127.0.0.1:{receiver.port}/in")
        receiver.answer = lambda body: (503, {"Retry-After": "120"}, b"")
        deliver(row.pk)
        row.refresh_from_db()
        assert row.next_try_at - datetime.now(UTC) > timedelta(seconds=90)
        receiver.answer = lambda body: (200, {}, b"")
        deliver(row.pk)

    first, second = (body[0]["id"] for body in receiver.bodies)
    assert first == second


@pytest.mark.parametrize("scheme", ["http", "https", "syslog+tcp"])
def test_a_receiver_that_trickles_keeps_nobody(monkeypatch, scheme):
    """Each byte came in time; the worker's thread was kept for as long as there were any."""
    monkeypatch.setattr("audit.sinks.sending.ANSWER_WITHIN_S", 1.0)
    monkeypatch.setattr("audit.sinks.sending.WHOLE_WITHIN_S", 1.0)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    write(1)
    head = b"" if scheme == "syslog+tcp" else b"HTTP/1.1 200 OK\r\nX-Slow: "
    with running(TricklingReceiver(head=head, context=context if scheme == "https" else None)) as receiver:
        form = "syslog" if scheme == "syslog+tcp" else "json"
        ca = authority.cert_pem.bytes().decode() if scheme == "https" else ""
        row = sink(f"{scheme}://127.0.0.1:{receiver.port}", form, ca=ca)
        began = time.monotonic()
        deliver(row.pk)

    row.refresh_from_db()
    assert time.monotonic() - began < 5
    assert (row.cursor, row.failures) == (0, 1)


def test_a_redirect_is_not_followed():
    write(1)
    with running(HttpReceiver()) as elsewhere, running(HttpReceiver()) as receiver:
        receiver.answer = lambda body: (307, {"Location": f"http://127.0.0.1:{elsewhere.port}/"}, b"")
        row = sink(f"http://127.0.0.1:{receiver.port}/")
        deliver(row.pk)

    row.refresh_from_db()
    assert (elsewhere.requests, row.cursor, row.problem) == ([], 0, "the receiver answered 307")


def test_a_batch_that_is_too_large_is_halved_until_it_fits():
    write(8)
    with running(HttpReceiver()) as receiver:
        receiver.answer = lambda body: (413 if len(json.loads(body)) > 2 else 200, {}, b"")
        row = sink(f"http://127.0.0.1:{receiver.port}/", batch=8)
        for _ in range(4):
            deliver(row.pk)

    row.refresh_from_db()
    taken = [item["seq"] for body in receiver.bodies if len(body) <= 2 for item in body]
    assert taken[: row.cursor] == list(range(1, row.cursor + 1))
    assert row.cursor > 0


def test_the_log_says_when_delivery_stopped_and_went_on():
    row = sink("http://127.0.0.1:9/")
    write(1)
    for _ in range(TELL_AFTER):
        deliver(row.pk)
    assert LogEntry.objects.filter(kind="sink.failing").count() == 1

    with running(HttpReceiver()) as receiver:
        Sink.objects.update(url=f"http://127.0.0.1:{receiver.port}/")
        deliver(row.pk)

    assert LogEntry.objects.filter(kind="sink.resumed").count() == 1


def test_https_sends_the_secret_to_the_named_host_only():
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    write(1)
    with running(HttpReceiver(context=context)) as receiver:
        row = sink(f"https://localhost:{receiver.port}/v1", ca=authority.cert_pem.bytes().decode())
        store_secret(row, PASSWORDLIKE)
        deliver(row.pk)
        assert receiver.requests[0][1]["Authorization"] == f"Bearer {PASSWORDLIKE}"
        assert PASSWORDLIKE.encode() not in bytes(Sink.objects.get().sealed_secret)

        Sink.objects.update(url=f"https://127.0.0.1:{receiver.port}/v1", cursor=0)
        deliver(row.pk)

    row.refresh_from_db()
    assert len(receiver.requests) == 1
    assert "secret cannot be used" in row.problem


def test_a_certificate_of_another_authority_ends_it():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    write(1)
    with running(HttpReceiver(context=context)) as receiver:
        row = sink(f"https://localhost:{receiver.port}/", ca=trustme.CA().cert_pem.bytes().decode())
        deliver(row.pk)

    assert (receiver.requests, Sink.objects.get().cursor) == ([], 0)


@pytest.fixture
def syslog_tls():
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with running(SyslogReceiver(context=context)) as receiver:
        yield receiver, authority.cert_pem.bytes().decode(), context


def test_syslog_over_tls_counts_octets_and_is_acknowledged_by_the_end_of_the_stream(syslog_tls):
    receiver, ca, _ = syslog_tls
    append_entries([opened(), authorised("a1"), completed("a1"), denied("d1")])
    row = sink(f"syslog+tls://localhost:{receiver.port}", "syslog", ca=ca)

    deliver(row.pk)

    row.refresh_from_db()
    assert (row.cursor, row.problem) == (4, "")
    assert [re.search(r'seq="(\d+)"', frame).group(1) for frame in receiver.frames] == ["1", "2", "3", "4"]
    assert receiver.frames[0].startswith("<110>1 ")


def test_a_syslog_receiver_killed_in_the_middle_gets_the_batch_again_after_its_restart(syslog_tls):
    receiver, ca, context = syslog_tls
    write(200)
    receiver.drop_after = 20
    row = sink(f"syslog+tls://localhost:{receiver.port}", "syslog", ca=ca)

    deliver(row.pk)
    row.refresh_from_db()
    assert (row.cursor, row.failures) == (0, 1)

    receiver.close()
    with running(SyslogReceiver(context=context, port=receiver.port)) as back:
        deliver(row.pk)
    assert len(back.frames) == 200
    assert Sink.objects.get().cursor == 200


def test_cef_goes_over_plain_tcp_on_loopback():
    write(2)
    with running(SyslogReceiver()) as receiver:
        row = sink(f"syslog+tcp://127.0.0.1:{receiver.port}", "cef")
        deliver(row.pk)

    assert [" - CEF:0|hoopweb|hoopweb|" in frame for frame in receiver.frames] == [True, True]
    assert Sink.objects.get().cursor == 2


def test_fhir_counts_as_delivered_only_when_the_server_took_every_event():
    write(2)
    statuses = ["201 Created", "422 Unprocessable"]
    with running(HttpReceiver()) as receiver:
        receiver.answer = lambda body: (
            200, {}, json.dumps({"entry": [{"response": {"status": status}} for status in statuses]}).encode(),
        )  # fmt: skip
        row = sink(f"http://127.0.0.1:{receiver.port}/fhir", "fhir")
        deliver(row.pk)
        assert Sink.objects.get().problem == "the server took 1 of 2 events"
        statuses[1] = "200 OK"
        deliver(row.pk)

    assert Sink.objects.get().cursor == 2
    assert receiver.requests[0][1]["Content-Type"] == "application/fhir+json"


def test_cloud_logging_is_written_with_a_token_the_service_account_signed():
    key = generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {"client_email": "log@p.iam", "private_key_id": "k1", "private_key": pem}
    write(1)
    with running(HttpReceiver()) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/v2/entries:write?project=hospital&log=phi"
        row = sink(url, "cloud-logging")
        store_secret(row, json.dumps(account))
        deliver(row.pk)

    (path, headers, body) = receiver.requests[0]
    written = json.loads(body)
    claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), RSAKey.import_key(pem)).claims
    assert path == "/v2/entries:write"
    assert (written["logName"], written["partialSuccess"]) == ("projects/hospital/logs/phi", False)
    assert (claims["iss"], claims["aud"]) == ("log@p.iam", "https://127.0.0.1/")


def test_a_file_survives_rotation_and_a_line_cut_short(settings):
    path = settings.HOOPWEB_SINK_DIR / "events.jsonl"
    row = sink("file:///events.jsonl", "json")
    write(1)
    deliver(row.pk)
    path.rename(path.with_suffix(".1"))
    write(1)
    deliver(row.pk)
    with path.open("ab") as file:
        file.write(b'{"id": "half')  # as a crash leaves it
    write(1)
    deliver(row.pk)

    lines = path.read_text().splitlines()
    assert [json.loads(line)["seq"] for line in (lines[0], lines[2])] == [2, 3]
    assert (lines[1], path.stat().st_mode & 0o007) == ('{"id": "half', 0)


def test_a_symbolic_link_in_the_directory_of_sinks_is_not_followed(settings, tmp_path):
    settings.HOOPWEB_SINK_DIR.mkdir()
    (tmp_path / "other").write_text("")
    (settings.HOOPWEB_SINK_DIR / "events").symlink_to(tmp_path / "other")
    write(1)
    deliver(sink("file:///events").pk)

    assert (tmp_path / "other").read_text() == ""
    assert Sink.objects.get().failures == 1


def test_only_the_kinds_that_are_asked_for_leave():
    append_entries([opened(), authorised("a1"), denied("d1")])
    with running(HttpReceiver()) as receiver:
        row = sink(f"http://127.0.0.1:{receiver.port}/", kinds=["session.*", "*.denied"])
        deliver(row.pk)

    assert seqs(receiver) == [1, 3]
    assert Sink.objects.get().cursor == 3


@pytest.mark.parametrize(
    ("format", "transport"), [("json", "http"), ("ocsf", "http"), ("fhir", "http"), ("cloud-logging", "http"),
                              ("syslog", "syslog"), ("cef", "syslog")],
)  # fmt: skip
def test_no_statement_text_and_no_value_reaches_any_receiver(format, transport):
    canary = "select '412-55-6789' from patients"
    append_entries([opened(), authorised("a1", text=canary), completed("a1")])
    # The control: the text is there for whoever may read it.
    from audit.domain.reading import open_texts

    assert open_texts(StatementRecord.objects.filter(pk="a1"))["a1"][0].statement == canary

    receiver = HttpReceiver() if transport == "http" else SyslogReceiver()
    with running(receiver):
        if transport == "http":
            answer = json.dumps({"entry": [{"response": {"status": "201"}}] * 3}).encode()
            receiver.answer = lambda body: (200, {}, answer)
            row = sink(f"http://127.0.0.1:{receiver.port}/", format)
        else:
            row = sink(f"syslog+tcp://127.0.0.1:{receiver.port}/", format)
        assert deliver(row.pk) == 3

    left = str(receiver.requests if transport == "http" else receiver.frames)
    assert "demo-agent" in left
    assert "412-55" not in left
    assert "select" not in left.replace('"kind":"select"', "").replace('kind="select"', "").replace(
        '"statement_kind":"select"', ""
    )


def test_a_sink_begins_with_what_comes_next_unless_asked_for_the_whole_log():
    write(3)
    row = sink("file:///later", history=False)
    write(1)

    assert (row.cursor, deliver(row.pk)) == (3, 1)


def test_lag_is_counted_in_entries_and_seconds():
    row = sink("http://127.0.0.1:9/")
    write(3)

    (lag,) = lags()
    assert (lag.sink, lag.entries, lag.failing) == ("siem", 3, False)
    assert lag.seconds >= 0

    deliver(row.pk)
    assert lags()[0].failing


def test_a_damaged_entry_holds_the_sink_and_is_named():
    write(3)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE audit_logentry SET canonical = 'no entry' WHERE seq = 2")
        cursor.execute("SET LOCAL session_replication_role = origin")
    row = sink("file:///events")

    assert deliver(row.pk) == 0

    row.refresh_from_db()
    assert (row.cursor, row.problem) == (0, "entry 2 is damaged")


def test_a_malformed_list_of_networks_is_named_and_nothing_is_sent(settings):
    settings.HOOPWEB_SINK_NETWORKS = ["everything"]
    write(1)
    row = sink("http://127.0.0.1:9/")

    deliver(row.pk)

    row.refresh_from_db()
    assert row.problem.startswith("HOOPWEB_SINK_NETWORKS")
