"""Sinks in the console and in the configuration document: recorded, checked, and without their secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from audit.domain.append import append_entries
from audit.models import LogEntry, Sink
from audit.sinks.secret import authorization
from gateway.domain.configuration.change import apply_document, export_document
from gateway.domain.configuration.reading import DocumentProblem, read_document
from tests.audit.factories import denied

SECRET = "canary-secret-77"
DOCUMENT = """
apiVersion: hoopweb/v1
sinks:
  - name: siem
    format: ocsf
    url: https://collector.example/in
    secret: {value: canary-secret-77}
    kinds: ["statement.*"]
"""


@pytest.fixture
def console(client, db):
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    return client


def apply(text: str):
    return apply_document(read_document(text), base=Path(), actor="os:test")


def test_a_sink_is_made_in_the_console_with_its_secret_sealed_and_the_change_recorded(console):
    append_entries([denied("d1")])
    fields = {"name": "siem", "enabled": "on", "format": "ocsf", "url": "https://collector.example/in", "kinds": "[]",
              "secret": SECRET}  # fmt: skip

    answer = console.post(reverse("admin:audit_sink_add"), fields)

    assert answer.status_code == 302, answer.context["errors"]
    row = Sink.objects.get()
    change = LogEntry.objects.get(kind="config.changed")
    assert (authorization(row), row.cursor) == ({"Authorization": f"Bearer {SECRET}"}, change.seq - 1)
    recorded = bytes(change.canonical).decode()
    assert "collector.example" in recorded
    assert SECRET not in recorded
    page = console.get(reverse("admin:audit_sink_change", args=[row.pk])).content.decode()
    assert SECRET not in page
    assert "entries" in console.get(reverse("admin:audit_sink_changelist")).content.decode()


@pytest.mark.parametrize(
    ("format", "url"), [("fhir", "syslog+tls://h"), ("syslog", "https://h/"), ("ocsf", "ftp://h"), ("json", "file:///../x")]
)  # fmt: skip
def test_what_does_not_go_together_is_refused(console, format, url):
    answer = console.post(reverse("admin:audit_sink_add"), {"name": "s", "format": format, "url": url, "kinds": "[]"})

    assert (answer.status_code, Sink.objects.count()) == (200, 0)


def test_apply_makes_a_sink_once_and_export_says_the_same_without_the_secret(db):
    (change,) = apply(DOCUMENT)
    assert (change.name, change.secret) == ("siem", "secret")
    assert authorization(Sink.objects.get()) == {"Authorization": f"Bearer {SECRET}"}

    assert apply(DOCUMENT) == []
    exported = export_document()
    assert "https://collector.example/in" in exported
    assert SECRET not in exported + json.dumps(bytes(LogEntry.objects.get(kind="config.changed").canonical).decode())
    assert apply(exported) == []


def test_apply_names_a_mistake_by_its_place(db):
    with pytest.raises(DocumentProblem, match=r"sinks\[0\]\.url: format fhir goes over"):
        apply(
            DOCUMENT.replace("format: ocsf", "format: fhir").replace("https://collector.example/in", "syslog+tls://h")
        )
