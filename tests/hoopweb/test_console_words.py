"""The console's lists and records say what a thing is, not which row it is, and call it by one name everywhere."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals.models import Grant, Review

pytestmark = pytest.mark.django_db


@pytest.fixture
def administrator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"), backend="django.contrib.auth.backends.ModelBackend")
    return client


def page(client: Client, name: str, *args: object) -> str:
    return client.get(reverse(name, args=args)).content.decode()


def granted(**changes: object) -> Grant:
    now = timezone.now()
    review = Review.objects.create(
        status=Review.Status.APPROVED,
        connection="clinic",
        connection_kind="postgres",
        subject="demo-agent",
        facts={"kind": "UPDATE"},
        reviewers=[],
        reviewer_groups=[],
        opened_at=now,
        decide_by=now + timedelta(hours=1),
        execute_within_s=600,
        decided_at=now,
    )
    return Grant.objects.create(review=review, expires_at=now + timedelta(hours=1), **changes)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "usable"),
        ({"uses_left": 0}, "used up"),
        ({"revoked": True}, "revoked"),
    ],
)
def test_grant_says_for_what_it_is_and_whether_it_can_be_used(
    administrator: Client, changes: dict[str, object], state: str
) -> None:
    grant = granted(**changes)

    listed = page(administrator, "admin:approvals_grant_changelist")
    record = page(administrator, "admin:approvals_grant_change", grant.pk)

    for shown in (listed, record):
        assert "UPDATE on clinic, asked by demo-agent" in shown
        assert re.search(rf">\s*{state}\s*<", shown)
    assert f"review {grant.review_id}" not in listed
    assert grant.review.get_absolute_url() in record


def test_grant_past_its_time_is_over(administrator: Client) -> None:
    grant = granted()
    Grant.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert re.search(r">\s*over\s*<", page(administrator, "admin:approvals_grant_change", grant.pk))


def test_pages_are_headed_by_the_words_of_the_menu(administrator: Client) -> None:
    """Above a page stand the names of its app and its model; in the menu those of its section and its link."""
    page(administrator, "admin:index")
    console = import_module("hoopweb.admin")  # registers models: not before Django has found every app's

    sections = {app: section for section, app, _ in console.NAVIGATION}
    models = {str(model._meta.model_name): str(model._meta.verbose_name_plural) for model in admin.site._registry}

    assert {app: apps.get_app_config(app).verbose_name for app in sections} == sections
    assert {name: title.lower() for name, title in console.TITLES.items()} == {
        name: models[name].lower() for name in console.TITLES
    }


def test_nothing_damaged_is_no_damage_to_come(administrator: Client) -> None:
    shown = page(administrator, "admin:audit_logdamage_changelist")

    assert "No damage is known" in shown
    assert "No damage yet" not in shown


def test_headings_keep_the_spelling_of_a_name(administrator: Client) -> None:
    group = Group.objects.create(name="night-shift")

    shown = page(administrator, "admin:auth_group_change", group.pk)
    listed = page(administrator, "admin:auth_group_changelist")

    assert re.search(r">\s*night-shift\s*</a", shown)
    assert "Night-shift" not in shown
    assert re.search(r">\s*Groups\s*</a", listed)


def test_a_list_is_titled_by_what_it_lists(administrator: Client) -> None:
    assert "<title> Channels | hoopweb</title>" in page(administrator, "admin:approvals_channel_changelist")
    assert "<title> REST statements | hoopweb</title>" in page(administrator, "admin:gateway_reststatement_changelist")


def test_reports_lead_to_where_they_are_asked_for(administrator: Client) -> None:
    asked = reverse("admin:audit_reports")

    links = {link["title"]: link for group in administrator.get(asked).context["sidebar_navigation"]
             for link in group["items"]}  # fmt: skip

    assert links["Reports"]["link"] == asked
    assert [title for title, link in links.items() if link.get("active")] == ["Reports"]
    assert [link["active"] for link in (links["Log entries"],)] == [False]


def test_kinds_of_statements_are_spelled_as_sql_spells_them(administrator: Client) -> None:
    grant = granted()
    Review.objects.update(facts={"kind": "COPY_TO"})

    for shown in (page(administrator, "admin:approvals_grant_changelist"), str(Grant.objects.get(pk=grant.pk))):
        assert "COPY TO on clinic" in shown


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("approvals_channel", "url"),
        ("approvals_emergencyroster", "members"),
        ("approvals_policy", "connections"),
        ("gateway_issuer", "algorithms"),
        ("masking_maskingrule", "connections"),
    ],
)
def test_an_empty_field_has_one_message(administrator: Client, name: str, field: str) -> None:
    answer = administrator.post(reverse(f"admin:{name}_add"), {"kind": "webhook"})

    assert answer.status_code == 200
    errors = answer.context["adminform"].form.errors
    assert len(errors[field]) == 1
    assert "name" in errors  # others are still told


def test_a_list_that_an_address_has_filtered_empty_says_so(administrator: Client) -> None:
    filtered = administrator.get(reverse("admin:audit_logentry_changelist") + "?kind__exact=authentication.failed").text

    assert "Nothing matches" in filtered
    assert "No log entries yet" not in filtered


def test_help_texts_lose_nothing_to_markup(administrator: Client) -> None:
    """They are written into the page as HTML: what looks like a tag is gone."""
    page(administrator, "admin:index")

    for model in admin.site._registry:
        for field in model._meta.get_fields():
            assert not re.search(r"<[\w ]+>", str(getattr(field, "help_text", ""))), field
