"""The stored hashes that are known to be of the demo's secrets: computing one anew takes a quarter of a second."""

from __future__ import annotations

import json
from pathlib import Path

from hoopweb.embedded.secrets import ensure_secret, write_secret

_NAME = "demo_hashes"


class KeptHashes:
    """{whose: hash}, beside the secrets themselves. A hash that was replaced in the database is not one of these."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._hashes: dict[str, str] = json.loads(ensure_secret(home, _NAME, lambda: "{}"))

    def holds(self, whose: str, stored: str) -> bool:
        return self._hashes.get(whose) == stored

    def keep(self, whose: str, stored: str) -> None:
        if not self.holds(whose, stored):
            self._hashes[whose] = stored
            write_secret(self._home, _NAME, json.dumps(self._hashes))
