"""`manage.py discover CONNECTION`: propose which columns hold protected data, for a person to confirm.

The control plane holds no upstream credential, so it asks as any agent asks: the catalogue and a few rows of each table
go through the gateway, under that agent's rights, masks and record. Columns a rule already covers are left out; values
that come masked say nothing; a table whose sample is denied or held is judged by its column names alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from analysis.statement import ColumnRef
from gateway.api import dataplane
from gateway.domain.tokens import issue_agent_token
from gateway.management.commands.explain import chosen_agent
from masking.domain.discovery import Proposal, propose
from masking.domain.free_text import NAME as FREE_TEXT
from masking.domain.load import load_masking_rules
from masking.domain.plan import SCAN
from masking.domain.rules import rules_for
from masking.domain.tags import save_proposals

_CATALOGUE = (
    "SELECT table_schema, table_name, column_name FROM information_schema.columns"
    " WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, ordinal_position"
)
_SCANNING = {SCAN, FREE_TEXT}  # what the detectors left of a value tells its class
_TOKEN_S = 300
_MOST_SAMPLES = 200

Table = tuple[str, str]
Samples = dict[str, list[str | None]]


class Command(BaseCommand):
    help = "Propose column tags from column names and a sample of values, read through a running gateway."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("connection")
        parser.add_argument("--agent", help="whose rights; the only agent when there is just one")
        parser.add_argument("--samples", type=int, default=50, help="rows of each table; 0 for column names alone")
        parser.add_argument("--apply", action="store_true", help="keep the proposals as tags, to be confirmed")

    def handle(self, *args: Any, **options: Any) -> None:
        connection = options["connection"]
        token = issue_agent_token(chosen_agent(options["agent"]), _TOKEN_S)
        listed = ask_rows(token=token, connection=connection, statement=_CATALOGUE)
        if listed is None:
            raise CommandError("the catalogue was not shown to this agent, expected it to have a right to read")
        tables = uncovered(listed[1], connection)
        samples: Samples = {}
        for table, columns in tables.items():
            sampled = None
            if options["samples"]:
                sample = sample_of(table, columns, options["samples"])
                sampled = ask_rows(token=token, connection=connection, statement=sample)
            if sampled is None and options["samples"]:
                self.stderr.write(f"{'.'.join(table)}: no sample, judged by its column names")
            samples |= by_column(table, columns, sampled)
        proposals = propose(samples)
        for proposal in proposals:
            self.stdout.write(line(proposal))
        if options["apply"]:
            new = save_proposals(connection=connection, proposals=proposals)
            self.stdout.write(f"{new} new tags proposed; confirm them in the console under Masking, Column tags")


def ask_rows(
    *, token: str, connection: str, statement: str
) -> tuple[Sequence[Mapping[str, Any]], Sequence[Sequence[Any]]] | None:
    """The columns and rows of a statement; None when it was denied, failed, or would have to wait for a person."""
    columns: list[Mapping[str, Any]] = []
    rows: list[Sequence[Any]] = []
    frames = dataplane.iter_frames(token=token, body={"connection": connection, "statement": statement})
    try:
        for frame in frames:
            if frame["type"] in {"denied", "failed", "pending"}:
                return None  # leaving a pending statement withdraws it
            columns += frame.get("columns", ())
            rows += frame.get("rows", ())
    except dataplane.DataPlaneRefused as refused:
        raise CommandError(f"{refused.code}: {refused.reason}") from None
    except dataplane.DataPlaneUnavailable:
        raise CommandError("no gateway answers, expected one to be running (make run, rungateway)") from None
    finally:
        frames.close()  # type: ignore[attr-defined]
    return columns, rows


def uncovered(listed: Sequence[Sequence[Any]], connection: str) -> dict[Table, list[str]]:
    """The columns of each table that no masking rule covers."""
    scope = rules_for(load_masking_rules(), connection)
    tables: dict[Table, list[str]] = {}
    for schema, table, column in listed:
        if scope.rule_for(ColumnRef(schema, table, column)) is None:
            tables.setdefault((schema, table), []).append(column)
    return tables


def sample_of(table: Table, columns: Sequence[str], rows: int) -> str:
    names = ", ".join(map(_quoted, columns))
    return f"SELECT {names} FROM {'.'.join(map(_quoted, table))} LIMIT {min(max(rows, 1), _MOST_SAMPLES)}"  # noqa: S608


def by_column(
    table: Table, columns: Sequence[str], sampled: tuple[Sequence[Mapping[str, Any]], Sequence[Sequence[Any]]] | None
) -> Samples:
    """Values of each `schema.table.column`, as text; none for columns that came masked."""
    described, rows = sampled or ((), ())
    masked = {
        index for index, column in enumerate(described) if column.get("masked") and column.get("rule") not in _SCANNING
    }
    return {
        ".".join((*table, column)): [None if index in masked or row[index] is None else str(row[index]) for row in rows]
        for index, column in enumerate(columns)
    }


def line(proposal: Proposal) -> str:
    return f"{proposal.column:<48} {proposal.data_class:<12} {proposal.confidence:4.2f}  {proposal.evidence}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
