"""Export evidence. Exit 0: written and sealed; 1: written, but the stored log is damaged and nothing was signed."""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit.domain.box import KeyProblem
from audit.domain.bundle import Bundled, Scope, write_bundle
from audit.domain.chunk_store import StoreProblem, StoreUnavailable
from audit.domain.keys import SigningKeyProblem
from audit.models import LogEntry


class Command(BaseCommand):
    help = "Write an evidence bundle that audit_verify checks offline."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("-o", "--output", required=True, type=Path, help="the file to write (JSON lines)")
        parser.add_argument("--session", default="", help="only this session, with inclusion proofs")
        parser.add_argument("--from", dest="since", type=_moment, help="only from this moment on (ISO 8601, UTC)")
        parser.add_argument("--to", dest="until", type=_moment, help="only up to this moment (ISO 8601, UTC)")
        parser.add_argument("--with-text", action="store_true", help="disclose statements, parameters and recordings")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["session"] and (options["since"] or options["until"]):
            raise CommandError("--session and --from/--to cannot be combined")
        # A mistyped id would be sealed and signed as a session in which nothing happened.
        if options["session"] and not LogEntry.objects.filter(session_id=options["session"]).exists():
            raise CommandError(f"the log knows no session {options['session']}: no bundle was written")
        scope = Scope(session=options["session"], since=options["since"], until=options["until"])
        try:
            bundled = _write(options["output"], scope=scope, with_text=options["with_text"])
        except (KeyProblem, SigningKeyProblem, StoreProblem) as problem:
            raise CommandError(str(problem)) from None
        except StoreUnavailable as away:
            # Whether recordings are intact cannot be told, so nothing is signed that would say so.
            raise CommandError(f"recordings cannot be opened, no bundle was written: {away}") from None
        except OSError as problem:
            raise CommandError(f"the bundle cannot be written: {problem.strerror}") from None
        for finding in bundled.findings:
            self.stderr.write(f"damaged: {finding}")
        self.stdout.write(f"{bundled.entries} entries of a log of {bundled.size}, sha256 {bundled.digest}")
        if bundled.findings:
            self.stderr.write("the stored log is damaged: nothing was signed, the bundle shows it as it is")
            sys.exit(1)


def _write(path: Path, *, scope: Scope, with_text: bool) -> Bundled:
    """Write beside the target and move it there, readable by its owner alone: it may hold statements."""
    partial = path.with_name(f".{path.name}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            bundled = write_bundle(out, scope=scope, with_text=with_text, requested_by=f"os:{getpass.getuser()}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return bundled


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no moment, expected one such as 2026-11-30T12:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
