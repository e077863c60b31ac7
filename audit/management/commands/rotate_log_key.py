"""Rotate the key that signs the log's checkpoints.

1. `rotate_log_key --generate` prints a new key (in the embedded stack it is put in front of the old one at once).
2. Give every process NEW,OLD as HOOPWEB_LOG_SIGNING_KEY and restart them: the old key goes on signing.
3. `rotate_log_key`: the log records the hand-over, signed by both, and the new key signs from here on.
4. The old key may be deleted; what it signed verifies by the chain.
"""

from __future__ import annotations

import base64
import getpass
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from audit.domain.checkpoints import LogDamaged
from audit.domain.keys import SigningKeyProblem
from audit.domain.rotate import rotate_log_key


class Command(BaseCommand):
    help = "Hand the log over to the newest key of HOOPWEB_LOG_SIGNING_KEY (--generate makes one)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--generate", action="store_true", help="make a new key; nothing is rotated yet")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["generate"]:
            self._generate()
            return
        try:
            rotation = rotate_log_key(rotated_by=f"os:{getpass.getuser()}")
        except SigningKeyProblem as problem:
            raise CommandError(str(problem)) from None
        except LogDamaged as damage:
            raise CommandError(f"the log is damaged, nothing was rotated: {damage}") from None
        self.stdout.write(f"entry {rotation.seq} hands the log over; from now on: {rotation.new.vkey}")
        self.stdout.write("verifiers may keep the key they have: bundles carry the chain of keys")

    def _generate(self) -> None:
        seed = base64.b64encode(os.urandom(32)).decode()
        stored = Path(settings.HOOPWEB_HOME) / "secrets" / "log_signing_key"
        if stored.exists() and stored.read_text(encoding="utf-8").strip() == settings.HOOPWEB_LOG_SIGNING_KEY:
            partial = stored.with_name(f".{stored.name}.{os.getpid()}")
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{seed},{settings.HOOPWEB_LOG_SIGNING_KEY}")
            partial.replace(stored)
            self.stdout.write(f"a new key stands in front of the old one in {stored}")
        else:
            self.stdout.write(f"HOOPWEB_LOG_SIGNING_KEY={seed},<the keys it holds now>")
        self.stdout.write("restart every process, then run rotate_log_key without --generate")
