"""What is not there, and what is not for one's role, is a page with a way on; the API answers in its own words."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db


def signed_in(*, superuser: bool = False) -> Client:
    make = User.objects.create_superuser if superuser else User.objects.create_user
    client = Client(raise_request_exception=False)
    client.force_login(make("somebody"), backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_address_without_a_page_leads_on() -> None:
    page = signed_in(superuser=True).get("/reviews/00000000-0000-0000-0000-000000000000/")

    assert page.status_code == 404
    assert "There is nothing here for you" in page.content.decode()
    assert f'href="{reverse("approvals:inbox")}"' in page.content.decode()
    assert f'href="{reverse("admin:index")}"' in page.content.decode()


def test_anonymous_is_led_to_the_sign_in() -> None:
    page = Client().get("/nothing/")

    assert page.status_code == 404
    assert f'href="{reverse("admin:login")}"' in page.content.decode()
    assert reverse("approvals:inbox") + '">Your reviews' not in page.content.decode()


def test_page_of_another_role_says_so() -> None:
    person = signed_in()
    User.objects.update(is_staff=True)

    page = person.get(reverse("admin:gateway_agent_changelist"))

    assert page.status_code == 403
    assert "This is not for your role" in page.content.decode()


def test_form_of_another_session_says_that_nothing_was_done() -> None:
    strict = Client(enforce_csrf_checks=True)

    page = strict.post(reverse("admin:login"), {"username": "somebody", "password": "x"})

    assert page.status_code == 403
    assert "Nothing was done" in page.content.decode()


@pytest.mark.parametrize("name", ["400.html", "500.html"])
def test_pages_of_last_resort_need_no_request(name: str) -> None:
    """Django renders them without one, and without a context."""
    assert 'class="card empty"' in render_to_string(name)


def test_address_below_the_api_is_a_problem_document() -> None:
    answer = Client().get("/api/v1/nothing/")

    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
