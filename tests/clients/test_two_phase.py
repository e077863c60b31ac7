"""Two-phase commit, as psycopg's tpc_* and transaction managers use it, on a server that allows it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.chaos.servers import APP_PASSWORD, own_upstream
from tests.stack import Stack

_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: pairs-open, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: false}}
  - {{name: pairs-phi, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true}}
access:
  - {{groups: [pair-agents], connections: [pairs-open], operations: [read, write, ddl, admin]}}
  - {{groups: [pair-agents], connections: [pairs-phi], operations: [read, write]}}
agents:
  - {{name: pair-agent, groups: [pair-agents], owner: admin}}
"""


@pytest.fixture(scope="module")
def applied(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = Path(tempfile.mkdtemp(prefix="hoopweb-pairs-"))
    home.chmod(0o755)
    with own_upstream(home / "far", max_prepared_transactions="8") as upstream:
        document = tmp_path_factory.mktemp("pairs") / "pairs.yaml"
        words = {"port": upstream.server.port, "password": APP_PASSWORD}
        document.write_text(_DOCUMENT.format(**words), encoding="utf-8")
        done = stack.manage("apply", "-f", str(document))
        assert done.returncode == 0, done.stderr
        yield
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["pairs-open", "pairs-phi"])
def pairs(request: pytest.FixtureRequest, stack: Stack, applied: None) -> str:
    return stack.gateway_dsn(user="pair-agent", connection=request.param)


def labels(connection: psycopg.Connection, label: str) -> list[tuple[str]]:
    return connection.execute("SELECT label FROM marks WHERE label = %s", [label]).fetchall()


def test_prepared_transaction_is_committed_or_rolled_back(pairs: str) -> None:
    with psycopg.connect(pairs) as connection:
        for ending, kept in (("commit", 1), ("rollback", 0)):
            connection.tpc_begin(connection.xid(1, f"pair-{ending}", "b"))
            connection.execute("INSERT INTO marks VALUES (%s)", [f"tpc-{ending}"])
            connection.tpc_prepare()
            getattr(connection, f"tpc_{ending}")()

            assert len(labels(connection, f"tpc-{ending}")) == kept
            connection.execute("DELETE FROM marks WHERE label = %s", [f"tpc-{ending}"])
            connection.commit()


def test_transaction_of_another_session_is_ended_on_open_connections_only(pairs: str) -> None:
    with psycopg.connect(pairs) as first, psycopg.connect(pairs, autocommit=True) as second:
        first.execute("INSERT INTO marks VALUES ('orphan')")
        first.execute("PREPARE TRANSACTION 'orphan'")
        if "phi" in pairs:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                second.execute("COMMIT PREPARED 'orphan'")
            first.commit()
            first.autocommit = True
            first.execute("ROLLBACK PREPARED 'orphan'")
        else:
            second.execute("COMMIT PREPARED 'orphan'")
            second.execute("DELETE FROM marks WHERE label = 'orphan'")

        assert labels(second, "orphan") == []
