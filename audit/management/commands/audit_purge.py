"""Destroy what is past its retention. Exit 0: done, or nothing due; 1: refused, the log is damaged; 2: not finished."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from audit.domain.box import KeyProblem
from audit.domain.certify import NothingToConfirm, confirm_certificate
from audit.domain.checkpoints import LogDamaged
from audit.domain.chunk_store import StoreProblem, StoreUnavailable
from audit.domain.keys import SigningKeyProblem
from audit.domain.leap import LEAPT, may_have_leapt
from audit.domain.retention import Due, PurgeRefused, purge, what_is_due


class Command(BaseCommand):
    help = "Purge texts, recordings, subjects and records past their retention, with a certificate in the log."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what is due; destroy nothing")
        parser.add_argument(
            "--the-clock-is-right", action="store_true", help="purge although nothing was signed a day or a week ago"
        )
        parser.add_argument(
            "--confirm", metavar="ENTRY:HASH", help="sign what an unsigned certificate of an earlier purge says"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["confirm"]:
            self._confirm(options["confirm"])
            return
        if options["dry_run"]:
            self._say(what_is_due(), "due")
            return
        if may_have_leapt() and not options["the_clock_is_right"]:
            self.stderr.write(f"nothing was purged: {LEAPT}; if it is right, add --the-clock-is-right")
            sys.exit(1)
        try:
            self._say(purge(by=f"os:{getpass.getuser()}"), "purged")
        except PurgeRefused as refused:
            self.stderr.write(str(refused))
            sys.exit(1)
        except StoreUnavailable as away:
            # Certified is certified: the next purge erases the rest, and until then the rest is still there.
            self.stderr.write(f"recordings could not be erased: {away}; run it again when the store answers")
            sys.exit(2)
        except (KeyProblem, SigningKeyProblem, StoreProblem) as problem:
            self.stderr.write(f"nothing was purged: {problem}")
            sys.exit(2)

    def _confirm(self, named: str) -> None:
        try:
            certificate = confirm_certificate(named, by=f"os:{getpass.getuser()}")
        except (NothingToConfirm, LogDamaged, SigningKeyProblem) as refused:
            self.stderr.write(str(refused))
            sys.exit(1)
        self.stdout.write(f"entry {certificate.seq} confirms it, signed")

    def _say(self, dues: list[Due], word: str) -> None:
        for due in dues:
            held = f", {due.held} held" if due.held else ""
            self.stdout.write(f"{due.record_class}: {due.count} {word} from before {due.until:%Y-%m-%d}{held}")
        if not dues:
            self.stdout.write("nothing is due")
