"""Two-phase commit, as psycopg's tpc_* and transaction managers use it, on a server that allows it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from gateway.session.two_phase import PREPARED_KEY
from tests.bypass.conftest import gateway_target
from tests.bypass.wire import SYNC, Answer, Target, Wire, bind, execute, message, parse
from tests.chaos.servers import APP_PASSWORD, own_upstream, wait_until
from tests.reviews import decide, pending_review
from tests.stack import Stack

_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: pairs-open, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: false}}
  - {{name: pairs-held, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true}}
  - {{name: pairs-phi, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true}}
access:
  - {{groups: [pair-agents], connections: [pairs-open], operations: [read, write, ddl, admin]}}
  - {{groups: [pair-agents], connections: [pairs-phi, pairs-held], operations: [read, write]}}
  - {{groups: [pair-readers], connections: [pairs-phi], operations: [read]}}
agents:
  - {{name: pair-agent, groups: [pair-agents], owner: admin}}
  - {{name: pair-other, groups: [pair-agents], owner: admin}}
  - {{name: pair-reader, groups: [pair-readers], owner: admin}}
policies:
  - {{name: pairs-ends, connections: [pairs-held], when: {{kinds: [COMMIT_PREPARED]}}, action: require_approval,
      reviewers: [privacy-officers]}}
"""


