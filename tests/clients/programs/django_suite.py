"""A Django project of one file: what its test runner, its migrations and its ORM do to a PostgreSQL."""

from __future__ import annotations

import sys

import django
import pytest
from django.conf import settings

words = dict(argument.split("=", 1) for argument in sys.argv[1:])
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "orders",
            "USER": words["user"],
            "PASSWORD": words["password"],
            "HOST": words["host"],
            "PORT": words["port"],
            "OPTIONS": {"sslmode": words["sslmode"]},
        }
    },
)
django.setup()

from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.db.models import Count, F, Q, Window  # noqa: E402
from django.db.models.functions import Rank, Upper  # noqa: E402
from django.test import TestCase, TransactionTestCase  # noqa: E402
from django.test.runner import DiscoverRunner  # noqa: E402
from django.test.utils import get_runner  # noqa: E402


class Orm(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        User.objects.bulk_create(User(username=f"user{n}", is_staff=n % 2 == 0) for n in range(50))

    def test_reads(self) -> None:
        staff = User.objects.filter(Q(is_staff=True) | Q(username="user1")).annotate(shout=Upper("username"))
        assert staff.count() == 26
        assert staff.order_by("id").first().shout == "USER0"
        ranked = User.objects.annotate(place=Window(Rank(), order_by=F("username").asc())).order_by("place")
        assert ranked.first().username == "user0"
        assert sum(1 for _ in User.objects.iterator(chunk_size=7)) == 50
        assert list(User.objects.values("is_staff").annotate(n=Count("id")).values_list("n", flat=True)) == [25, 25]

    def test_writes_inside_savepoints(self) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create(username="user0")
        User.objects.select_for_update().filter(username="user1").update(first_name="Ada")
        group, created = Group.objects.get_or_create(name="readers")
        group.user_set.add(User.objects.get(username="user1"))
        assert created
        assert group.user_set.get().first_name == "Ada"
        assert Permission.objects.count() > 10

    def test_introspection(self) -> None:
        with connection.cursor() as cursor:
            tables = connection.introspection.table_names(cursor)
            constraints = connection.introspection.get_constraints(cursor, "auth_user")
        assert "auth_user" in tables
        assert any(found["primary_key"] for found in constraints.values())


class Transactions(TransactionTestCase):
    def test_commit_and_flush(self) -> None:
        with transaction.atomic(durable=True):
            User.objects.create(username="kept")
        assert User.objects.filter(username="kept").exists()


if __name__ == "__main__":
    runner_class: type[DiscoverRunner] = get_runner(settings)
    runner = runner_class(verbosity=1, interactive=False)
    suite = runner.test_runner(verbosity=1)
    databases = runner.setup_databases()
    loader = runner.test_loader
    result = suite.run(loader.suiteClass([loader.loadTestsFromTestCase(case) for case in (Orm, Transactions)]))
    runner.teardown_databases(databases)
    sys.exit(0 if result.wasSuccessful() else 1)
