"""The one way the embedded stack gives up: a sentence for the person at the terminal, and a non-zero exit."""

from __future__ import annotations


class StackProblem(Exception):
    """Something the operator can act on. The message is one clear sentence, without a traceback behind it."""
