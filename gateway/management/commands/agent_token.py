"""`manage.py agent_token NAME [--ttl 900]`: a signed token of a registered agent, alone on standard output."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from gateway.domain.tokens import DEFAULT_TTL_S, MAX_TTL_S, sign_agent_token
from gateway.models import Agent


class Command(BaseCommand):
    help = "Print a signed token of an agent, from the embedded token service."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--ttl", type=int, default=DEFAULT_TTL_S, help="seconds; %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        agent = Agent.objects.filter(name=options["name"], enabled=True, owner__is_active=True).first()
        if agent is None:
            raise CommandError(f"there is no enabled agent {options['name']!r}")
        if not 1 <= options["ttl"] <= MAX_TTL_S:
            raise CommandError(f"--ttl is {options['ttl']}, expected 1 to {MAX_TTL_S} seconds")
        issued = sign_agent_token(agent, options["ttl"])
        body = {
            "grant": "command",
            "subject": agent.name,
            "token_id": issued.token_id,
            "issued_by": f"command:{getpass.getuser()}",
        }
        append_entries([Entry(kind="token.issued", body=body)])
        self.stdout.write(issued.text)
