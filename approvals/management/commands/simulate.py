"""`manage.py simulate -f FILE [--without NAME] [--days N] [--connection NAME]`: a draft over recorded traffic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from approvals.domain.drafts import read_drafts, try_drafts
from approvals.domain.refusal import Refusal
from approvals.domain.simulate import Change, Outcome, Simulation


class Command(BaseCommand):
    help = "Show which recorded decisions would have been others under draft policies. Nothing is changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("-f", "--file", help="a policy in YAML, a list of them, or a document with `policies:`")
        parser.add_argument("--without", action="append", default=[], help="a policy in force that is left out")
        parser.add_argument("--days", type=int, default=7)
        parser.add_argument("--connection", default="")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            text = Path(options["file"]).read_text(encoding="utf-8") if options["file"] else ""
            result = try_drafts(
                drafts=read_drafts(text) if text else (),
                without=options["without"],
                days=options["days"],
                on_connection=options["connection"],
                by="command:simulate",
            )
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"the file cannot be read: {type(error).__name__}") from None
        except Refusal as refused:
            raise CommandError(refused.reason) from None
        if options["json"]:
            self.stdout.write(json.dumps(asdict(result), default=str))
        else:
            self.stdout.write("\n".join(lines(result)))


def lines(result: Simulation) -> Iterator[str]:
    """What a person reads."""
    yield f"{result.changed} of {result.statements} statements would be decided otherwise ({result.seconds:.2f} s)"
    for before, after, count in result.matrix:
        if count and before != after:
            yield f"  {count:>8}  {before} → {after}"
    yield from (_line(change) for change in result.changes)
    if result.more:
        yield f"  {result.more} smaller groups are not shown"
    if result.unknown:
        yield f"  {result.unknown} statements could not be decided again"


def _line(change: Change) -> str:
    what = f"{change.kind} {', '.join(change.tables)}".strip()
    moved = f"{_said(change.before)} → {_said(change.after)}"
    return f"  {change.statements:>8}  {change.subject} on {change.connection}: {what}: {moved}"


def _said(outcome: Outcome) -> str:
    asked = f" [{', '.join(outcome.reviewers)}]" if outcome.reviewers else ""
    return f"{outcome.action} ({outcome.rule}){asked}"
