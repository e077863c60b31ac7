"""Where recordings lie; move them; remove what a killed process left in the store. Exit 2: no store, or it is away."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from audit.domain.box import SealProblem
from audit.domain.chunk_store import ObjectChunks, StoreProblem, StoreUnavailable, outside_store
from audit.domain.chunks import Chunk
from audit.models import RecordingChunk

PORTION = 200  # chunks of up to 256 KiB


class Command(BaseCommand):
    help = "Say where recordings lie; move them between the control database and HOOPWEB_RECORDING_STORE."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--to-store", action="store_true", help="move what lies in the database into the store")
        what.add_argument("--to-database", action="store_true", help="move what lies in the store into the database")
        what.add_argument(
            "--sweep",
            action="store_true",
            help="remove objects older than a day that no row of this database names: only where the store's prefix "
            "belongs to this installation alone",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            outside = outside_store()
            if outside is None and any(options[name] for name in ("to_store", "to_database", "sweep")):
                raise StoreProblem("HOOPWEB_RECORDING_STORE is not set")
            if outside is not None:
                self._act(outside, options)
        except (StoreProblem, StoreUnavailable, SealProblem) as problem:
            self.stderr.write(str(problem))
            sys.exit(2)
        inside = RecordingChunk.objects.filter(data__isnull=False).count()
        self.stdout.write(f"chunks in the database: {inside}, outside: {RecordingChunk.objects.count() - inside}")

    def _act(self, outside: ObjectChunks, options: dict[str, Any]) -> None:
        if options["to_store"] or options["to_database"]:
            self.stdout.write(f"moved: {_move(outside, to_store=options['to_store'])}")
        if options["sweep"]:
            swept = 0
            for addresses in outside.strays():
                outside.erase(addresses)
                swept += len(addresses)
            self.stdout.write(f"removed from the store, named by nothing: {swept}")


def _move(outside: ObjectChunks, *, to_store: bool) -> int:
    """A chunk is where it goes before it leaves where it was."""
    moved = 0
    while portion := list(RecordingChunk.objects.filter(data__isnull=not to_store)[:PORTION]):
        data = [outside.get(row) for row in portion]
        if to_store:
            named = zip(portion, data, strict=True)
            outside.put([Chunk(row.recording_id, row.index, row.address, sealed) for row, sealed in named])
        with transaction.atomic():
            for row, sealed in zip(portion, data, strict=True):
                RecordingChunk.objects.filter(pk=row.pk).update(data=None if to_store else sealed)
        if not to_store:
            outside.erase([row.address for row in portion])
        moved += len(portion)
    return moved
