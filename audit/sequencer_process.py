"""`python -m audit.sequencer_process`: started by `audit.sequencer`, speaks its protocol on stdin and stdout."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.domain.journal_follow import Follower
    from audit.sequencer import Taken

logger = logging.getLogger(__name__)

MAX_BATCH = 2_000  # entries a transaction at most: some two megabytes


def main() -> None:
    # Told to stop by the end of the pipe alone: the data plane still has its last entries to hand over.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints, prints to the log
    known = json.loads(sys.stdin.buffer.readline() or b"{}")
    if known:
        _set_up(known)
        from audit import cores  # noqa: PLC0415  after Django is set up
        from audit.sequencer import NICE  # noqa: PLC0415

        os.nice(NICE)
        cores.use(known["cores"])
        serve(Path(known["directory"]), sys.stdin.buffer, answers)


def _set_up(known: dict[str, Any]) -> None:
    import django  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415

    # The log and nothing else: no other secret of the installation is in this process.
    settings.configure(
        DATABASES={"default": known["database"]},
        HOOPWEB_EVIDENCE_KEYS=known["keys"],
        INSTALLED_APPS=["django.contrib.contenttypes", "audit"],
        USE_TZ=True,
    )
    django.setup()


def serve(directory: Path, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    from django.db import connection  # noqa: PLC0415

    from audit.domain.journal import lock_intake  # noqa: PLC0415

    collect_seldom()
    lock_intake(directory)  # held until this process ends
    intake = Intake(directory)
    for line in requests:
        request = json.loads(line)
        try:
            for taken in intake.take_in(
                request["to"], at_least=request["at_least"], transaction=request["transaction"]
            ):
                _say(answers, {"size": taken.size, "to": taken.place, "entries": taken.entries})
        except Exception as error:  # said to the data plane, which asks again and stops serving when it must
            logger.error("journal not taken in: error=%s", type(error).__name__)
            intake = Intake(directory)
            connection.close()
            _say(answers, {"error": type(error).__name__})


def collect_seldom() -> None:
    """A batch's objects end with it, by their counts: looking for cycles among them took a third of the time.

    What the libraries hold is not looked at again, and what is in a cycle all the same is found after some batches.
    """
    from audit.domain import journal_follow, journaled  # noqa: F401, PLC0415  all that taking in needs

    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


def _say(answers: IO[bytes], answer: dict[str, object]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


class Intake:
    """Takes one journal in, a transaction a batch."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._follower: Follower | None = None
        self._size = 0

    def take_in(self, place: int, *, at_least: int, transaction: int = MAX_BATCH) -> Iterator[Taken]:
        """Take the journal in up to `place`; yields what each transaction did, at last where the journal is there."""
        from audit.domain.append import append_leaves  # noqa: PLC0415
        from audit.domain.journaled import span_of, unpack  # noqa: PLC0415
        from audit.sequencer import Taken  # noqa: PLC0415

        reached = False
        if self._follower is None:
            self._follower = self._begin()
        records = self._follower.records(place)
        for batch in _batches(records, transaction):
            leaves = append_leaves(
                [unpack(record.payload) for record in batch],
                at_least=max(at_least, self._size),
                span=span_of(self._directory.name, batch),
            )
            self._size = max([self._size, *(leaf.seq for leaf in leaves[-1:])])
            reached = batch[-1].end >= place
            yield Taken(self._size, batch[-1].end, len(batch))
        if not reached:
            yield Taken(self._size, place, 0)

    def _begin(self) -> Follower:
        from django.db import connection  # noqa: PLC0415

        from audit.domain.journal_follow import Follower  # noqa: PLC0415
        from audit.domain.journaled import integrated, journal_key  # noqa: PLC0415
        from audit.domain.sending import keep_plans  # noqa: PLC0415
        from audit.log_commits import LIMITS  # noqa: PLC0415

        with connection.cursor() as cursor:
            cursor.execute(LIMITS)
        keep_plans()
        return Follower(self._directory, place=integrated(self._directory.name), key_for=journal_key)


def _batches(records: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(records, size)):
        yield batch


if __name__ == "__main__":
    main()
