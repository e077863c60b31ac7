"""The keys under which patients' accountings are found: list, rotate, erase (docs/evidence.md)."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from audit.domain.subject_keys import SubjectKeyProblem, erase_subject_key, rotate_subject_key
from audit.models import SubjectKeyRow
from gateway.domain.version import bump_version


class Command(BaseCommand):
    help = "List, rotate or erase the keys of subjects' tokens. Erasing is for good."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", default="list", choices=["list", "rotate", "erase"])
        parser.add_argument("--key", type=int, help="the key to erase, by its number in the list")

    def handle(self, *args: Any, **options: Any) -> None:
        by = f"os:{getpass.getuser()}"
        if options["action"] == "list":
            for row in SubjectKeyRow.objects.order_by("pk"):
                state = f"erased {row.erased_at:%Y-%m-%d %H:%M}" if row.erased_at else "in use"
                self.stdout.write(f"{row.pk}  made {row.created_at:%Y-%m-%d %H:%M}  {state}")
        elif options["action"] == "rotate":
            with transaction.atomic():
                version = bump_version()
                key = rotate_subject_key(by=by)
            self.stdout.write(f"key {key} makes tokens from rules version {version} on; older keys still find")
        else:
            self._erase(options["key"], by)

    def _erase(self, key: int | None, by: str) -> None:
        if key is None:
            raise CommandError("expected --key with the number of the key to erase")
        try:
            erase_subject_key(key_id=key, by=by)
        except SubjectKeyProblem as problem:
            raise CommandError(str(problem)) from None
        self.stdout.write(f"key {key} is erased: nobody is found by its tokens any more")
