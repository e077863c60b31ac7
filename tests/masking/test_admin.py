from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from masking.domain import hooks
from masking.models import ColumnTag, DataClass, MaskingRule

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("admin", password="synthetic"))
    return client


def tags(count: int) -> None:
    for number in range(count):
        data_class = DataClass.objects.create(name=f"class-{number}")
        ColumnTag.objects.create(connection="clinic", column=f"public.t.c{number}", data_class=data_class)


@pytest.mark.parametrize("model", ["maskingrule", "columntag", "dataclass"])
def test_lists_and_forms_open(admin: Client, model: str) -> None:
    tags(2)

    assert admin.get(reverse(f"admin:masking_{model}_changelist")).status_code == 200
    assert admin.get(reverse(f"admin:masking_{model}_add")).status_code == 200


def test_list_of_tags_takes_the_same_queries_for_any_length(admin: Client, django_assert_max_num_queries) -> None:  # type: ignore[no-untyped-def]
    tags(30)

    with django_assert_max_num_queries(15):
        admin.get(reverse("admin:masking_columntag_changelist"))


def test_a_rule_made_in_the_console_is_announced(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    announced: list[int] = []
    monkeypatch.setattr(hooks, "_listeners", [lambda: announced.append(MaskingRule.objects.count())])

    answer = admin.post(
        reverse("admin:masking_maskingrule_add"),
        {
            "name": "ssn",
            "connections": "clinic",
            "columns": "public.patients.ssn",
            "technique": "redact",
            "inference": "guarded",
            "exempt_groups": "",
            "data_class": "",
            "keep": 4,
            "priority": 100,
        },
    )

    assert answer.status_code == 302
    assert announced == [1]


def test_confirming_tags_is_announced(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    announced: list[None] = []
    monkeypatch.setattr(hooks, "_listeners", [lambda: announced.append(None)])
    tags(1)
    tag = ColumnTag.objects.get()

    admin.post(reverse("admin:masking_columntag_changelist"), {"action": "confirm", "_selected_action": [tag.pk]})

    tag.refresh_from_db()
    assert tag.source == ColumnTag.Source.CONFIRMED
    assert announced == [None]
