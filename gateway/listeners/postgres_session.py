"""One native PostgreSQL session: a client, a private upstream session, and the pipeline between them.

Requests and answers are two independent flows. One task reads the client's messages in order and lets the pipeline
decide each; what may go upstream is sent with an expectation of its answer. Answers flow back synchronously through the
relay, which needs nobody's leave: everything about them was settled when the request was sent.

    client frame → simple | extended → pipeline → ask(expectation, message) → upstream
    client ← relay (masks, hides, scrubs) ← upstream
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
import traceback
from collections.abc import Callable
from functools import partial

from gateway.listeners.postgres_asking import Asking
from gateway.listeners.postgres_block import TransactionBlock
from gateway.listeners.postgres_cancel import Cancellation
from gateway.listeners.postgres_client import ClientConnection, ClientGone
from gateway.listeners.postgres_farewell import farewell
from gateway.listeners.postgres_meaning import SessionMeaning
from gateway.listeners.postgres_memory import Memory
from gateway.listeners.postgres_names import MAX_NAMED_BYTES
from gateway.listeners.postgres_pipelines import Pipelines
from gateway.listeners.postgres_place import SessionPlace
from gateway.listeners.postgres_plans import KeptPlans
from gateway.listeners.postgres_questions import OwnQuestions
from gateway.listeners.postgres_text import first_word
from gateway.listeners.postgres_timers import SessionLimits, SessionTimers
from gateway.listeners.postgres_two_phase import TwoPhase
from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.frames import ProtocolViolation
from gateway.session.context import SessionContext
from gateway.session.known import KnownStatement
from gateway.session.notifications import payload_shown
from gateway.session.permit import ExecutionPermit
from gateway.session.services import Services
from gateway.upstreams.postgres import UpstreamConnection
from gateway.upstreams.postgres_execution import BoundShape, Execution
from gateway.upstreams.postgres_expectations import Ready
from gateway.upstreams.postgres_relay import Relay
from gateway.upstreams.postgres_turns import Turns
from gateway.upstreams.recording import RecordingSink
from gateway.upstreams.valve import Valve

logger = logging.getLogger(__name__)

# Executions whose recording is still being sealed may hold up the end of a session no longer than this.
SEALING_TIMEOUT_S = 30.0
ROOM_LOOK_S = 1.0
# Messages of a pipeline that are read before any is sent on: one write for many, and one that never pauses is heard.
MOST_UNSENT = 64
# Answers that may be expected. Messages a server that is busy does not read yet are a few bytes each on their way to
# it, and hundreds here: past this no more are read until half of them are answered.
MOST_EXPECTED = 10_000
# The same with steps of a pipeline among them. One that unfolds costs a tenth of a millisecond, and all do at once.
MOST_STEPS = 1_000


# Messages that leave what a pipeline's executions stand for as it is.
_OF_PIPELINES = frozenset({client.SYNC, client.FLUSH})
_OF_CURSORS = frozenset({"FETCH", "MOVE", "DECLARE", "DECLARE_CURSOR", "PREPARE"})


class ClientSession(Asking):
    """State and plumbing of a session; the protocols' own steps are in `postgres_simple` and `postgres_extended`."""

    # A dictionary of so many names would be two kilobytes of every session.
    __slots__ = (
        "_answered", "_draining", "_killed", "_place", "_sealing", "_timers", "_turns", "_upstream_valve", "block",
        "context", "meaning", "memory", "pipelines", "plans", "portals", "questions", "recordings", "requests",
        "services", "statements", "two_phase", "withdrawn",
    )  # fmt: skip

    def __init__(
        self,
        *,
        services: Services,
        context: SessionContext,
        connection: ClientConnection,
        upstream: UpstreamConnection,
        recordings: RecordingSink | None,
        limits: SessionLimits,
    ) -> None:
        self.services = services
        self.context = context
        self.client = connection
        self.upstream = upstream
        self.recordings = recordings
        self.reason = ""
        self._killed = False
        self.holding = None
        self.withdrawn = False
        self.deferred = None
        self.uncertain = False
        self._answered: asyncio.Future[None] | None = None  # resolved when it does no longer
        self.relay = Relay(write=self._write_client, phi=context.connection.phi, woken=self._progress)
        self.relay.reported(upstream.parameters)
        self.relay.payload_for = partial(payload_shown, services.snapshots, context)
        self.meaning = SessionMeaning(self)
        self.relay.parameter_changed = self.meaning.parameter_changed
        self.relay.became_ready = self._became_ready
        self.block = TransactionBlock(self)
        context.place = self._place = SessionPlace(self)
        self.memory = Memory(context)
        self.statements, self.portals = self.memory.statements, self.memory.portals
        self.plans = KeptPlans(self)
        self.two_phase = TwoPhase(self)
        self.requests = 0  # of the client that have ended: a failure in one skips nothing of the next
        self._own_name = f"hoopweb_{secrets.token_hex(8)}"
        self.questions = OwnQuestions(self, self._own_name)
        self._outgoing = []
        self.resting = False
        self._retiring = False
        self.at_boundary = True
        self._upstream_valve = Valve(upstream.pause_reading, upstream.resume_reading)
        self.can_send = True
        self._takes_more = None
        self.cancelling = None
        self._cancellation = Cancellation(self)
        self._draining: asyncio.Task[None] | None = None
        self._sealing: set[asyncio.Task[None]] = set()
        self.pipelines = Pipelines(self)
        self._served = 0
        self._last_activity = time.monotonic()
        self._timers = SessionTimers(self, limits)
        connection.writable = self._client_writable
        connection.on_lost = self._client_lost
        connection.on_violation = self._withdraw  # nobody waits for a review in a session that is bound to end
        upstream.writable = self.upstream_can_take
        self._turns = Turns(
            self.relay,
            handle=self._from_upstream,
            pause=partial(self._upstream_valve.hold, "turns"),
            resume=partial(self._upstream_valve.release, "turns"),
        )
        upstream.lost = self._upstream_lost
        upstream.receive = self._turns.take

    # --- Life ---------------------------------------------------------------------------------------------------------

    async def run(self, handle: Callable[[ClientSession, int, bytes], object]) -> None:
        """Serve until the session ends. `handle` is the coroutine function that serves one frame."""
        self._timers.start()
        try:
            await self._serve(handle)
        except ClientGone:
            self.reason = self.reason or "client"
        except ProtocolViolation as violation:
            logger.info("client broke the protocol: session=%s problem=%s", self.context.session_id, violation)
            self.reason = self.reason or "protocol-violation"
        except Exception as error:  # fail closed: whatever it was, nothing more runs in this session
            logger.error("session broke: session=%s error=%s", self.context.session_id, described(error))
            self.reason = self.reason or "internal-error"
        finally:
            await self._finish()

    async def _serve(self, handle: Callable[[ClientSession, int, bytes], object]) -> None:
        while not self.reason:
            self.resting = True
            if not self.client.has_frames:
                self._cancellation.want_no_more()
            frame = await self.next_frame(lambda: bool(self.reason or self.relay.broken or self._is_over))
            self.resting = False
            if frame is None:
                self.reason = self.reason or self.relay.broken or "drained"
                return
            self._last_activity = time.monotonic()
            kind, body = frame
            if kind == client.TERMINATE:
                self.reason = "client"
                return
            if self.cancelling is not None:
                await self.cancelling
            if self.relay.stepping and self.relay.expected >= MOST_STEPS:
                await self.answered_to(MOST_STEPS // 2)
            served = self.pipelines.goes_on(kind, body)
            self._served += served
            if not served:
                if kind not in _OF_PIPELINES:
                    self.relay.unfold()  # whatever comes next counts on ordinary expectations
                await handle(self, kind, body)  # type: ignore[misc]
            if not self.client.has_frames or len(self._outgoing) >= MOST_UNSENT:
                self.flush()
            await self.sendable()
            if self.relay.expected > MOST_EXPECTED:
                await self.answered_to(MOST_EXPECTED // 2)
            if self.statements.proposed_bytes + self.portals.proposed_bytes > MAX_NAMED_BYTES:
                await self.answered_to(0)  # nobody has counted yet what is kept of them

    def end(self, reason: str) -> None:
        """End the session from outside; its task does the rest."""
        if self.reason:
            return
        self.reason = reason
        self._withdraw()
        if self.relay.running is not None:
            self._cancellation.start()
        self.relay.abandon("cancelled")
        self.let_send()
        self.client.wake()

    async def kill(self, reason: str) -> None:
        self._killed = True
        self.end(reason)
        if self.client.task is not None and self.client.task is not asyncio.current_task():
            await asyncio.wait({self.client.task}, timeout=SEALING_TIMEOUT_S)

    def retire(self) -> bool:
        """Begin nothing more: the session ends as soon as what is under way, its transaction included, is over.

        What the client sends from then on is not read: it hears 57P01, and nothing of it ran.
        """
        self._retiring = True
        if not self.uncertain:  # else whoever takes its answer wakes this session
            self.relay.unfold()  # of an exchange's end nobody is told
        self.client.wake()
        return True

    def rules_changed(self) -> bool:
        """Have what runs ask about its masks again; False when something of it is not allowed any more."""
        self.relay.unfold()
        looked = [execution.rules_changed() for execution in self.relay.executions]
        return all(looked)

    @property
    def _is_over(self) -> bool:
        return (
            self._retiring
            and self.relay.idle
            and self.relay.status == "I"
            and self.at_boundary
            and not self._outgoing
            and self.holding is None
            and self.deferred is None
        )

    def hold(self, gone: asyncio.Event) -> None:
        """A statement waits for its review until `gone` is set: at once, if it was cancelled while it was looked at."""
        self.holding = gone
        if self._cancellation.wanted:
            self._cancellation.want_no_more()
            self.withdrawn = True
            gone.set()

    async def cancel(self) -> None:
        """A CancelRequest with this session's key: withdraw what waits, or cancel what runs, and nothing else."""
        if self.holding is not None:
            self.withdrawn = True
            self._withdraw()
        elif self.relay.running is not None:  # and not what is deferred behind it, which may be another request
            self.flush()  # of a pipeline that is still being read: a server that has nothing yet would cancel nothing
            self._cancellation.until_heard(self.relay.running)
        elif self.deferred is not None:
            self.deferred.withdrawn = True
        elif not self.resting:
            self._cancellation.want()
        if self.cancelling is not None:
            await asyncio.shield(self.cancelling)

    async def _finish(self) -> None:
        self._timers.stop()
        self._say_farewell()
        if self.relay.running is not None and not self.upstream.closed:
            self._cancellation.start()
        self.relay.abandon("cancelled")
        for portal in self.portals.clear():
            portal.retire()
        if self.cancelling is not None:
            await self.cancelling
        self.upstream.close()
        self.client.close()
        await self._deferred_ended()
        if self._sealing:
            await asyncio.wait(self._sealing, timeout=SEALING_TIMEOUT_S)
        self.services.session_ended(self.context, self.reason or "client")

    async def _deferred_ended(self) -> None:
        """What was recorded and will not run has its end in the log before the session has."""
        if self.deferred is not None:
            self._answered = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._answered}, timeout=SEALING_TIMEOUT_S)

    def no_longer_deferred(self) -> None:
        self.deferred = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _say_farewell(self) -> None:
        last = farewell(self.reason, killed=self._killed)
        if last is not None and not self.client.closed and not self.relay.fatal_sent:
            self.client.write(last)

    @property
    def is_busy(self) -> bool:
        """Whether something runs, is waited for or waits."""
        return not self.relay.idle or self.holding is not None or self.deferred is not None

    @property
    def last_activity(self) -> float:
        """When something was last sent or ended here, by `time.monotonic`."""
        return self._last_activity

    # --- Requests -----------------------------------------------------------------------------------------------------

    async def end_request(self) -> None:
        """The client's Sync, or the end of its simple Query."""
        if self.block.own:
            await self._place.end_block()
        self.sync()

    def sync(self, *, hidden: bool = False) -> None:
        if not hidden:
            self.requests += 1
            self._place.request_ends()
            self.statements.request_ends()
            self.portals.request_ends()
        self.ask(Ready(hidden=hidden), client.SYNC_FRAME)
        self.flush()

    async def settle(self) -> None:
        """Know what statements mean here, in the server's own words, before anything is decided."""
        await self.meaning.settle()

    @property
    def settled(self) -> bool:
        """Whether `settle` would return at once, and what is sent now will be looked at by the server."""
        return not (self.meaning.unsettled or self.relay.skipping or self.relay.broken)

    # --- Executions ---------------------------------------------------------------------------------------------------

    def start(
        self,
        permit: ExecutionPermit,
        *,
        shape: BoundShape | None = None,
        copy_columns: tuple[server.Field, ...] = (),
    ) -> Execution:
        """Consume the permit and note what running it may change about the session."""
        permit.consume()
        self.block.sending(permit.statement)
        if permit.analysis.inner is not None:  # EXECUTE, or EXPLAIN of one
            self.plans.renew("execute" if permit.analysis.kind not in _OF_CURSORS else "fetch")
        self.meaning.notice_effects(permit.analysis, first_word(permit.statement))
        return Execution(
            permit, shape=shape, recordings=self.recordings, ended=self._execution_ended, copy_columns=copy_columns
        )

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way, waited for or in doubt: then a request may be served where it arrives."""
        return (
            self.resting
            and self.settled
            and self.relay.idle
            and self.at_boundary
            and not self._outgoing
            and not self.reason
            and not self._retiring
            and self.cancelling is None
            and self.holding is None
            and self.deferred is None
            and self.can_send
        )

    def start_known(self, permit: ExecutionPermit) -> Execution:
        """`start` for a quiet statement: there is nothing to note."""
        permit.consume()
        self.sent_known()
        return Execution(permit, recordings=self.recordings, ended=self._execution_ended)

    def sends_control(self, known: KnownStatement) -> None:
        """`start` for plain control of the transaction, right before it is sent."""
        text = known.assessment.analysis.statement.text
        self.block.sending(text)
        self.meaning.notice_effects(known.assessment.analysis, first_word(text))

    def sent_known(self) -> None:
        """A quiet statement was sent or has ended."""
        self._last_activity = time.monotonic()

    def _execution_ended(self, execution: Execution) -> None:
        if execution.sealing is not None:
            self._sealing.add(execution.sealing)
            execution.sealing.add_done_callback(self._sealing.discard)
        if execution.succeeded:
            self.block.succeeded(execution.permit.statement)
            self.memory.remember(execution.permit)
        self.two_phase.ended(execution)
        self._last_activity = time.monotonic()

    # --- Events -------------------------------------------------------------------------------------------------------

    async def next_frame(self, until: Callable[[], bool]) -> tuple[int, bytes] | None:
        """Return the client's next frame, or None as soon as `until` holds. Raises when the client is gone or wrong."""
        while not until():
            if self._crowded and not self.client.closed:
                await self._room()
                continue
            held = self.deferred is not None or (self.uncertain and self.relay.exchanging)
            frame = None if held else self.client.pop()
            if frame is not None:
                return frame
            if self.client.violation is not None and not held:
                raise self.client.violation
            if self.client.closed:
                raise ClientGone("the client closed the connection")
            await self.client.wait()
        return None

    @property
    def lacks_room(self) -> bool:
        """Whether a result could not be recorded soon."""
        return self.recordings is not None and not self.recordings.has_room and self.context.records_results

    @property
    def _crowded(self) -> bool:
        """Whether more results wait to be recorded than there is room for: no other is asked for until there is."""
        return self.recordings is not None and self.recordings.crowded and self.context.records_results

    async def _room(self) -> None:
        assert self.recordings is not None
        with contextlib.suppress(TimeoutError):  # look meanwhile whether anybody still wants it
            async with asyncio.timeout(ROOM_LOOK_S):
                await self.recordings.room()

    def _upstream_lost(self) -> None:
        self._turns.finish()
        self.relay.lost()

    def _from_upstream(self, data: bytes) -> None:
        self.relay.feed(data)
        running = self.relay.receiving
        if running is not None and running.behind and self._draining is None:
            assert running.recording is not None
            self._upstream_valve.hold("recording")
            self._draining = asyncio.get_running_loop().create_task(self._drain(running))

    async def _drain(self, execution: Execution) -> None:
        with contextlib.suppress(Exception):  # sealing reports a recording that fails; here only flow counts
            assert execution.recording is not None
            await execution.recording.drain()
        self._draining = None
        self._upstream_valve.release("recording")

    def _became_ready(self, status: str) -> None:
        self.block.became_ready(status)
        self.plans.became_ready(status, last=self.at_boundary and self.relay.last_answer)
        self.meaning.became_ready(status)

    def _write_client(self, data: bytes) -> None:
        self.client.write(data)

    def _client_writable(self, can_take: bool) -> None:
        (self._upstream_valve.release if can_take else self._upstream_valve.hold)("client")

    def _client_lost(self) -> None:
        self._withdraw()
        if not self.reason:
            self.end("client")

    def _progress(self) -> None:
        self.client.wake()

    def _withdraw(self) -> None:
        if self.holding is not None:
            self.holding.set()


def described(error: BaseException) -> str:
    """The error's type and place, never its message, which might quote a statement or a value."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place
