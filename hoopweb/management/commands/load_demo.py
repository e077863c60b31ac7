"""`manage.py load_demo`: fill the clinic, create the demo's people, rules and tokens. Safe to repeat."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from hoopweb.checks import AT_EVERY_START
from hoopweb.demo.load import load_demo


class Command(BaseCommand):
    help = "Load the demo into the embedded stack (make run does this)."
    requires_system_checks = [AT_EVERY_START]  # the others load every page, which the start of the web does anyway

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--migrate", action="store_true", help="bring the control database up to date first")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["migrate"]:
            call_command("migrate", interactive=False, verbosity=0)
        filled = load_demo()
        self.stdout.write("the clinic was filled with synthetic patients" if filled else "the clinic was filled before")
