"""`manage.py functions CONNECTION`: the functions of a PostgreSQL database as a person classifies them.

Each line `schema.name(types) = digest:` is a word for the connection's setting `functions`, to be completed by the
columns the function reads; behind it stands the code to be judged. Like `discover` it asks as any agent asks.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.domain.tokens import issue_agent_token
from gateway.management.commands.discover import ask_rows
from gateway.management.commands.explain import chosen_agent
from gateway.upstreams.postgres_definitions import CODE_QUERY

_TOKEN_S = 300
_BY_PATH = "-- its names mean what a session's search_path makes of them: the word holds under the usual path alone"


class Command(BaseCommand):
    help = "List the functions of a database's users with the digests by which a person classifies them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("connection", nargs="?")
        parser.add_argument("--agent", help="whose rights; the only agent when there is just one")
        parser.add_argument("--sql", action="store_true", help="print the question itself, to ask it with psql")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["sql"]:
            self.stdout.write(CODE_QUERY)
            return
        if not options["connection"]:
            raise CommandError("expected a connection, or --sql")
        token = issue_agent_token(chosen_agent(options["agent"]), _TOKEN_S)
        found = ask_rows(token=token, connection=options["connection"], statement=CODE_QUERY)
        if found is None:
            raise CommandError("this agent may not read the functions' code: ask with psql (--sql) instead")
        if not found[1]:
            self.stderr.write("users have made no functions there: there is nothing to classify")
        for _, label, language, digest, fixed, source in found[1]:
            self.stdout.write(f"{label} = {digest}:")
            if not fixed:
                self.stdout.write(f"    {_BY_PATH}")
            self.stdout.write("".join(f"    {line}\n" for line in (f"-- {language}", *str(source or "").splitlines())))
