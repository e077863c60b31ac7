"""psql's tab completion: what it asks on every Tab is answered as directly (Debian's psql has readline)."""

from __future__ import annotations

import os
import pty
import select
import time
from pathlib import Path

import pytest

from tests.stack import Stack

PSQL = Path("/usr/lib/postgresql/15/bin/psql")
KILL_LINE = b"\x15"
COMPLETIONS = {
    "SELECT ssn FROM patie": "nts",
    "UPDATE clai": "ms ",
    "SELECT * FROM patients WHERE first": "_name ",
    "INSERT INTO lab": "_results ",
    "SET client_min": "_messages ",
    "SET search_path TO pub": "lic ",
    "\\df pg_cata": "log.",
    "\\d enc": "ounters",
    "DROP TABLE cli": "nical_notes ",
    "ALTER TABLE patients DROP COLUMN las": "t_name ",
    "VACUUM clai": "ms ",
    "\\dn pub": "lic ",
    "TABLE enc": "ounters",
}


class Terminal:
    """psql at a pseudo-terminal, typed at like by a person."""

    def __init__(self, dsn: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="dumb", INPUTRC="/dev/null", PSQL_HISTORY="/dev/null", PAGER="cat")
            os.execv(PSQL, [str(PSQL), "-X", "-q", "-d", dsn])
        self.wait_for("=>")

    def wait_for(self, text: str, *, within_s: float = 90) -> str:
        """Everything shown until `text` is."""
        shown, deadline = b"", time.monotonic() + within_s
        while text.encode() not in shown.replace(b"\x07", b""):
            assert time.monotonic() < deadline, f"waited for {text!r}, saw {shown[-200:]!r}"
            if select.select([self.fd], [], [], 0.2)[0]:
                shown += os.read(self.fd, 1 << 16)
        return shown.decode("utf-8", "replace")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def close(self) -> None:
        os.write(self.fd, KILL_LINE + b"\\q\n")
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.mark.skipif(not PSQL.exists(), reason="needs Debian's psql: apt-get install postgresql-client-15")
def test_psql_completes_names_on_tab(stack: Stack) -> None:
    terminal = Terminal(stack.gateway_dsn())
    for typed, completed in COMPLETIONS.items():
        terminal.type(typed + "\t")
        shown = terminal.wait_for(typed + completed)
        assert "ERROR" not in shown
        os.write(terminal.fd, KILL_LINE)
    terminal.close()
