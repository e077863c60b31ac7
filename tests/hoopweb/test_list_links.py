"""Lists that lead on to a search, a live view or a form show the way: a block the layout lacks renders nothing."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

LINKS = [
    ("audit_reportrun", "audit_reports"),
    ("audit_logentry", "audit_entry_search"),
    ("audit_statementrecord", "audit_statement_search"),
    ("audit_sessionrecord", "audit_live"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("model", "target"), LINKS)
def test_list_leads_on(model: str, target: str):
    client = Client()
    client.force_login(User.objects.create_superuser("root"), backend="django.contrib.auth.backends.ModelBackend")

    page = client.get(reverse(f"admin:{model}_changelist")).content.decode()

    assert f'href="{reverse(f"admin:{target}")}"' in page
