"""One data-plane process: wires the pipeline's doors to their real counterparts and runs until told to stop.

The order of starting is the order of trust: rules, record, then listeners. The order of stopping is the reverse:
no new session, running ones finish (for `HOOPWEB_DRAIN_S`) and end, the record is flushed last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import channel_layers
from django.conf import settings

from approvals.domain.announce import GATEWAYS_GROUP, REVIEWS_GROUP, told_to_group
from audit.domain.checkpoints import checkpoint_loop
from audit.domain.startup import gateway_started, gateway_stopped, take_in_journals
from audit.live import LiveRecord
from audit.recording_sink import RecordingSink
from audit.writer import AuditWriter
from gateway.data_apis import DataApiParts, build_data_apis
from gateway.domain.identity import GatewayAuthenticator, TokenVerifier
from gateway.domain.snapshot import StaleSnapshot
from gateway.domain.threads import in_thread
from gateway.domain.tokens import issuer_url
from gateway.domain.version import SNAPSHOT_GROUP
from gateway.listeners.http import EmbeddedServer, build_app, http_server, reusable_socket
from gateway.listeners.http_tokens import TokenEndpoint
from gateway.listeners.metrics import Board, Gauges, MetricsEndpoint
from gateway.listeners.peers import Peers
from gateway.listeners.postgres import PostgresListener
from gateway.listeners.readiness import Readiness
from gateway.listeners.relay import Relay
from gateway.listeners.relay_endpoint import RelayEndpoint, relay_routes
from gateway.pulses import Beat, watch
from gateway.quota_counts import RedisCounts
from gateway.server_tls import load_certificates, server_tls
from gateway.session.context import new_id
from gateway.session.desk import DatabaseReviewDesk
from gateway.session.draining import drained
from gateway.session.inheritance import DatabaseInheritance, ToldRules
from gateway.session.quotas import Quotas, QuotasUnavailable
from gateway.session.registry import SessionRegistry
from gateway.session.services import Services
from gateway.session.sweep import Sweep
from gateway.session.two_phase import RedisPrepared
from gateway.settling import HEARTBEAT_S, HEARTBEAT_TTL_S, heartbeat_key, keep_settling
from gateway.store import SnapshotStore
from gateway.traces import Tracer
from gateway.upstream_secrets import conninfo, upstream_credential
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from gateway.upstreams.postgres_session import PostgresOpener

logger = logging.getLogger(__name__)

SWEEP_S = 1.0
# How long a round of each loop may take. Those that write and read over the network have bounds of their own, and some
# tries; a signer that starts may have much to check first.
ROUND_S = {
    "peers": 60.0,
    "control": 150.0,
    "cancels": 150.0,
    "heartbeat": 90.0,
    "sweep": 30.0,
    "quotas": 30.0,
    "telling": 90.0,
    "vanished": 60.0,
    "settling": 300.0,
    "checkpoints": 900.0,
}
# What runs would go on under rules that do not hold any more: a process whose sweep hangs ends, as if it had failed.
VITAL = frozenset({"sweep"})
MEMBERSHIP_S = 60.0  # so often a group is joined again: what is in it expires
KILL_WITHIN_S = 1.0  # so long the next message waits for a session to end; it ends all the same
# Cancel requests come from anybody who reaches the port, with any key: what they are told of through has no room for
# anything else to be crowded out of, and a process passes on only so many at a time.
CANCELS_GROUP = "cancels"
MOST_CANCELS = 20
JOIN_WITHIN_S = 10.0


@dataclass(slots=True)
class Runtime:
    """Built by `build_runtime`; `serve` runs it."""

    gateway_id: str
    store: SnapshotStore
    writer: AuditWriter
    recordings: RecordingSink
    desk: DatabaseReviewDesk
    registry: SessionRegistry
    analyst: PostgresAnalyst
    listener: PostgresListener
    relay: Relay
    data_apis: DataApiParts
    http: EmbeddedServer
    readiness: Readiness
    quotas: Quotas
    told: ToldRules
    board: Board
    tracer: Tracer | None
    tls: tuple[ssl.SSLContext, ...]  # of the listeners, so that new certificates can be given to them
    relay_http: EmbeddedServer | None  # where clients speak TLS, the control plane has a port of its own

    async def serve(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        """Start everything, run until `stop` or until a part ends, then stop everything.

        After `stop` live sessions finish first, unless `hurry` is set.
        """
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            await self.told.tell(0)
        await self.store.start()
        await in_thread(take_in_journals)
        await self.writer.start()
        self.writer.append_later(gateway_started(listeners=listening(), journal=self.writer.journal_id))
        sockets = [reusable_socket(settings.HOOPWEB_LISTEN, settings.HOOPWEB_HTTP_PORT)]
        beats = {name: self.readiness.pulses.of(name, within_s=within_s) for name, within_s in ROUND_S.items()}
        await self.listener.start(beats["vanished"])
        parts: dict[str, Coroutine[Any, Any, None]] = {
            "http": self.http.serve(sockets=sockets),
            **self._relay_part(),
            "peers": self.data_apis.answer_peers(beats["peers"]),
            "control": self._take_control_messages(beats["control"], GATEWAYS_GROUP, REVIEWS_GROUP, SNAPSHOT_GROUP),
            "cancels": self._take_control_messages(beats["cancels"], CANCELS_GROUP),
            "heartbeat": self._beat(beats["heartbeat"]),
            "sweep": self._sweep(beats["sweep"]),
            "quotas": self._tend_quotas(beats["quotas"]),
            "telling": self.told.keep_telling(self.store, beats["telling"]),
            "watch": watch(self.readiness.pulses, vital=VITAL),
            "settling": keep_settling(settings.HOOPWEB_REDIS_URL, beats["settling"]),
            "checkpoints": checkpoint_loop(gateway_id=self.gateway_id, beat=beats["checkpoints"]),
        }
        tasks = {asyncio.create_task(part, name=name) for name, part in parts.items()}
        stopping = asyncio.create_task(stop.wait(), name="stop")
        logger.info("gateway serving: id=%s", self.gateway_id)
        done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            logger.error("gateway part ended: part=%s error=%r", task.get_name(), task.exception())
        if not done - {stopping}:
            await self._drain(hurry)
        await self._stop(tasks | {stopping})

    def _relay_part(self) -> dict[str, Coroutine[Any, Any, None]]:
        if self.relay_http is None:
            return {}
        own = reusable_socket(settings.HOOPWEB_LISTEN, settings.HOOPWEB_RELAY_PORT)
        return {"relay": self.relay_http.serve(sockets=[own])}

    async def _drain(self, hurry: asyncio.Event) -> None:
        self.readiness.draining = True
        self.listener.refuse_new()
        logger.info("gateway draining: id=%s sessions=%d", self.gateway_id, len(self.registry))
        all_over = await drained(
            self.registry,
            answering=lambda: self.readiness.answering,
            within_s=settings.HOOPWEB_DRAIN_S,
            hurry=hurry,
        )
        if not all_over:
            logger.warning("gateway ends what is left: id=%s sessions=%d", self.gateway_id, len(self.registry))

    async def _stop(self, tasks: set[asyncio.Task[Any]]) -> None:
        await self.listener.close()
        await self.relay.close()
        await self.data_apis.close()
        for server in (self.http, self.relay_http):
            if server is not None:
                server.should_exit = True
        await self.registry.kill_where(lambda _: "drained")
        await asyncio.sleep(0)
        for task in tasks:
            if task.get_name() not in {"http", "relay"}:
                task.cancel()
        await asyncio.wait(tasks, timeout=10)
        await self.analyst.close()
        await self.recordings.close()
        await self.desk.close()
        self.writer.append_later(gateway_stopped())
        await self.writer.close()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)
        await self.store.close()
        await self.told.forget()

    def reload(self) -> None:
        """Read certificates and rules again; listeners and sessions stay. What cannot be read leaves all as it was."""
        try:
            server_tls()  # a pair that does not fit raises here, before the listeners have half of it
            for context in self.tls:
                load_certificates(context)
        except (OSError, ssl.SSLError) as error:
            logger.error("certificates not reloaded, the old ones stay: error=%s", type(error).__name__)
        self.store.changed()
        logger.info("gateway reloaded: id=%s certificates=%d", self.gateway_id, len(self.tls))

    async def _take_control_messages(self, beat: Beat, *groups: str) -> None:
        """Channel-layer messages hurry things along; what was decided, and the rules, are also found by polling.

        A channel holds a hundred of them, and drops what comes then.
        """
        layer = channel_layers.make_backend(DEFAULT_CHANNEL_LAYER)  # channels of one layer share their room
        channel = await layer.new_channel(prefix="gateway")
        while True:
            beat()
            try:
                async with asyncio.timeout(JOIN_WITHIN_S):
                    for group in groups:
                        await layer.group_add(group, channel)
                await self._handle(await asyncio.wait_for(layer.receive(channel), timeout=MEMBERSHIP_S))
            except TimeoutError:
                continue  # group membership expires; join again
            except (redis.exceptions.RedisError, OSError) as error:
                logger.warning("channel layer lost: error=%s", type(error).__name__)
                await asyncio.sleep(1)

    async def _handle(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "review.changed":
                self.desk.review_changed(str(message.get("review_id")))
            case "snapshot.changed":
                self.store.changed()
            case "session.kill":
                await self.registry.kill(str(message.get("session_id")), within_s=KILL_WITHIN_S)
            case "session.cancel":
                await self.listener.cancel(int(message["process_id"]), bytes.fromhex(message["secret"]))

    async def _beat(self, beat: Beat) -> None:
        client = redis.asyncio.Redis.from_url(settings.HOOPWEB_REDIS_URL)
        try:
            while True:
                beat()
                with contextlib.suppress(redis.exceptions.RedisError, OSError):
                    await client.set(heartbeat_key(self.gateway_id), time.time_ns(), ex=HEARTBEAT_TTL_S)
                    await self.board.put()
                await asyncio.sleep(HEARTBEAT_S)
        finally:
            await client.aclose()

    async def _tend_quotas(self, beat: Beat) -> None:
        while True:
            beat()
            await asyncio.sleep(SWEEP_S)
            with contextlib.suppress(QuotasUnavailable):  # told with the next second; meanwhile nothing is let in
                await self.quotas.tend()

    async def _sweep(self, beat: Beat) -> None:
        sweep = Sweep(self.store, self.registry)
        while True:
            beat()
            await asyncio.sleep(SWEEP_S)
            await sweep.look()


def listening() -> dict[str, str]:
    """Protocol → address, for the record."""
    ports = {"postgres": settings.HOOPWEB_POSTGRES_PORT, "http": settings.HOOPWEB_HTTP_PORT}
    return {protocol: f"{settings.HOOPWEB_LISTEN}:{port}" for protocol, port in ports.items()}


def build_runtime() -> Runtime:
    """Wire one process from settings. Raises with one clear sentence when a key is missing."""
    gateway_id = new_id()
    store = SnapshotStore(max_age_s=settings.HOOPWEB_SNAPSHOT_MAX_AGE_S)
    writer = AuditWriter(gateway_id=gateway_id, journal_root=settings.HOOPWEB_JOURNAL_DIR)
    desk = DatabaseReviewDesk()
    analyst = PostgresAnalyst(dsn_for=conninfo)
    quotas = Quotas(RedisCounts(settings.HOOPWEB_REDIS_URL), holder=gateway_id)
    told = ToldRules(settings.HOOPWEB_REDIS_URL, gateway_id=gateway_id, max_age_s=settings.HOOPWEB_SNAPSHOT_MAX_AGE_S)
    prepared = RedisPrepared(settings.HOOPWEB_REDIS_URL)
    recordings = RecordingSink()
    services = Services(
        snapshots=store,
        analysts={"postgres": analyst},
        reviews=desk,
        record=LiveRecord(writer),
        inheritance=DatabaseInheritance(store, told),
        quotas=quotas,
        prepared=prepared,
        results=recordings,
    )
    tracer = statement_tracer()
    if tracer is not None:
        services.meter.trace = tracer.statement
    registry = SessionRegistry()
    verifier = TokenVerifier()
    data_apis = build_data_apis(
        services=services,
        registry=registry,
        verifier=verifier,
        recordings=recordings,
        upstream_credential=upstream_credential,
        plaintext_on_loopback=settings.HOOPWEB_ALLOW_PLAINTEXT_LOOPBACK,
        peers=Peers(gateway_id=gateway_id, redis_url=settings.HOOPWEB_REDIS_URL, secret=settings.HOOPWEB_RELAY_KEY),
    )
    opener = PostgresOpener(upstream_credential, recordings)
    native_tls, http_tls = server_tls(), server_tls()
    listener = PostgresListener(
        services=services,
        authenticator=GatewayAuthenticator(store, verifier),
        registry=registry,
        upstream_credential=upstream_credential,
        recordings=recordings,
        host=settings.HOOPWEB_LISTEN,
        port=settings.HOOPWEB_POSTGRES_PORT,
        ssl_context=native_tls,
        allow_plaintext_loopback=settings.HOOPWEB_ALLOW_PLAINTEXT_LOOPBACK,
        cancel_elsewhere=cancel_elsewhere,
        reuse_port=True,
        oauth_discovery=f"{issuer_url()}/.well-known/oauth-authorization-server",
    )
    relay = Relay(
        services=services,
        registry=registry,
        openers={"postgres": opener, **data_apis.openers},
        holder=gateway_id,
        is_alive=gateway_is_alive,
    )
    endpoint = RelayEndpoint(relay=relay, services=services, verifier=verifier, relay_key=settings.HOOPWEB_RELAY_KEY)
    tokens = TokenEndpoint(verifier=verifier, plaintext_on_loopback=settings.HOOPWEB_ALLOW_PLAINTEXT_LOOPBACK)
    inner = relay_routes(endpoint)
    apart = bool(settings.HOOPWEB_RELAY_PORT)
    readiness = Readiness({"rules": lambda: store.current() is not None, "log": lambda: writer.healthy})

    def gauges() -> Gauges:
        return gauges_of(registry, store, behind=writer.behind, services=services, draining=readiness.draining)

    board = Board(
        url=settings.HOOPWEB_REDIS_URL,
        port=settings.HOOPWEB_HTTP_PORT,
        process=gateway_id,
        meter=services.meter,
        gauges=gauges,
    )
    figures = MetricsEndpoint(board, settings.HOOPWEB_METRICS_TOKEN).routes()
    return Runtime(
        gateway_id=gateway_id,
        store=store,
        writer=writer,
        recordings=recordings,
        desk=desk,
        registry=registry,
        analyst=analyst,
        listener=listener,
        relay=relay,
        data_apis=data_apis,
        readiness=readiness,
        quotas=quotas,
        told=told,
        board=board,
        tracer=tracer,
        tls=tuple(context for context in (native_tls, http_tls) if context is not None),
        http=http_server(
            build_app([*figures, *([] if apart else inner), *tokens.routes(), *data_apis.router.routes()], readiness),
            http_tls,
        ),
        relay_http=http_server(build_app(inner, readiness)) if apart else None,
    )


def statement_tracer() -> Tracer | None:
    """None unless somebody set where traces go."""
    endpoint = settings.HOOPWEB_OTLP_ENDPOINT
    return Tracer(endpoint, percent=settings.HOOPWEB_TRACE_PERCENT) if endpoint else None


def gauges_of(
    registry: SessionRegistry, store: SnapshotStore, *, behind: int, services: Services, draining: bool
) -> Gauges:
    """What this process is busy with now."""
    live = [session.context for session in registry.live()]
    with contextlib.suppress(StaleSnapshot):
        loaded_at = store.current().loaded_at
        return {
            "sessions": Counter(context.protocol for context in live),
            "upstreams": Counter(context.connection.name for context in live),
            "holding": {"": services.meter.holding},
            "journal": {"": behind},
            "rules_age": {"": time.monotonic() - loaded_at},
            "draining": {"": int(draining)},
        }
    return {"rules_age": {"": float(settings.HOOPWEB_SNAPSHOT_MAX_AGE_S)}}


async def gateway_is_alive(gateway_id: str) -> bool:
    """Whether another process still beats. When nobody can say, it does: taking a hold over twice would be worse."""
    client = redis.asyncio.Redis.from_url(settings.HOOPWEB_REDIS_URL)
    try:
        return bool(await client.exists(heartbeat_key(gateway_id)))
    except (redis.exceptions.RedisError, OSError):
        return True
    finally:
        await client.aclose()


async def cancel_elsewhere(process_id: int, secret: bytes) -> None:
    """A CancelRequest may reach another process of the same port: ask them all, a few requests at a time."""
    message = {"type": "session.cancel", "process_id": process_id, "secret": secret.hex()}
    async with _cancels:
        await told_to_group(CANCELS_GROUP, message)


_cancels = asyncio.Semaphore(MOST_CANCELS)
