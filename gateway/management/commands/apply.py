"""`manage.py apply -f FILE [--dry-run] [--prune]`: the configuration as one document."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.domain.authorship import NoSuchPerson, applying_person
from gateway.domain.configuration.change import Change, apply_document
from gateway.domain.configuration.reading import DocumentProblem, read_document

_AS = "the account whose work this is: policies name it as their author, whom separation of duties binds"
_NOBODY = "nobody is named as the author, so separation of duties binds nobody (--as PERSON)"


class Command(BaseCommand):
    help = "Show how a configuration document differs from the database, then make it so, all of it or nothing."

    def __init__(self, *args: Any, **known: Any) -> None:
        super().__init__(*args, **known)
        self._unattributed: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("-f", "--file", required=True, help="the document; '-' reads standard input")
        parser.add_argument("--dry-run", action="store_true", help="show the difference and change nothing")
        parser.add_argument("--as", dest="person", default="", metavar="PERSON", help=_AS)
        parser.add_argument("--prune", action="store_true", help="remove what the document's sections do not name")

    def _show(self, change: Change, author: str) -> None:
        """Called before anything is committed: what it raises stops it all."""
        self.stdout.write("\n".join(change.lines()))
        if author or change.section != "policies" or not (change.after or {}).get("separation"):
            return
        if settings.HOOPWEB_APPLY_NEEDS_PERSON:
            raise CommandError(f"policy {change.name}: {_NOBODY}; nothing was changed")
        self._unattributed.append(change.name)

    def handle(self, *args: Any, **options: Any) -> None:
        text, base = read_source(str(options["file"]))
        try:
            author = applying_person(str(options["person"]))
        except NoSuchPerson as problem:
            raise CommandError(f"--as: {problem}; nothing was changed") from None
        try:
            changes = apply_document(
                read_document(text),
                base=base,
                prune=options["prune"],
                dry_run=options["dry_run"],
                actor=f"command:{getpass.getuser()}",
                author=author,
                show=lambda change: self._show(change, author),
                warn=self.stderr.write,
            )
        except DocumentProblem as problem:
            raise CommandError(f"{problem}\nnothing was changed") from None
        if self._unattributed:
            self.stderr.write(f"{', '.join(self._unattributed)}: {_NOBODY}")
        counted = "1 change" if len(changes) == 1 else f"{len(changes)} changes"
        if not changes:
            self.stdout.write("no changes")
        elif options["dry_run"]:
            self.stdout.write(f"{counted}, none made (dry run)")
        else:
            self.stdout.write(self.style.SUCCESS(f"{counted} applied"))


def read_source(name: str) -> tuple[str, Path]:
    """The document's text and the directory its relative files start from."""
    try:
        if name == "-":
            return Path("/dev/stdin").read_text(encoding="utf-8"), Path.cwd()
        path = Path(name)
        return path.read_text(encoding="utf-8"), path.resolve().parent
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{name} cannot be read: {type(error).__name__}") from None
