"""The command line. No option takes a secret: arguments are everybody's to read."""

from __future__ import annotations

import os
from argparse import REMAINDER, ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hoopweb.cli.credentials import DEFAULT_SERVER
from hoopweb.cli.drivers import DEFAULT_PORT
from hoopweb.cli.output import FORMATS

_STATUSES = """exit status: 0 done, 1 failed, 2 usage, 3 denied, 4 still waiting for approval, 5 not signed in"""
_SQL = "the statement, or - to read it from stdin"


class _Parser(ArgumentParser):
    """Takes options by their whole name alone: `--secret X` is no short `--secret-file X`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)


if TYPE_CHECKING:
    from argparse import _SubParsersAction

    _Commands = _SubParsersAction[_Parser]


def build_parser(environment: Mapping[str, str] = os.environ) -> ArgumentParser:
    parser = _Parser(prog="hoopweb", description="Client of a hoopweb gateway.", epilog=_STATUSES)
    parser.add_argument(
        "--profile",
        default=environment.get("HOOPWEB_PROFILE") or "default",
        help="which stored login (default: HOOPWEB_PROFILE, or 'default')",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_signing_in(commands, environment)
    _add_statements(commands)
    _add_connect(commands, environment)
    _add_reviews(commands)
    _add_sessions(commands)
    return parser


def _add_signing_in(commands: _Commands, environment: Mapping[str, str]) -> None:
    login = commands.add_parser("login", help="get and keep a token")
    login.add_argument(
        "--server", default=environment.get("HOOPWEB_SERVER") or DEFAULT_SERVER, help="the product's URL"
    )
    login.add_argument(
        "--client-id", default="", help="an agent's; its secret comes from a file or HOOPWEB_CLIENT_SECRET"
    )
    source = login.add_mutually_exclusive_group()
    source.add_argument("--secret-file", metavar="FILE", help="file with the client's secret, - for stdin")
    source.add_argument("--token-file", metavar="FILE", help="file with a token of yours (people), - for stdin")
    commands.add_parser("logout", help="forget the stored token")


def _add_statements(commands: _Commands) -> None:
    listing = commands.add_parser("connections", help="what you may use")
    _add_format(listing)
    query = commands.add_parser("query", help="run one statement")
    query.add_argument("connection")
    query.add_argument("statement", metavar="SQL", help=_SQL)
    query.add_argument("--parameter", "-p", action="append", default=[], help="value of $1, $2 … (repeat)")
    result = commands.add_parser("result", help="the answer of a statement that was held")
    result.add_argument("statement_id", metavar="ID")
    for command in (query, result):
        command.add_argument(
            "--wait", type=_seconds, metavar="S", help="wait so long for approval (default: its review's life)"
        )
        _add_format(command)
    explain = commands.add_parser("explain", help="what a statement would do and show, without running it")
    explain.add_argument("connection")
    explain.add_argument("statement", metavar="SQL", help=_SQL)
    _add_format(explain, choices=("table", "json"))


def _add_connect(commands: _Commands, environment: Mapping[str, str]) -> None:
    connect = commands.add_parser("connect", help="psql with a one-time ticket, or a local port")
    connect.add_argument("connection")
    connect.add_argument("--program", default="psql", help="another program of libpq (default: psql)")
    connect.add_argument("--host", default="", help="the gateway's (default: the server's)")
    connect.add_argument("--port", default=environment.get("HOOPWEB_POSTGRES_PORT") or DEFAULT_PORT)
    connect.add_argument(
        "--listen",
        metavar="PORT",
        type=_port,
        help="open this port on loopback instead (0: a free one); each connection gets a ticket of its own",
    )
    connect.add_argument("arguments", nargs=REMAINDER, metavar="...", help="what follows is the program's")


def _add_reviews(commands: _Commands) -> None:
    reviews = commands.add_parser("reviews", help="requests that wait for people").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    listing = reviews.add_parser("list")
    listing.add_argument("--status", default="pending", help="pending (default), approved, denied …; empty for all")
    listing.add_argument("--connection", default="")
    _add_limit(listing)
    _add_format(listing)
    show = reviews.add_parser("show", help="one request with its statement (reading it is recorded)")
    show.add_argument("review_id", metavar="ID")
    _add_format(show, choices=("table", "json"))
    for decision in ("approve", "deny"):
        command = reviews.add_parser(decision)
        command.add_argument("review_id", metavar="ID")
        command.add_argument("--reason", required=True, help="recorded, and shown to whoever asked")
        command.add_argument(
            "--round", type=int, dest="seen_round", help="the round you looked at, once it was modified"
        )


def _add_sessions(commands: _Commands) -> None:
    sessions = commands.add_parser("sessions", help="sessions you may see").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    listing = sessions.add_parser("list")
    listing.add_argument("--live", action="store_true", help="only open ones")
    listing.add_argument("--connection", default="")
    listing.add_argument("--subject", default="")
    _add_limit(listing)
    _add_format(listing)
    kill = sessions.add_parser("kill", help="end a live session")
    kill.add_argument("session_id", metavar="ID")


def _add_format(parser: ArgumentParser, choices: tuple[str, ...] = FORMATS) -> None:
    parser.add_argument("--format", choices=choices, default="table", dest="layout")


def _add_limit(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=50, help="the newest so many (at most 200)")


def _port(text: str) -> str:
    if not text.isdigit() or int(text) > 65_535:
        raise ArgumentTypeError("expected a port, 0 to 65535")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ArgumentTypeError("expected a number of seconds") from None
    if not 0 <= seconds < float("inf"):
        raise ArgumentTypeError("expected seconds, zero or more")
    return seconds
