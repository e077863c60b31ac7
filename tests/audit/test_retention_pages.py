"""Retention and holds in the console: who may change them, and that every change is recorded."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from audit.models import LegalHold, LogEntry, RetentionPolicy


def signed_in(name: str, group: str = "") -> Client:
    user = User.objects.create_user(name, is_staff=True, is_superuser=not group)
    if group:
        user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.django_db
def test_every_class_is_kept_six_years_until_somebody_says_otherwise():
    assert dict(RetentionPolicy.objects.values_list("record_class", "days")) == dict.fromkeys(
        ("texts", "recordings", "subjects", "projections"), 2196
    )


@pytest.mark.django_db
def test_a_change_of_retention_is_recorded():
    admin = signed_in("admin")

    page = admin.post(reverse("admin:audit_retentionpolicy_change", args=["texts"]), {"days": "400"})

    assert page.status_code == 302
    assert RetentionPolicy.objects.get(pk="texts").days == 400
    changed = LogEntry.objects.filter(kind="config.changed").latest("seq")
    assert b'"days":2196' in bytes(changed.canonical)
    assert b'"days":400' in bytes(changed.canonical)
    assert "purges what is before" in admin.get(reverse("admin:audit_retentionpolicy_changelist")).content.decode()


@pytest.mark.django_db
def test_a_hold_is_placed_released_and_never_deleted():
    admin = signed_in("admin")
    fields = {"name": "case 7", "reason": "suit of J. Doe", "subject": "demo-agent", "connection": "", "session": ""}
    moments = {"since_0": "", "since_1": "", "until_0": "", "until_1": ""}

    admin.post(reverse("admin:audit_legalhold_add"), {**fields, **moments})

    hold = LegalHold.objects.get(name="case 7")
    placed = LogEntry.objects.get(kind="hold.placed")
    assert (hold.placed_by, hold.released_at) == ("admin", None)
    assert b"J. Doe" not in bytes(placed.canonical)
    assert admin.post(reverse("admin:audit_legalhold_delete", args=[hold.pk])).status_code == 403

    admin.post(reverse("admin:audit_legalhold_changelist"), {"action": "release", "_selected_action": [str(hold.pk)]})

    hold.refresh_from_db()
    assert hold.released_by == "admin"
    assert LogEntry.objects.filter(kind="hold.released").count() == 1


@pytest.mark.django_db
def test_an_auditor_looks_and_changes_nothing():
    auditor = signed_in("auditor", "auditors")

    assert auditor.get(reverse("admin:audit_retentionpolicy_changelist")).status_code == 200
    assert auditor.get(reverse("admin:audit_legalhold_changelist")).status_code == 200
    assert auditor.get(reverse("admin:audit_legalhold_add")).status_code == 403
    assert auditor.post(reverse("admin:audit_retentionpolicy_change", args=["texts"]), {"days": "1"}).status_code == 403
    assert RetentionPolicy.objects.get(pk="texts").days == 2196
