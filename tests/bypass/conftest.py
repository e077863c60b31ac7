"""The arena: the running stack with the canaries planted, and the traces it left when everything was tried."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from gateway.upstreams.postgres_definitions import CODE_QUERY
from tests.bypass.attack import Arena, close_kept
from tests.bypass.watch import RedisWatch
from tests.bypass.wire import Target
from tests.stack import Stack

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def arena(stack: Stack, redis_watch: RedisWatch) -> Iterator[Arena]:
    """Plant the objects and rules once. The upstream's own user gets more rights than the demo gives it: what stops an
    attack must be the gateway, not a missing GRANT."""
    upstream = stack.demo["upstream"]
    clinic = str(upstream["database"])
    user = sql.Identifier(str(upstream["username"]))
    with psycopg.connect(stack.superuser_dsn(clinic), autocommit=True) as owner:
        plant(owner)
        owner.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(user))
        functions = words(owner, "public.attack_label(int4)", "public.attack_fixed(int4)")
    for document in ((HERE / "rules.yaml").read_text(encoding="utf-8"), bare(upstream, functions=functions)):
        done = stack.manage("apply", "-f", "-", stdin=document)
        assert done.returncode == 0, done.stderr
    yield Arena(
        direct=upstream_target(stack),
        owner=owner_target(stack),
        gateway=gateway_target(stack),
        bare=gateway_target(stack, connection="bare", agent="attack-bare"),
    )
    close_kept()
    with psycopg.connect(stack.superuser_dsn(clinic), autocommit=True) as owner:
        owner.execute(sql.SQL("REVOKE CREATE ON SCHEMA public FROM {}").format(user))


@pytest.fixture(scope="session")
def redis_watch(stack: Stack) -> Iterator[RedisWatch]:
    url = stack.env.get("HOOPWEB_REDIS_URL") or (stack.home / "secrets" / "redis_url").read_text(encoding="utf-8")
    watch = RedisWatch(url.strip())
    yield watch
    watch.close()


@pytest.fixture(autouse=True, scope="module")
def _canaries_as_planted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a module before this one changed through a hole in the gateway is put back; what its statements over the
    bare connection had the ordinary one's columns inherit is forgotten behind it."""
    if not any(item.get_closest_marker("e2e") for item in request.session.items if item.path == request.path):
        yield
        return
    stack = request.getfixturevalue("stack")
    request.getfixturevalue("arena")
    with psycopg.connect(stack.superuser_dsn(str(stack.demo["upstream"]["database"])), autocommit=True) as owner:
        plant(owner)
    yield
    forget_inherited(stack, "clinic")


def forget_inherited(stack: Stack, connection: str) -> None:
    """As somebody does who removes the tags in the console."""
    with psycopg.connect(str(stack.demo["control_dsn"])) as control:
        gone = control.execute(
            "DELETE FROM masking_columntag WHERE source = 'inherited' AND connection = %s", [connection]
        )
        if not gone.rowcount:
            return
        control.execute("UPDATE gateway_configversion SET version = version + 1")
    stack.wait_for_rules()


def plant(owner: psycopg.Connection) -> None:
    owner.execute("SET client_min_messages = warning")
    owner.execute(re.sub(r"(?m)^--.*$", "", (HERE / "objects.sql").read_text(encoding="utf-8")))


def words(owner: psycopg.Connection, *harmless: str) -> str:
    """What a person says who looked at these functions: they read nothing that is protected."""
    digests = {label: digest for _, label, _, digest, *_ in owner.execute(CODE_QUERY.encode())}
    return "; ".join(f"{function} = {digests[function]}:" for function in harmless)


def bare(upstream: Mapping[str, object], *, functions: str) -> str:
    """The document of the connection on which no policy stands behind the rules."""
    filled = (HERE / "bare.yaml").read_text(encoding="utf-8")
    for name in ("host", "port", "database", "username", "password"):
        filled = filled.replace(f"@{name}@", str(upstream[name]))
    return filled.replace("@functions@", functions)


def upstream_target(stack: Stack) -> Target:
    upstream = stack.demo["upstream"]
    return Target(
        host=str(upstream["host"]),
        port=int(upstream["port"]),
        database=str(upstream["database"]),
        user=str(upstream["username"]),
        password=str(upstream["password"]),
    )


def owner_target(stack: Stack) -> Target:
    parts = psycopg.conninfo.conninfo_to_dict(stack.superuser_dsn(str(stack.demo["upstream"]["database"])))
    return Target(
        host=str(parts["host"]),
        port=int(str(parts["port"])),
        database=str(parts["dbname"]),
        user=str(parts["user"]),
        password=str(parts["password"]),
    )


def gateway_target(stack: Stack, *, connection: str = "clinic", agent: str = "demo-agent") -> Target:
    listener = stack.demo["postgres"]
    return Target(
        host=str(listener["host"]),
        port=int(listener["port"]),
        database=connection,
        user=agent,
        password=stack.agent_token(agent),
        tls=listener["sslmode"] not in {"disable", "prefer", "allow"},
    )
