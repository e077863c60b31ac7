"""`manage.py rotate_credentials [--new-key]`: seal upstream credentials under the newest key.

Rotation takes three steps, so that no running data plane ever meets a box it cannot open: `--new-key` writes a new key
in front of the old one; restart the processes; run the command without it. Then drop the old private key.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from gateway.domain.credentials import CredentialProblem, generate_key_pair, public_key_id, rotate_credentials


class Command(BaseCommand):
    help = "Seal every upstream credential under the current public key. Needs the private keys."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--new-key", action="store_true", help="first step: make a new key pair in HOOPWEB_HOME")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["new_key"]:
            self._make_key()
            return
        try:
            count = rotate_credentials()
        except CredentialProblem as problem:
            raise CommandError(f"{problem}; nothing was changed") from None
        _record("key.rotated", count)
        self.stdout.write(f"{count} credentials sealed again under key {public_key_id()}")

    def _make_key(self) -> None:
        secrets = settings.HOOPWEB_HOME / "secrets"
        if not (secrets / "credential_private_keys").exists():
            raise CommandError(
                "the keys do not come from HOOPWEB_HOME; set the variables to this new pair in your secret store "
                "with your own tools (see docs)"
            )
        public, private = generate_key_pair()
        # Private first: a public key whose private half got lost would seal credentials nobody can open.
        _write(secrets / "credential_private_keys", f"{private},{settings.HOOPWEB_CREDENTIAL_PRIVATE_KEYS}")
        _write(secrets / "credential_public_key", public)
        _record("key.created", 0)
        self.stdout.write("a new key pair is in place; restart the gateways, then run rotate_credentials")


def _write(path: Path, text: str) -> None:
    """Replace a secret file at once, readable by its owner only."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _record(kind: str, count: int) -> None:
    body: dict[str, Json] = {
        "subject": f"command:{getpass.getuser()}",
        "purpose": "upstream credentials",
        "count": count,
    }
    append_entries([Entry(kind=kind, body=body)])
