"""Making the database say what a document says: the difference first, then all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from django.db import transaction

from approvals.domain.role_conflicts import RoleConflict, judged_together
from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from gateway.domain.configuration.reading import DocumentProblem
from gateway.domain.configuration.schema import API_VERSION, Document
from gateway.domain.configuration.sections import SECTIONS, Item, Place, Section, comparable, ordered
from gateway.domain.configuration.unreached import unreached
from gateway.domain.recorded import plain
from gateway.domain.version import bump_version
from gateway.models import ConfigVersion, Connection


@dataclass(frozen=True, slots=True)
class Change:
    """One item that differs. `before` is None when it is created, `after` when it is removed; neither has secrets."""

    section: str
    title: str
    name: str
    before: Item | None
    after: Item | None
    secret: str | None = None  # the field whose secret is replaced

    def lines(self) -> list[str]:
        """The difference as a person reads it."""
        if self.after is None:
            return [f"- {self.title} {self.name}"]
        if self.before is None:
            return [
                f"+ {self.title} {self.name}",
                *(f"    {k}: {shown(v)}" for k, v in self.after.items() if k != "name"),
            ]
        fields = [key for key in self.after if self.before.get(key) != self.after[key]]
        lines = [f"    {key}: {shown(self.before.get(key))} → {shown(self.after[key])}" for key in fields]
        if self.secret:
            lines.append(f"    {self.secret}: replaced")
        return [f"~ {self.title} {self.name}", *lines]


class _Rehearsed(Exception):
    """Rolls a dry run back."""


def apply_document(
    document: Document,
    *,
    base: Path,
    actor: str,
    author: str = "",
    prune: bool = False,
    dry_run: bool = False,
    show: Callable[[Change], None] = lambda change: None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> list[Change]:
    """Write the document and return what changed. Raises DocumentProblem, and then nothing has changed.

    `author` is the person whose work it is, where `actor` is a command line: policies name them, and separation of
    duties binds them.

    `show` is called with every change before any of them is committed; what it raises stops them all. `warn` hears of
    every connection and group the document names and that will not be there.

    A dry run does everything, checks of the database included, and rolls it back. `prune` removes what the document's
    own sections no longer name; a section it does not have is left alone.
    """
    changes: list[Change] = []
    try:
        with transaction.atomic():
            # One writer at a time: two documents would otherwise be compared with the same past.
            ConfigVersion.objects.get_or_create(pk=1)
            ConfigVersion.objects.select_for_update().get(pk=1)
            with judged_together():
                for section in SECTIONS:
                    changes += _write_section(section, document, base, actor=actor, author=author)
                if prune:
                    for section in reversed(SECTIONS):
                        changes += _prune_section(section, document, author or actor)
            for change in changes:
                show(change)
            for sentence in unreached(document):
                warn(sentence)
            if dry_run:
                raise _Rehearsed
            if changes:
                version = bump_version()
                append_entries([config_changed(changes, actor=actor, author=author, version=version)])
    except _Rehearsed:
        pass
    except RoleConflict as conflict:
        raise DocumentProblem([("groups", conflict.messages[0])]) from None
    return changes


# What a reader looks for first; the other sections follow.
_FIRST = ("connections", "access", "masking", "policies", "agents", "groups", "issuers")


def export_document() -> str:
    """The database as a document, without secrets. Applying it changes nothing."""
    document: dict[str, Any] = {"apiVersion": API_VERSION}
    for key in (*_FIRST, *(section.key for section in SECTIONS if section.key not in _FIRST)):
        section = next(section for section in SECTIONS if section.key == key)
        asked_for = [item for item in section.load().values() if _can_be_asked_for(key, item)]
        items = [_without_defaults(section.key, item) for item in asked_for]
        if items:
            document[key] = items
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def config_changed(changes: list[Change], *, actor: str, version: int, author: str = "") -> Entry:
    """The `config.changed` entry. `version`: of the rules the change made. A secret's field is named, never shown."""
    body: dict[str, Json] = {
        "subject": actor,
        "version": version,
        "changes": [
            {
                "section": change.section,
                "name": change.name,
                "before": plain(change.before),
                "after": plain(change.after),
                "secret": change.secret,
            }
            for change in changes
        ],
        **({"author": author} if author else {}),
    }
    return Entry(kind="config.changed", body=body)


def shown(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False)


def _write_section(section: Section, document: Document, base: Path, *, actor: str, author: str) -> list[Change]:
    changes = []
    existing = section.load()
    for index, part in enumerate(getattr(document, section.key) or ()):
        place = Place(path=f"{section.key}[{index}]", base=base, actor=actor, author=author)
        before, after = existing.get(part.name), comparable(part)
        differs = before != ordered(after)
        if differs:
            section.save(after, place)
        secret = section.secret(part.name, part, place) if section.secret else None
        if differs or secret:
            changes.append(Change(section.key, section.title, part.name, before, ordered(after), secret))
    return changes


def _prune_section(section: Section, document: Document, actor: str) -> list[Change]:
    asked = getattr(document, section.key)
    if asked is None:
        return []
    kept = {part.name for part in asked}
    changes = []
    for name, before in section.load().items():
        if name not in kept:
            section.remove(name, actor)
            changes.append(Change(section.key, section.title, name, before, None))
    return changes


def _can_be_asked_for(key: str, item: Item) -> bool:
    """No document can ask for a connection nothing serves; one from an earlier version is not in it."""
    return key != "connections" or Connection.Kind(str(item["kind"])).is_served


def _without_defaults(key: str, item: Item) -> Item:
    """What a person would have written: fields that say what the schema says anyway are left out."""
    annotation = Document.model_validate({"apiVersion": API_VERSION, key: [_writable(item)]})
    part = getattr(annotation, key)[0]
    dumped: Item = part.model_dump(exclude_defaults=True)
    return {name: value for name, value in dumped.items() if name != "client_id" or value != item["name"]}


def _writable(item: Item) -> Item:
    return {name: value for name, value in item.items() if value is not None}
