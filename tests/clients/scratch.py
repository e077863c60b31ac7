"""An open connection: no PHI, no rules, every right. Whatever a client does there must look as it does directly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.stack import Stack

PASSWORD = "scratch-synthetic"
AGENT = "scratch-agent"

_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: {name}, kind: postgres, host: 127.0.0.1, port: {port}, database: {name}, username: scratch_owner,
      password: {{value: {password}}}, tls: disable, phi: false, recording: metadata}}
access:
  - {{name: {name}-all, groups: [scratch-agents], connections: [{name}], operations: [read, write, ddl, admin]}}
agents:
  - {{name: {agent}, groups: [scratch-agents], owner: admin}}
"""


@dataclass(frozen=True, slots=True)
class Ways:
    """The same database twice: directly as its owner, and through the gateway as an agent."""

    direct: str
    through: str

    def words(self, way: str) -> dict[str, str]:
        """libpq keywords of a way."""
        return {key: str(value) for key, value in psycopg.conninfo.conninfo_to_dict(getattr(self, way)).items()}


def open_connection(stack: Stack, folder: Path, *, name: str = "scratch") -> Ways:
    """Create the database and the open connection `name`; both are made anew."""
    with psycopg.connect(stack.superuser_dsn("postgres"), autocommit=True) as owner:
        database = sql.Identifier(name)
        owner.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        if owner.execute("SELECT 1 FROM pg_roles WHERE rolname = 'scratch_owner'").fetchone() is None:
            owner.execute(sql.SQL("CREATE ROLE scratch_owner LOGIN PASSWORD {}").format(sql.Literal(PASSWORD)))
        owner.execute(sql.SQL("CREATE DATABASE {} OWNER scratch_owner").format(database))
    port = psycopg.conninfo.conninfo_to_dict(stack.superuser_dsn())["port"]
    document = folder / f"{name}.yaml"
    document.write_text(_DOCUMENT.format(port=port, password=PASSWORD, name=name, agent=AGENT), encoding="utf-8")
    done = stack.manage("apply", "-f", str(document))
    assert done.returncode == 0, done.stderr
    direct = f"host=127.0.0.1 port={port} dbname={name} user=scratch_owner password={PASSWORD} sslmode=disable"
    return Ways(direct, stack.gateway_dsn(user=AGENT, connection=name))
