"""How compiled code lets other threads run, an event loop's above all: nothing of its own asks for that."""

from __future__ import annotations


def give_way() -> None:
    """Python begins to run here, and whoever waits for the interpreter gets it first."""
