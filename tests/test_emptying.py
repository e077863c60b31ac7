"""Nothing of a test with transactions of its own is left to the next, and what migrations made is there."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import IntegrityError

from audit.domain.append import append_entries
from audit.models import LogEntry, SealedText
from hoopweb.auth import ADMINISTRATORS
from tests.audit.factories import authorised

pytestmark = pytest.mark.django_db(transaction=True)


def emptied() -> None:
    call_command("flush", interactive=False, verbosity=0)


def made() -> tuple[set[str], set[str], int, int]:
    names = set(Group.objects.values_list("name", flat=True))
    rights = Group.objects.get(name=ADMINISTRATORS).permissions.values_list("codename", flat=True)
    return names, set(rights), Permission.objects.count(), ContentType.objects.count()


def test_evidence_and_people_are_gone() -> None:
    append_entries([authorised("a1", "s1")])
    User.objects.create_user("somebody")

    emptied()

    assert (LogEntry.objects.count(), SealedText.objects.count(), User.objects.count()) == (0, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda: Group.objects.create(name="surplus"),
        lambda: Group.objects.get(name=ADMINISTRATORS).permissions.clear(),
        lambda: Group.objects.get(name=ADMINISTRATORS).delete(),
        lambda: Permission.objects.all().delete(),
        lambda: ContentType.objects.all().delete(),
    ],
    ids=["group", "rights", "no-group", "no-permissions", "no-types"],
)
def test_what_migrations_made_is_made_again_where_a_test_changed_it(change) -> None:
    emptied()
    before = made()
    assert before[1]
    change()

    emptied()

    assert made() == before
    # The next row of each gets an id of its own, and what refers to one is checked again.
    Group.objects.create(name="next")
    with pytest.raises(IntegrityError):
        Permission.objects.create(name="of nothing", codename="none", content_type_id=0)


def test_what_nobody_changed_stays() -> None:
    emptied()
    before = set(Permission.objects.values_list("pk", flat=True))

    emptied()

    assert set(Permission.objects.values_list("pk", flat=True)) == before
