"""Automatic log-off: after idleness, and some hours after signing in whatever somebody does; recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import LogEntry


@pytest.fixture
def signed_in(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"), backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/admin/").status_code == 200
    return client


def age(client: Client, **seconds: float) -> None:
    session = client.session
    for name, by in seconds.items():
        session[f"hoopweb_{name}"] -= by
    session.save()


def reasons() -> list[str]:
    entries = LogEntry.objects.filter(kind="person.signed_out")
    return [json.loads(bytes(entry.canonical))["body"]["reason"] for entry in entries]


def test_idle_person_is_signed_out(signed_in: Client, settings: Any):
    age(signed_in, seen_at=settings.HOOPWEB_SESSION_IDLE_S - 60)
    assert signed_in.get("/admin/").status_code == 200  # the control: not idle for long enough

    age(signed_in, seen_at=settings.HOOPWEB_SESSION_IDLE_S + 60)

    assert signed_in.get("/admin/").status_code == 302
    assert reasons() == ["idle"]


def test_a_page_that_refreshes_itself_keeps_nobody_signed_in(signed_in: Client, settings: Any):
    by_itself = {"X-Refreshed-By-Page": "1"}
    age(signed_in, seen_at=settings.HOOPWEB_SESSION_IDLE_S - 60)
    assert signed_in.get("/admin/", headers=by_itself).status_code == 200

    age(signed_in, seen_at=120)

    assert signed_in.get("/admin/", headers=by_itself).status_code == 302
    assert reasons() == ["idle"]


def test_busy_person_is_signed_out_in_the_end(signed_in: Client, settings: Any):
    age(signed_in, signed_in_at=settings.SESSION_COOKIE_AGE + 1)

    assert signed_in.get("/admin/").status_code == 302
    assert reasons() == ["absolute"]


def test_deep_json_is_a_mistake(signed_in: Client):
    browser = Client(enforce_csrf_checks=False)
    browser.force_login(User.objects.get(), backend="django.contrib.auth.backends.ModelBackend")

    answer = browser.post("/api/v1/tickets", "[" * 100_000, content_type="application/json")

    assert answer.status_code == 400
    assert answer.json()["detail"] == "the body is nested too deeply"


def test_session_of_a_clock_that_was_ahead_is_over(signed_in: Client):
    """It would never be idle, nor old, for as long as the clock had been ahead."""
    age(signed_in, seen_at=-30, signed_in_at=-30)
    assert signed_in.get("/admin/").status_code == 200  # clocks of hosts differ

    age(signed_in, seen_at=-3_600, signed_in_at=-3_600)

    assert signed_in.get("/admin/").status_code == 302
    assert reasons() == ["clock"]
