"""`manage.py demo users.reviewer.token`: one value of the running demo, for scripts and for pasting."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Print one value of the running demo (demo.json), named by its path: users.reviewer.password."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", help="names joined by dots, such as web_url or users.admin.password")

    def handle(self, *_args: Any, **options: Any) -> None:
        file = settings.HOOPWEB_HOME / "demo.json"
        try:
            value: Any = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CommandError(f"{file} does not exist, expected a running demo (make run)") from None
        for name in options["path"].split("."):
            if not isinstance(value, dict) or name not in value:
                known = ", ".join(value) if isinstance(value, dict) else "nothing further"
                raise CommandError(f"no {name} in {options['path']}, expected {known}")
            value = value[name]
        self.stdout.write(json.dumps(value) if isinstance(value, dict) else str(value))
