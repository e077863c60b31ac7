"""`python -m audit.domain.verify` under manage.py's roof. Uses no setting and no database."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from audit.domain.verify import main


class Command(BaseCommand):
    help = "Verify an evidence bundle. Exit 0 intact, 1 tampered or restored, 2 intact but unanchored, 3 unusable."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("bundle")
        parser.add_argument("--key", required=True, action="append", help="the log's verifier key; may be repeated")
        parser.add_argument("--anchor", help="a file of checkpoints you hold yourself")
        parser.add_argument("--tsa", help="root certificates (PEM) of the time-stamping authority you trust")
        parser.add_argument("--witness", action="append", default=[], help="verifier key of a witness you trust")
        parser.add_argument(
            "--accept-restoration", action="append", default=[], help="a restoration you know of, as it names it"
        )
        parser.add_argument(
            "--accept-certificate", action="append", default=[], help="an unsigned certificate of a purge you know of"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        arguments = [options["bundle"], *(f"--key={key}" for key in options["key"])]
        if options["anchor"]:
            arguments.append(f"--anchor={options['anchor']}")
        if options["tsa"]:
            arguments.append(f"--tsa={options['tsa']}")
        arguments += [f"--accept-restoration={named}" for named in options["accept_restoration"]]
        arguments += [f"--accept-certificate={named}" for named in options["accept_certificate"]]
        arguments += [f"--witness={key}" for key in options["witness"]]
        sys.exit(main(arguments))
