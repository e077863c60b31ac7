"""`manage.py load_demo`: fill the clinic, create the demo's people, rules and tokens. Safe to repeat."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from hoopweb.demo.load import load_demo


class Command(BaseCommand):
    help = "Load the demo into the embedded stack (make run does this)."

    def handle(self, *_args: Any, **_options: Any) -> None:
        filled = load_demo()
        self.stdout.write("the clinic was filled with synthetic patients" if filled else "the clinic was filled before")
