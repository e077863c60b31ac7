"""Check the stored evidence. Exit 0: all as written; 1: damaged (each place is named); 2: cannot be checked."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from audit.domain.box import KeyProblem
from audit.domain.check import check_evidence
from audit.domain.chunk_store import StoreUnavailable
from audit.domain.keys import SigningKeyProblem


class Command(BaseCommand):
    help = "Check log, sealed texts, recordings and records against each other. Exit 0 intact, 1 damaged."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--incremental", action="store_true", help="only what was written since the last check")
        parser.add_argument("--quiet", action="store_true", help="only name what is damaged")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            checked = check_evidence(checked_by=f"os:{getpass.getuser()}", incremental=options["incremental"])
        except (KeyProblem, SigningKeyProblem, StoreUnavailable) as problem:
            self.stderr.write(f"cannot be checked: {problem}")
            sys.exit(2)
        for finding in checked.findings:
            self.stderr.write(f"DAMAGED: {finding}")
        if checked.findings:
            sys.exit(1)
        counts = checked.recordings
        if not options["quiet"] and counts is not None:
            which = (
                f"entries {checked.after + 1} to {checked.entries}" if checked.after else f"{checked.entries} entries"
            )
            said = f"intact: {which}; {counts.intact} of {counts.named} recordings opened"
            gone = f", {counts.lost} lost in a crash and recorded as lost" if counts.lost else ""
            gone += f", {counts.purged} purged and certified" if counts.purged else ""
            self.stdout.write(said + gone)
