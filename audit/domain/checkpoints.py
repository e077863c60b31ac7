"""Signing the log's head: every minute or thousand entries, also when nothing happens, and never over damage."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from django.db import close_old_connections, connection, transaction
from django.db.backends.utils import CursorWrapper

from audit.domain.anchor import publish
from audit.domain.check import check_recent
from audit.domain.damage import note_findings, refresh
from audit.domain.findings import Finding
from audit.domain.head import read_head
from audit.domain.integrity import check_tail
from audit.domain.keys import SigningKeyProblem, log_keys, log_signer
from audit.domain.liveness import SignOfLife
from audit.domain.note import Checkpoint as SignedCheckpoint
from audit.domain.session_counts import count_sessions
from audit.models import Checkpoint

logger = logging.getLogger(__name__)

EVERY_S = 60
EVERY_ENTRIES = 1_000
TAIL = "tail"
_LOOK_S = 1.0
# One signer at a time: two checkpoints of one moment would only be noise, a check beside another only load.
_SIGNING_LOCK = 0x686F6F70_7369676E


class Unchanged:
    """For how long this process has seen the same newest checkpoint, by a clock that nobody sets."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._since = 0.0

    def for_s(self, newest: int) -> float:
        if newest != self._newest:
            self._newest, self._since = newest, time.monotonic()
        return time.monotonic() - self._since


_UNCHANGED = Unchanged()


class LogDamaged(RuntimeError):
    """The stored log is not the one that was written. Nothing was signed and nothing repaired."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


def sign_checkpoint() -> Checkpoint:
    """Check the log since its newest checkpoint, then sign its head and publish the note to the anchors.

    Raises LogDamaged (nothing signed), SigningKeyProblem, or OSError when the anchor cannot be written (the
    checkpoint is then stored, and the next one is published again).
    """
    with transaction.atomic(), connection.cursor() as cursor:
        lock_signing(cursor)
        signer = log_signer()  # behind the lock: another key may just have taken over
        findings, head = check_tail(log_keys())
        if findings:
            raise LogDamaged(findings)
        now = time.time()
        signed = SignedCheckpoint(signer.name, head.size, head.frontier.root, (f"time {int(now)}",))
        checkpoint = Checkpoint.objects.create(
            size=head.size,
            root=signed.root,
            frontier=head.frontier.to_bytes(),
            head=head.leaf,
            note=signer.sign(signed.text()),
            signed_at=datetime.fromtimestamp(now, UTC),
        )
    # After the commit: an anchored note is always a stored one, so a stored one that is missing was removed.
    publish(checkpoint.note, origin=signer.name)
    return checkpoint


def lock_signing(cursor: CursorWrapper) -> None:
    """Keep every other signer of this log out until the transaction ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SIGNING_LOCK])


def sign_when_due() -> Checkpoint | None:
    """Sign when a minute or a thousand entries have passed since anybody signed."""
    newest = Checkpoint.objects.order_by("-id").only("size", "signed_at").first()
    if newest is not None:
        # One of the future, where the clock was set back, would be young for as long as it was ahead.
        age_s = max((datetime.now(UTC) - newest.signed_at).total_seconds(), _UNCHANGED.for_s(newest.pk))
        if age_s < EVERY_S and read_head().size - newest.size < EVERY_ENTRIES:
            return None
    return sign_checkpoint()


async def checkpoint_loop(*, gateway_id: str = "", beat: Callable[[], None] = lambda: None) -> None:
    """Check the log's tail, then sign until cancelled. What hinders signing is told in the log file every minute.

    Shows as well that this gateway lives, over a connection that is used every second. `beat` is called every round.
    """
    alive = SignOfLife(gateway_id)
    complained_at = float("-inf")
    # A starting process signs at once: signing is the self-check of what was written since the last checkpoint.
    turn: Callable[[], None] = _first_turn
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints") as thread:
        try:
            while True:
                beat()
                try:
                    await asyncio.get_running_loop().run_in_executor(thread, _with_connection, alive, turn)
                    turn = _turn
                except Exception as error:
                    if time.monotonic() - complained_at >= EVERY_S:
                        complained_at = time.monotonic()
                        # Findings hold places and kinds, never text.
                        detail = str(error) if isinstance(error, LogDamaged) else type(error).__name__
                        logger.error("checkpoint not signed: %s", detail)
                await asyncio.sleep(_LOOK_S)
        finally:
            thread.submit(_disconnect)


def _first_turn() -> None:
    check_recent(checked_by="gateway start")
    _sign(sign_checkpoint)


def _turn() -> None:
    try:
        _sign(sign_when_due)
    finally:
        count_sessions()


def _sign(sign: Callable[[], Checkpoint | None]) -> None:
    """Sign, or remember what hinders it; then learn whether this process may serve."""
    try:
        if sign() is not None:
            note_findings([], check=TAIL, found_by="gateway")
    except LogDamaged as damage:
        note_findings(damage.findings, check=TAIL, found_by="gateway")
        raise
    finally:
        refresh()


def _with_connection(alive: SignOfLife, function: Callable[[], None]) -> None:
    """Run in the signer's thread, over its own connection if that is still alive."""
    close_old_connections()
    try:
        alive.show()
        function()
    except (LogDamaged, SigningKeyProblem, OSError):
        raise  # nothing the connection has to do with, and it shows that this process lives
    except Exception:
        connection.close()
        raise


def _disconnect() -> None:
    connection.close()  # this thread's own
