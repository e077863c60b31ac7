"""How a command ends when it does not end well: a sentence for people, an exit status for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Statuses of the process; 2 is argparse's, for a command line that makes no sense."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    DENIED = 3
    PENDING = 4
    NOT_SIGNED_IN = 5
    INTERRUPTED = 130


class CommandFailed(Exception):
    """Ends the command with `status`; the text and `notes` (name → value) are printed on stderr."""

    def __init__(self, text: str, *, status: Exit = Exit.FAILED, notes: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.notes = {name: value for name, value in (notes or {}).items() if value}


def failure_of(problem: Mapping[str, Any], *, status: Exit) -> CommandFailed:
    """The failure a problem document (RFC 9457) describes, with what a denied caller can do next."""
    text = str(problem.get("reason") or problem.get("detail") or problem.get("code") or "no reason was given")
    notes = {
        "rule": str(problem.get("rule") or ""),
        "permitted": str(problem.get("permitted_alternative") or ""),
        "errors": str(problem.get("errors") or ""),
        "session": str(problem.get("session_id") or ""),
        "statement": str(problem.get("statement_id") or ""),
    }
    return CommandFailed(text, status=status, notes=notes)
