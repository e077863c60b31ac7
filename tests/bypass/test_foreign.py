"""What other servers answer: foreign tables (postgres_fdw) and dblink, called for real through a server that is itself.

No rule over `patients` reaches a table elsewhere that shows the same rows, nor a query that is a text.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.bypass.attack import SIMPLE_ONLY, Arena, Attack, Mode, assert_contained, attack, case_id
from tests.bypass.test_temporary import turns
from tests.stack import Stack

FAR = "FROM attack_far WHERE id = 900001"
ASKED = "'SELECT reverse(last_name) FROM patients WHERE id = 900001'"

ATTACKS: list[Attack] = [
    attack("foreign", f"SELECT reverse(last_name) {FAR}"),
    attack("foreign-star", f"SELECT * {FAR}"),
    attack("foreign-row", "SELECT reverse((f).last_name) FROM (SELECT f FROM attack_far f WHERE id = 900001) x(f)"),
    attack("foreign-document", "SELECT reverse(to_jsonb(f) ->> 'last_name') FROM attack_far f WHERE id = 900001"),
    attack("foreign-copied", f"COPY (SELECT reverse(last_name) {FAR}) TO STDOUT", modes=SIMPLE_ONLY),
    attack("foreign-prepared", f"PREPARE q AS SELECT reverse(last_name) {FAR}", "EXECUTE q"),
    attack("foreign-cursor", "BEGIN", f"DECLARE c CURSOR FOR SELECT reverse(last_name) {FAR}", "FETCH c", "ROLLBACK"),
    attack("foreign-in-cte", f"WITH w AS (SELECT reverse(last_name) AS x {FAR}) TABLE w"),
    attack("foreign-through-view", "SELECT reverse(last_name) FROM attack_far_view"),
    attack("foreign-partition", "SELECT reverse(last_name) FROM attack_far_parts WHERE id = 900001"),
    attack("foreign-into-temporary", f"CREATE TEMP TABLE k AS SELECT reverse(last_name) AS x {FAR}",
           "SELECT x FROM k"),
    attack("foreign-at-once", f"CREATE TEMP TABLE k AS SELECT reverse(last_name) AS x {FAR}; SELECT x FROM k",
           modes=SIMPLE_ONLY),
    attack("foreign-joined", "SELECT reverse(f.last_name) FROM encounters e JOIN attack_far f ON f.id = e.patient_id "
           "WHERE f.id = 900001"),
    attack("foreign-asked", f"SELECT 'n' || count(*) {FAR} AND ssn LIKE '536-71-928%'", leaks=("n1",)),
    attack("foreign-explained",
           f"EXPLAIN (ANALYZE, TIMING off, SUMMARY off, COSTS off) SELECT id {FAR} AND ssn LIKE '536%'",
           leaks=("rows=1",)),
    attack("dblink", f"SELECT x FROM attack_link.dblink('attack_loop', {ASKED}) AS t(x text)"),
    attack("dblink-quoted", f'SELECT x FROM attack_link."dblink"($$attack_loop$$, {ASKED}) AS t(x text)'),
    attack("dblink-spelled", f'select X from/**/ATTACK_LINK.U&"db\\006cink"(\'attack_loop\', {ASKED}) as t(X text)'),
    attack("dblink-subquery", f"SELECT (SELECT x FROM attack_link.dblink('attack_loop', {ASKED}) AS t(x text))"),
    attack("dblink-computed", f"SELECT x FROM attack_link.dblink('attack_loop', replace({ASKED[:-1]} ', 'q', '')) "
           "AS t(x text)"),
    attack("dblink-opened", "SELECT attack_link.dblink_connect('c', 'attack_loop')",
           f"SELECT x FROM attack_link.dblink('c', {ASKED}) AS t(x text)"),
    attack("dblink-sent", "SELECT attack_link.dblink_connect('c', 'attack_loop')",
           f"SELECT attack_link.dblink_send_query('c', {ASKED})",
           "SELECT x FROM attack_link.dblink_get_result('c') AS t(x text)"),
    attack("dblink-prepared", f"PREPARE q AS SELECT x FROM attack_link.dblink('attack_loop', {ASKED}) AS t(x text)",
           "EXECUTE q"),
    attack("dblink-through-view", "SELECT x FROM attack_link_view"),
]  # fmt: skip


@pytest.fixture(scope="module")
def far(arena: Arena, stack: Stack) -> Iterator[None]:
    """A server that is this one, reached as its superuser: what a DBA may have made for reports."""
    upstream = stack.demo["upstream"]
    own = psycopg.conninfo.conninfo_to_dict(stack.superuser_dsn(str(upstream["database"])))
    place = {key: sql.Literal(str(own[key])) for key in ("host", "port", "user")}
    filled = {**place, "database": sql.Literal(str(own["dbname"])), "password": sql.Literal(str(own["password"]))}
    with psycopg.connect(stack.superuser_dsn(str(upstream["database"])), autocommit=True) as owner:
        owner.execute(_GONE)
        owner.execute(sql.SQL(_MADE).format(**filled, asked=sql.SQL(ASKED)))
        yield
        owner.execute(_GONE)


_GONE = """
DROP SCHEMA IF EXISTS attack_link CASCADE; DROP SERVER IF EXISTS attack_loop CASCADE;
DROP TABLE IF EXISTS attack_far_parts CASCADE; DROP EXTENSION IF EXISTS postgres_fdw CASCADE
"""
_MADE = """
CREATE SCHEMA attack_link;
CREATE EXTENSION dblink SCHEMA attack_link;
CREATE EXTENSION postgres_fdw SCHEMA attack_link;
CREATE SERVER attack_loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {host}, port {port}, dbname {database});
CREATE USER MAPPING FOR PUBLIC SERVER attack_loop OPTIONS (user {user}, password {password});
CREATE FOREIGN TABLE attack_far (id integer, ssn text, last_name text) SERVER attack_loop
    OPTIONS (schema_name 'public', table_name 'patients');
CREATE VIEW attack_far_view AS SELECT last_name FROM attack_far WHERE id = 900001;
CREATE TABLE attack_far_parts (id integer, last_name text) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE attack_far_part PARTITION OF attack_far_parts FOR VALUES FROM (900001) TO (900002)
    SERVER attack_loop OPTIONS (schema_name 'public', table_name 'patients');
CREATE VIEW attack_link_view AS SELECT x FROM attack_link.dblink('attack_loop', {asked}) AS t(x text);
GRANT USAGE ON SCHEMA attack_link TO PUBLIC;
GRANT USAGE ON FOREIGN SERVER attack_loop TO PUBLIC;
GRANT SELECT ON attack_far, attack_far_view, attack_far_parts, attack_far_part, attack_link_view TO PUBLIC;
"""


@pytest.mark.e2e
@pytest.mark.usefixtures("far")
@pytest.mark.parametrize(("each", "mode"), turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_another_server_discloses_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode, at=arena.bare)
