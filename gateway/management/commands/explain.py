"""`manage.py explain CONNECTION STATEMENT [--agent NAME] [--json]`: what would happen, without running anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.api import dataplane
from gateway.domain.tokens import issue_agent_token
from gateway.models import Agent

Frame = dict[str, Any]


class Command(BaseCommand):
    help = "Show facts, decision and masks of a statement for an agent. A running gateway is asked; nothing is run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("connection")
        parser.add_argument("statement")
        parser.add_argument("--agent", help="whose rights; the only agent when there is just one")
        parser.add_argument("--json", action="store_true", help="the gateway's answer as it is")

    def handle(self, *args: Any, **options: Any) -> None:
        agent = chosen_agent(options["agent"])
        body = {"connection": options["connection"], "statement": options["statement"], "dry_run": True}
        try:
            frames = list(dataplane.iter_frames(token=issue_agent_token(agent, 60), body=body))
        except dataplane.DataPlaneRefused as refused:
            raise CommandError(f"{refused.code}: {refused.reason}") from None
        except dataplane.DataPlaneUnavailable:
            raise CommandError("no gateway answers, expected one to be running (make run, rungateway)") from None
        explained = next((frame for frame in frames if frame["type"] == "explained"), None)
        if explained is None:
            raise CommandError("the gateway explained nothing")
        if options["json"]:
            self.stdout.write(json.dumps(explained, indent=2, ensure_ascii=False))
        else:
            self.stdout.write("\n".join(readable(explained, agent=agent.name, connection=options["connection"])))


def chosen_agent(name: str | None) -> Agent:
    """The named agent, else the one registered first."""
    agents = Agent.objects.filter(name=name) if name else Agent.objects.filter(enabled=True).order_by("pk")
    found = list(agents[:1])
    if not found:
        raise CommandError(f"there is no agent {name!r}" if name else "there is no agent; register one first")
    return found[0]


def readable(explained: Frame, *, agent: str, connection: str) -> Iterator[str]:
    """The block a person reads."""
    decision, facts = explained["decision"], explained.get("facts")
    yield f"{agent} on {connection}: {decision['action'].replace('_', ' ').upper()}"
    yield from _labelled(decision, ("rule", "code", "reason", "permitted_alternative"))
    for reviewers in decision.get("reviewers", ()):
        yield f"  reviewers      {reviewers['quorum']} of {reviewers['group']}"
    if facts:
        yield "facts"
        yield from _labelled(facts, FACTS)
    if explained.get("masks"):
        yield "result columns"
        yield from (_mask_line(mask) for mask in explained["masks"])


FACTS = (
    "kind",
    "operations",
    "complete",
    "problems",
    "tables_read",
    "tables_written",
    "protected",
    "classes",
    "inference",
    "opaque_functions",
    "no_where",
    "export",
    "row_bound",
)


def _labelled(values: Frame, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value = values.get(name)
        if value in (None, "", [], ()):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        yield f"  {name.replace('_', ' '):<14} {text}"


def _mask_line(mask: Frame) -> str:
    origins = ", ".join(mask["origins"]) or ("no column" if mask["resolved"] else "unresolved")
    if mask["masked"]:
        return f"  {mask['column']:<20} masked by {mask['rule']} ({mask['technique']})  ← {origins}"
    scanned = ", text is searched by detectors" if mask["scans_text"] else ""
    return f"  {mask['column']:<20} clear{scanned}  ← {origins}"
