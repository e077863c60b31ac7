"""Signing in, confirming and signing out lead back into this product and nowhere else (CWE-601)."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

pytestmark = pytest.mark.django_db

ELSEWHERE = [
    "https://evil.test/",
    "//evil.test/",
    "///evil.test/",
    "/\\evil.test/",
    "\\\\evil.test/",
    "https:evil.test",
    "https:///evil.test/",
    "http:\\\\evil.test",
    "/\t/evil.test/",
    "javascript:alert(1)",
    "data:text/html,x",
    "//testserver@evil.test/",
    "https://testserver.evil.test/",
    "\x00//evil.test/",
]


def leads_to(response) -> str:
    """The host a browser would go to: backslashes are slashes to it, tabs and line feeds nothing."""
    there = response.headers.get("Location", "")
    for ignored in "\t\r\n\x00":
        there = there.replace(ignored, "")
    parts = urlsplit(there.replace("\\", "/"))
    return parts.netloc or (parts.scheme if parts.scheme not in ("", "http", "https") else "")


@pytest.fixture
def password(db) -> str:
    User.objects.create_user("ann", "ann@example.test", "correct horse", is_staff=True)
    return "correct horse"


@pytest.mark.parametrize("target", ELSEWHERE)
def test_sign_in_leads_nowhere_else(target, password):
    form = {"username": "ann", "password": password, "next": target}

    response = Client().post("/admin/login/", form)

    assert response.status_code == 302  # signed in, and then
    assert leads_to(response) in {"", "testserver"}


def test_control_sign_in_leads_to_the_page_that_was_asked_for(password):
    form = {"username": "ann", "password": password, "next": "/reviews/"}

    assert Client().post("/admin/login/", form).headers["Location"] == "/reviews/"


@pytest.mark.parametrize("target", ELSEWHERE)
def test_pages_that_are_passed_through_lead_nowhere_else(target, password):
    client = Client()
    client.force_login(User.objects.get(username="ann"))

    for address in ("/admin/login/", "/step-up/", "/admin/logout/"):
        response = client.get(address, {"next": target})
        assert leads_to(response) in {"", "testserver"}, address
