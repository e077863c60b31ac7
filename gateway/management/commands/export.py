"""`manage.py export [-o FILE]`: the configuration as the document `apply` reads, without secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.domain.configuration.change import export_document


class Command(BaseCommand):
    help = "Write the configuration document of this database. It holds no secret."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("-o", "--output", help="a file; standard output without it")

    def handle(self, *args: Any, **options: Any) -> None:
        text = export_document()
        if options["output"]:
            try:
                Path(options["output"]).write_text(text, encoding="utf-8")
            except OSError as problem:
                raise CommandError(f"{options['output']} cannot be written: {problem.strerror}") from None
        else:
            self.stdout.write(text, ending="")