@pytest.fixture(scope="module")
def applied(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's DSN for the gateway's own role, which may end there whatever the role prepared."""
    home = Path(tempfile.mkdtemp(prefix="hoopweb-pairs-"))
    home.chmod(0o755)
    with own_upstream(home / "far", max_prepared_transactions="8") as upstream:
        document = tmp_path_factory.mktemp("pairs") / "pairs.yaml"
        words = {"port": upstream.server.port, "password": APP_PASSWORD}
        document.write_text(_DOCUMENT.format(**words), encoding="utf-8")
        done = stack.manage("apply", "-f", str(document))
        assert done.returncode == 0, done.stderr
        yield f"host=127.0.0.1 port={upstream.server.port} dbname=far user=far_app password={APP_PASSWORD}"
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["pairs-open", "pairs-phi"])
def pairs(request: pytest.FixtureRequest, stack: Stack, applied: str) -> str:
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


def counted(pairs: str, label: str) -> int:
    with psycopg.connect(pairs, autocommit=True) as connection:
        found = labels(connection, label)
        connection.execute("DELETE FROM marks WHERE label = %s", [label])
        return len(found)


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("lost", [True, False])
def test_transaction_of_a_lost_session_is_ended_by_another_of_its_principal(
    pairs: str, ending: str, lost: bool
) -> None:
    with psycopg.connect(pairs) as first, psycopg.connect(pairs, autocommit=True) as second:
        first.execute("INSERT INTO marks VALUES ('orphan')")
        first.execute("PREPARE TRANSACTION 'orphan'")
        if lost:
            first.close()
        second.execute(f"{ending} PREPARED 'orphan'")

    assert counted(pairs, "orphan") == (ending == "COMMIT")


SPELLED = {
    "escapes": r"E'\x73pelled'",
    "unicode": r"U&'\0073pelled'",
    "own escape": "U&'!0073pelled' UESCAPE '!'",
    "dollars": "$x$spelled$x$",
    "goes on": "'spe'\n'lled'",
}


@pytest.mark.parametrize("spelling", SPELLED.values(), ids=SPELLED)
@pytest.mark.parametrize("spelled_by", ["who prepares", "who ends"])
def test_every_spelling_of_an_identifier_is_known(pairs: str, spelling: str, spelled_by: str) -> None:
    prepared, ended = (spelling, "'spelled'") if spelled_by == "who prepares" else ("'spelled'", spelling)
    with psycopg.connect(pairs) as first, psycopg.connect(pairs, autocommit=True) as second:
        first.execute("INSERT INTO marks VALUES ('spelled')")
        first.execute(f"PREPARE TRANSACTION {prepared}".encode())
        second.execute(f"COMMIT PREPARED {ended}".encode())

    assert counted(pairs, "spelled") == 1


def notes(stack: Stack) -> set[bytes]:
    """What is kept of prepared transactions, each a digest of its own. It is forgotten a moment after their end."""
    with redis.Redis.from_url((stack.home / "secrets" / "redis_url").read_text(encoding="utf-8")) as client:
        return {note for key in client.scan_iter(PREPARED_KEY + "*") for note in client.zrange(key, 0, -1)}


@pytest.mark.parametrize("text", ["PREPARE TRANSACTION 'refused'", "/**/prepare transaction E'refused'"])
def test_name_that_is_refused_is_noted_nowhere(stack: Stack, applied: str, text: str) -> None:
    before = notes(stack)
    with psycopg.connect(stack.gateway_dsn(user="pair-reader", connection="pairs-phi")) as reader:
        reader.execute("SELECT 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(text.encode())

    assert notes(stack) <= before


def test_nothing_stays_noted_of_what_ended_or_was_not_prepared(stack: Stack, applied: str) -> None:
    mine = stack.gateway_dsn(user="pair-agent", connection="pairs-phi")
    before = notes(stack)
    with psycopg.connect(mine) as first, psycopg.connect(mine) as second:
        first.execute("INSERT INTO marks VALUES ('x')")
        first.execute("PREPARE TRANSACTION 'noted'")
        during = notes(stack)
        second.execute("INSERT INTO marks VALUES ('x')")
        with pytest.raises(psycopg.errors.DuplicateObject):
            second.execute("PREPARE TRANSACTION 'noted'")
        second.rollback()
        second.autocommit = True
        second.execute("ROLLBACK PREPARED 'noted'")
        second.execute("SELECT 1")

    assert len(during - before) == 1
    wait_until(lambda: notes(stack) <= before, within_s=60, what="the transaction to be forgotten")


def whole(text: str, name: str = "") -> bytes:
    return parse(text, name=name) + bind(statement=name) + execute()


def test_ends_that_are_pipelined_run_as_they_do_directly(stack: Stack, applied: str) -> None:
    """One request ends two; behind a statement that leaves a transaction the server refuses, in words of its own."""
    ends = whole("COMMIT PREPARED 'one'") + whole("ROLLBACK PREPARED 'two'", name="s") + SYNC
    behind = whole("SELECT 1") + whole("COMMIT PREPARED 'three'") + SYNC
    mine = stack.gateway_dsn(user="pair-agent", connection="pairs-phi")
    said = []
    for target in (None, gateway_target(stack, connection="pairs-phi", agent="pair-agent")):
        with psycopg.connect(mine) as preparing, psycopg.connect(applied) as direct:
            for name in ("one", "two", "three"):
                preparing.execute("INSERT INTO marks VALUES (%s)", [f"piped-{name}"])
                preparing.execute(f"PREPARE TRANSACTION '{name}'".encode())
            info = direct.info
            own = target or Target(info.host, info.port, info.dbname, info.user, APP_PASSWORD)
            with Wire(own) as wire:
                answers = [wire.request(each) for each in (ends, behind)]
            said.append([(answer.tags, answer.sqlstate) for answer in answers])
            direct.rollback()
            direct.autocommit = True
            direct.execute("ROLLBACK PREPARED 'three'")
        assert [counted(mine, f"piped-{name}") for name in ("one", "two", "three")] == [1, 0, 0]

    assert said[0] == said[1]
    assert said[0][0] == (["COMMIT PREPARED", "ROLLBACK PREPARED"], "")


def test_psycopg_recovers_what_a_lost_session_prepared(pairs: str) -> None:
    first = psycopg.connect(pairs)
    first.tpc_begin(first.xid(7, "recovered", "b"))
    first.execute("INSERT INTO marks VALUES ('recovered')")
    first.tpc_prepare()
    identifier = str(first.xid(7, "recovered", "b"))
    first.close()

    with psycopg.connect(pairs, autocommit=True) as second:
        (found,) = [xid for xid in second.tpc_recover() if str(xid) == identifier] if "open" in pairs else [identifier]
        second.tpc_commit(found)

    assert counted(pairs, "recovered") == 1


@pytest.mark.parametrize("whose", ["somebody else's", "prepared directly", "prepared anew", "a name that was taken"])
def test_transaction_of_others_stays_theirs_where_phi_may_be(stack: Stack, applied: str, whose: str) -> None:
    mine = stack.gateway_dsn(user="pair-agent", connection="pairs-phi")
    others = {
        "somebody else's": stack.gateway_dsn(user="pair-other", connection="pairs-phi"),
        "prepared directly": applied,
        "prepared anew": applied,
        "a name that was taken": applied,
    }[whose]
    with (
        psycopg.connect(others) as other,
        psycopg.connect(mine, autocommit=True) as agent,
        psycopg.connect(mine) as preparing,
        psycopg.connect(applied, autocommit=True) as owner,
    ):
        if whose == "prepared anew":
            preparing.execute("INSERT INTO marks VALUES ('mine')")
            preparing.execute("PREPARE TRANSACTION 'theirs'")
            owner.execute("ROLLBACK PREPARED 'theirs'")
        other.execute("INSERT INTO marks VALUES ('theirs')")
        other.execute("PREPARE TRANSACTION 'theirs'")
        if whose == "a name that was taken":
            preparing.execute("INSERT INTO marks VALUES ('mine')")
            with pytest.raises(psycopg.errors.DuplicateObject):
                preparing.execute("PREPARE TRANSACTION 'theirs'")
        refused = []
        for connection in (agent, preparing):
            connection.rollback()
            connection.autocommit = True
            for text in ("COMMIT PREPARED 'theirs'", "/* */ rollback Prepared E'\\x74heirs'"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege) as error:
                    connection.execute(text.encode())
                refused.append(error.value)
        owner.execute("ROLLBACK PREPARED 'theirs'")

    assert len(refused) == 4


@pytest.mark.parametrize("known_from", ["its own PREPARE", "an earlier look", "the portal's Bind"])
def test_a_name_that_was_prepared_anew_is_not_ended_midway_in_a_request(
    stack: Stack, applied: str, known_from: str
) -> None:
    """What the gateway knew of a name once is not what stands behind it now."""
    end = "COMMIT PREPARED 'renewed'"
    portal = parse(end, name="s") + bind(portal="p", statement="s")
    with (
        Wire(gateway_target(stack, connection="pairs-phi", agent="pair-agent")) as agent,
        psycopg.connect(stack.gateway_dsn(user="pair-agent", connection="pairs-phi")) as first,
        psycopg.connect(stack.gateway_dsn(user="pair-other", connection="pairs-phi")) as other,
        psycopg.connect(applied, autocommit=True) as owner,
    ):
        if known_from == "its own PREPARE":
            answers = [agent.simple(text) for text in ("BEGIN", "INSERT INTO marks VALUES ('x')")]
            answers.append(agent.simple("PREPARE TRANSACTION 'renewed'"))
            assert not any(answer.errors for answer in answers)
        else:
            first.execute("INSERT INTO marks VALUES ('x')")
            first.execute("PREPARE TRANSACTION 'renewed'")
        if known_from == "an earlier look":
            assert not agent.request(parse(end, name="s") + SYNC).errors
        if known_from == "the portal's Bind":
            agent.socket.sendall(portal + message(b"H"))
            assert [agent.read_message()[0] for _ in range(2)] == [b"1", b"2"]

        owner.execute("ROLLBACK PREPARED 'renewed'")
        other.execute("INSERT INTO marks VALUES ('theirs')")
        other.execute("PREPARE TRANSACTION 'renewed'")
        if known_from == "the portal's Bind":
            answer = agent.request(execute("p") + SYNC)
        else:
            answer = agent.request(parse("select 1") + parse(end, name="t") + bind(statement="t") + execute() + SYNC)

        assert answer.sqlstate == "42501"
        owner.execute("ROLLBACK PREPARED 'renewed'")


@pytest.mark.parametrize("taken", [False, True], ids=["its own still", "another's meanwhile"])
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_an_end_that_was_held_ends_what_was_meant(stack: Stack, applied: str, protocol: str, taken: bool) -> None:
    """A reviewer takes minutes: the name may be another's by the time the approval comes."""
    name = f"held-{protocol}-{taken}"
    end = f"COMMIT PREPARED '{name}'"
    target = gateway_target(stack, connection="pairs-held", agent="pair-agent")
    with (
        Wire(target, cancel_holds=False, timeout_s=60) as agent,
        psycopg.connect(applied) as other,
        psycopg.connect(applied, autocommit=True) as owner,
    ):
        for text in ("BEGIN", f"INSERT INTO marks VALUES ('{name}')", f"PREPARE TRANSACTION '{name}'"):
            assert not agent.simple(text).errors
        request = message(b"Q", end.encode() + b"\0") if protocol == "simple" else whole(end) + SYNC
        agent.socket.sendall(request)
        url = pending_review(stack, name)
        if taken:
            owner.execute(f"ROLLBACK PREPARED '{name}'".encode())
            other.execute("INSERT INTO marks VALUES (%s)", [f"{name}-theirs"])
            other.execute(f"PREPARE TRANSACTION '{name}'".encode())
        decide(stack, url, "approve")
        answer = Answer()
        agent.read_until_ready(answer)
        if taken:
            owner.execute(f"ROLLBACK PREPARED '{name}'".encode())

    assert (answer.sqlstate, answer.tags) == (("42501", []) if taken else ("", ["COMMIT PREPARED"]))
    mine = stack.gateway_dsn(user="pair-agent", connection="pairs-phi")
    assert counted(mine, name) == (0 if taken else 1)
