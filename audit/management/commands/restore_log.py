"""Go on with a log that came back from a backup. Exit 0: done; 1: refused, nothing was written.

What was anchored after the backup and is not in the database is disowned by an entry of its own, which every bundle
declares and every verifier reports until the auditor accepts it (docs/operations.md, docs/decisions/0050).
"""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from audit.domain.checkpoints import LogDamaged
from audit.domain.keys import SigningKeyProblem
from audit.domain.note import split_notes
from audit.domain.restorations import RestorationRefused, find_loss, restore_log


class Command(BaseCommand):
    help = "After a restore from a backup: disown, in the log, the anchored checkpoints it does not hold."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reason", default="", help="why; it stands in the log in clear: no patient, no secret")
        parser.add_argument("--anchor", type=Path, action="append", default=[], help="notes somebody else kept, too")
        parser.add_argument("--dry-run", action="store_true", help="say what would be disowned; write nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            notes = [note for path in options["anchor"] for note in split_notes(path.read_text(encoding="utf-8"))]
            if options["dry_run"]:
                loss = find_loss(notes)
                self._say(loss.base, sorted(loss.named))
                return
            restoration = restore_log(reason=options["reason"], by=f"os:{getpass.getuser()}", notes=notes)
        except (RestorationRefused, SigningKeyProblem) as refused:
            self._refuse(str(refused))
        except LogDamaged as damage:
            self._refuse(f"the log is damaged by more than a restore, nothing was written: {damage}")
        except (OSError, UnicodeDecodeError) as error:
            self._refuse(f"notes could not be read or written: {type(error).__name__}")
        self._say(restoration.base, sorted(restoration.named))
        self.stdout.write(f"entry {restoration.seq} says so, and the log is signed again")
        self.stdout.write("tell the auditor; with the old notes their verifier asks for")
        self.stdout.write(f"  --accept-restoration {restoration.acceptance}")

    def _say(self, base: int, named: list[tuple[int, bytes]]) -> None:
        for size, root in named:
            self.stdout.write(f"not in the log: checkpoint of {size} entries, root {root.hex()}")
        self.stdout.write(f"entries after {base}, up to at least {named[-1][0]}, are not the ones that were signed")

    def _refuse(self, why: str) -> None:
        self.stderr.write(why)
        sys.exit(1)
