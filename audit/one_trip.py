"""The short way into the log: one statement, sent and answered by the event loop itself.

The writer's connection is lent to it between two commits of the writer's thread, and used with libpq's asynchronous
calls: no thread is handed anything, and nothing waits for another thread's turn of the interpreter. What goes wrong is
raised; whoever lent the connection must then give it up, because an answer may still be under way on it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import psycopg
from psycopg.pq import ExecStatus, Format, TransactionStatus

from audit.domain.chain import Head, Leaf, Prepared
from audit.domain.head import HEAD
from audit.domain.one_statement import LOCK_FOR_LONG, STATEMENT, is_done, parameters, read_head

_GOOD = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)
# After others were seen to append twice within this time, the log is locked before a batch is made, for as long again.
# One entry now and then, such as a checkpoint's, outruns one batch and is no reason.
OTHERS_S = 1.0
# A watched socket may fall silent for good: libuv stops watching one that was reset, and tells so once, while there may
# be more to read than is read at once. So it is looked at again, however quiet it is.
LOOK_S = 0.2
# The server ends by itself what takes ten seconds (`audit.log_commits`): one that says nothing for longer is gone.
SILENCE_S = 15.0


class OneTrip:
    """Used by one task at a time, while nobody else uses the connection."""

    def __init__(self, connection: psycopg.Connection[object]) -> None:
        """Wait until the statements are prepared. Raises `psycopg.Error`."""
        self.connection = connection
        self._libpq = connection.pgconn
        self._others_seen = self._others_until = 0.0
        own = uuid.uuid4().hex
        texts = {"append": STATEMENT, "head": HEAD, "lock": LOCK_FOR_LONG, "begin": "BEGIN", "commit": "COMMIT"}
        names = {word: f"hoopweb_{word}_{own}".encode() for word in texts}
        for word, text in texts.items():
            _checked(self._libpq.prepare(names[word], text.encode()))
        self._append, self._head, self._lock, self._begin, self._commit = names.values()

    @property
    def is_usable(self) -> bool:
        """Whether a batch may be appended: no transaction is open, or the one that has locked the log."""
        return not self.connection.closed and (
            self._libpq.transaction_status == TransactionStatus.IDLE or self.has_lock
        )

    @property
    def has_lock(self) -> bool:
        return self._libpq.transaction_status == TransactionStatus.INTRANS

    @property
    def has_rivals(self) -> bool:
        """Whether others append as well, so that the log should be locked first."""
        return asyncio.get_running_loop().time() < self._others_until

    async def lock(self, known: Head | None) -> Head | None:
        """Wait for whoever is appending, and return the head, which nobody moves until `append` or `let_go`."""
        head = _head((await self._ask([(self._begin, []), (self._lock, []), (self._head, [])]))[-1])
        if head != known:
            self._see_others()
        return head

    async def let_go(self) -> None:
        """Have others append."""
        await self._ask([(self._commit, [])])

    async def append(
        self, before: Head, after: Head, leaves: Sequence[Leaf], prepared: Sequence[Prepared]
    ) -> Head | None:
        """Commit these entries behind `before`, and return the head the log has now.

        Another one than `after`: nothing was written, because others had appended. None: nor is there a log.
        """
        asked: list[tuple[bytes, Sequence[bytes]]] = [(self._append, parameters(before, after, leaves, prepared))]
        if self.has_lock:
            asked.append((self._commit, []))
        if is_done((await self._ask(asked))[0]):
            return after
        self._see_others()
        return await self.head()

    async def head(self) -> Head | None:
        """The log's head as it is now; None where there is no log yet."""
        return _head((await self._ask([(self._head, [])]))[0])

    def _see_others(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._others_seen + OTHERS_S:
            self._others_until = now + OTHERS_S
        self._others_seen = now

    async def _ask(self, asked: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[list[bytes | None]]:
        """Run prepared statements as one transaction; the first row of each answer. Raises `psycopg.Error`."""
        self._libpq.enter_pipeline_mode()
        for name, values in asked:
            self._libpq.send_query_prepared(name, values, [Format.BINARY] * len(values), Format.BINARY)
        self._libpq.pipeline_sync()
        answered = _Answered(self._libpq)
        try:
            results = await answered.future
        finally:
            answered.stop()
        self._libpq.exit_pipeline_mode()
        return [
            [result.get_value(0, at) for at in range(result.nfields)] if result.ntuples else [] for result in results
        ]


def _head(values: Sequence[bytes | None]) -> Head | None:
    return read_head(values) if values else None


class _Answered:
    """Waits for the answer to what was just sent, and until the server is ready for the next thing."""

    def __init__(self, libpq: psycopg.pq.abc.PGconn) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[psycopg.pq.abc.PGresult]] = self._loop.create_future()
        self._libpq, self._socket = libpq, libpq.socket
        self._results: list[psycopg.pq.abc.PGresult] = []
        self._sending = libpq.flush() == 1
        self._loop.add_reader(self._socket, self._look)
        if self._sending:
            self._loop.add_writer(self._socket, self._look)
        self._until = self._loop.time() + SILENCE_S
        self._timer = self._loop.call_later(LOOK_S, self._look_again)

    def stop(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        if self._sending:
            self._loop.remove_writer(self._socket)

    def _look(self) -> None:
        if self.future.done():
            return
        try:
            self._read()
        except Exception as error:
            self.future.set_exception(error)

    def _look_again(self) -> None:
        self._look()
        if not self.future.done() and self._loop.time() > self._until:
            self.future.set_exception(psycopg.OperationalError("the database does not answer"))
        self._timer = self._loop.call_later(LOOK_S, self._look_again)

    def _read(self) -> None:
        self._libpq.consume_input()
        if self._sending and self._libpq.flush() == 0:
            self._loop.remove_writer(self._socket)
            self._sending = False
        while not self._libpq.is_busy():
            result = self._libpq.get_result()
            if result is None:  # behind each answer
                continue
            if result.status == ExecStatus.PIPELINE_SYNC:  # only now it is committed
                self.future.set_result(self._results)
                return
            _checked(result)
            self._results.append(result)


def _checked(result: psycopg.pq.abc.PGresult) -> None:
    """Raise what the database said, by its kind alone: its words may quote an entry's."""
    if result.status in _GOOD:
        return
    state = (result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"").decode()
    try:
        kind: type[psycopg.Error] = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.OperationalError
    raise kind(f"the log was not written: {state}")
