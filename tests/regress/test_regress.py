"""PostgreSQL's own regression suite through an open connection: the output must be the one of a direct connection.

`make test` runs a sample, `make soak` every test of the schedule. A listed test may differ; anything else may not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.regress.cluster import BIN, DATABASE, PASSWORD, cluster
from tests.regress.run import Side, difference, expected_differences, hunks, run_file, unexpected
from tests.regress.source import regression_files, schedule
from tests.stack import Stack

AGENT = "postgres"  # tests connect again under the name of the current user
SAMPLE = (
    "test_setup boolean char name text int4 oid enum strings copyselect expressions comments errors portals prepare"
)
_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: {database}, kind: postgres, host: 127.0.0.1, port: {port}, database: {database}, username: postgres,
      password: {{value: {password}}}, tls: disable, phi: false, recording: metadata}}
access:
  - {{groups: [regress-agents], connections: [{database}], operations: [read, write, ddl, admin]}}
agents:
  - {{name: {agent}, groups: [regress-agents], owner: admin}}
"""


@dataclass(frozen=True, slots=True)
class Sides:
    files: Path
    direct: Side
    through: Side


@pytest.fixture(scope="module")
def sides(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """Two equal servers, because tests create roles and tablespaces: one asked directly, one through the gateway."""
    if not BIN.exists():
        pytest.skip("needs Debian's PostgreSQL 15: apt-get install postgresql-15")
    files, folder = regression_files(), tmp_path_factory.mktemp("regress")
    with cluster() as plain, cluster() as behind:
        document = folder / "regress.yaml"
        words = {"port": behind.port, "database": DATABASE, "password": PASSWORD, "agent": AGENT}
        document.write_text(_DOCUMENT.format(**words), encoding="utf-8")
        done = stack.manage("apply", "-f", str(document))
        assert done.returncode == 0, done.stderr
        token = stack.agent_token(AGENT, ttl_s=3600)
        through = stack.gateway_dsn(token=token, user=AGENT, connection=DATABASE)
        yield Sides(files, _side(plain.dsn(), folder / "direct"), _side(through, folder / "through"))


def _side(dsn: str, folder: Path) -> Side:
    results = folder / "results"
    results.mkdir(parents=True)
    for path in (folder, results):
        path.chmod(0o777)  # the server writes COPY TO files here
    return Side(dsn, folder)


def test_regression_outputs_are_those_of_a_direct_connection(sides: Sides) -> None:
    soaking = bool(os.environ.get("HOOPWEB_SOAK"))
    differing = {}

    with ThreadPoolExecutor(2) as both:  # each has a server and a directory of its own
        for name in schedule(sides.files) if soaking else SAMPLE.split():
            run = partial(run_file, name, files=sides.files, timeout_s=600)
            outputs = both.map(lambda side, run=run: run(side=side), (sides.direct, sides.through))
            if changed := unexpected(name, difference(name, *outputs)):
                differing[name] = changed

    assert not differing, "\n\n".join(differing.values())[:20_000]


def test_comparison_would_notice_a_difference(sides: Sides, tmp_path: Path) -> None:
    """The control: one and the same file against two databases that are not the same."""
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "which.sql").write_text("SELECT inet_server_port();\n", encoding="utf-8")

    outputs = [run_file("which", files=tmp_path, side=side) for side in (sides.direct, sides.through)]

    assert unexpected("which", difference("which", *outputs))


def test_listed_hunk_excuses_itself_alone() -> None:
    """Another change in a listed file is still a difference."""
    listed = difference("rules", "a\nb\nc\n", "a\nB\nc\n")
    (digest,) = hunks(listed)

    assert digest in unexpected("rules", listed)
    assert hunks(difference("rules", "x\nb\nc\n", "x\nB\nc\n")).keys() == {digest}
    assert digest not in hunks(difference("rules", "a\nb\nc\n", "a\nC\nc\n"))


def test_every_listed_difference_is_of_a_test_that_exists() -> None:
    assert set(expected_differences()) <= set(schedule(regression_files()))
