"""Parser and session: text that two readers understand differently, and settings that change what text means."""

from __future__ import annotations

import dataclasses

import pytest

from tests.bypass.attack import SIMPLE_ONLY, Arena, Attack, Mode, assert_contained, attack, by_turns, case_id, play
from tests.bypass.canary import found
from tests.bypass.wire import Answer, Wire

SSN = "SELECT ssn FROM patients WHERE id = 900001"
TAIL = "ssn FROM patients WHERE id = 900001"

LEXING = [
    attack("carriage-return-ends-comment", f"SELECT 1 -- x\r, {TAIL}"),
    attack("nested-comment-hides-line-comment", f"SELECT 1 /* /* */ + 1 -- */ , {TAIL}"),
    attack("nested-comment-in-comment", f"SELECT 1 /* a /* b */ ' */ , {TAIL} -- '"),
    attack("comment-in-name-position", "SELECT p/**/./**/ssn FROM patients/**/p WHERE id = 900001"),
    attack("leading-comment", f"/* harmless */ -- still\n {SSN}"),
    attack("form-feed-and-tab", SSN.replace(" ", "\f\t")),
    attack("vertical-tab", SSN.replace(" ", "\v")),
    attack("no-spaces", 'SELECT"ssn"FROM"patients"WHERE"id"=900001'),
    attack("mixed-case", "sElEcT SsN fRoM PaTiEnTs WhErE iD = 900001"),
    attack("escape-string", f"SELECT E'\\'' , {TAIL} -- '"),
    attack("escape-string-backslash-end", f"SELECT 'a\\', {TAIL} --'"),
    attack("dollar-quote", f"SELECT $x$ ' $x$, {TAIL} -- '"),
    attack("dollar-quote-nested-tag", f"SELECT $a$ $b$ $a$, {TAIL} -- $b$"),
    attack("dollar-in-name", f"SELECT 1 AS a$b$, {TAIL} -- $b$"),
    attack("string-continuation", f"SELECT 'a'\n'b', {TAIL}"),
    attack("unicode-identifier", 'SELECT U&"\\0073\\0073\\006E" FROM U&"p\\0061tients" WHERE id = 900001'),
    attack("unicode-identifier-uescape", "SELECT U&\"!0073sn\" UESCAPE '!' FROM patients WHERE id = 900001"),
    attack("unicode-string", f"SELECT U&'\\0027', {TAIL} -- '"),
    attack("national-string", f"SELECT N'x', {TAIL}"),
    attack("bit-string", f"SELECT B'1', X'F', {TAIL}"),
    attack("double-dash-operator", f"SELECT 1 - -1, {TAIL}"),
    attack("operator-with-comment", f"SELECT 1 +/* x */1, {TAIL}"),
    attack("cast-before-comment", f"SELECT 1::int--\n, {TAIL}"),
    attack("mysql-comment-is-a-comment", f"SELECT 1 /*! + 1 */, {TAIL}"),
    attack("hash-is-an-operator", f"SELECT 1 # 1, {TAIL}"),
    attack("backtick-like-operator", f"SELECT 1, {TAIL} AND id ! = 0".replace(" ! =", " <>")),
    attack("quoted-keyword-alias", 'SELECT ssn "from" FROM patients WHERE id = 900001'),
    attack("bare-label", "SELECT ssn name FROM patients WHERE id = 900001"),
    attack("type-cast-syntax", "SELECT CAST(ssn AS text), text(ssn) FROM patients WHERE id = 900001"),
    attack("question-operator", f"SELECT '{{}}'::jsonb ? 'a', {TAIL}"),
    attack("colon-in-slice", f"SELECT (ARRAY[1,2])[1:2], {TAIL}"),
    attack("empty-target-then-union", f"SELECT NULL::text UNION ALL {SSN}"),
    attack("parenthesised", f"(({SSN}))"),
    attack("parenthesised-union", f"(SELECT 'a') UNION ALL ({SSN}) ORDER BY 1"),
    attack("values-union", f"VALUES ('a') UNION ALL {SSN}"),
    attack(
        "table-union", "(SELECT 'a' AS ssn LIMIT 1) UNION ALL (SELECT ssn FROM (TABLE patients) t WHERE id = 900001)"
    ),
    attack("is-json", f"SELECT '1' IS JSON, {TAIL}"),
    attack(
        "overlaps",
        f"SELECT (date '2000-01-01', date '2000-01-02') OVERLAPS (date '2000-01-01', date '2001-01-01'), {TAIL}",
    ),
    attack("extract-keyword", f"SELECT EXTRACT(year FROM now()), {TAIL}"),
    attack("grouping-distinct", "SELECT ssn FROM patients WHERE id = 900001 GROUP BY DISTINCT ROLLUP (ssn), id"),
    attack("at-local", f"SELECT now() AT LOCAL, {TAIL}"),
    attack("underscored-number", "SELECT ssn FROM patients WHERE id = 900_001"),
    attack("hex-number", "SELECT ssn FROM patients WHERE id = 0xDBBA1"),
]

STACKED = [
    attack("stacked", f"SELECT 1; {SSN}", modes=SIMPLE_ONLY),
    attack("stacked-first", f"{SSN}; SELECT 1", modes=SIMPLE_ONLY),
    attack("stacked-after-comment", f"SELECT 1 /* ; */; {SSN} -- ;", modes=SIMPLE_ONLY),
    attack("stacked-after-string", f"SELECT ';'; {SSN}", modes=SIMPLE_ONLY),
    attack("stacked-after-dollar-quote", f"SELECT $$;$$; {SSN}", modes=SIMPLE_ONLY),
    attack("stacked-empty-statements", f";;/* */;{SSN};;", modes=SIMPLE_ONLY),
    attack(
        "stacked-set-then-read",
        "SET search_path = attack_shadow, public; SELECT kind FROM encounters WHERE id = 900001",
        modes=SIMPLE_ONLY,
    ),
    attack("stacked-begin-commit", f"BEGIN; {SSN}; COMMIT", modes=SIMPLE_ONLY),
    attack("stacked-create-then-read", f"CREATE TEMP TABLE loot AS {SSN}; SELECT * FROM loot", modes=SIMPLE_ONLY),
]

SETTINGS = [
    attack("standard-conforming-strings-off", "SET standard_conforming_strings = off", f"SELECT 'x\\'', {TAIL} --'"),
    attack(
        "standard-conforming-strings-off-set-config",
        "SELECT set_config('standard_conforming_strings', 'off', false)",
        f"SELECT 'x\\'', {TAIL} --'",
    ),
    attack(
        "standard-conforming-strings-off-startup",
        f"SELECT 'x\\'', {TAIL} --'",
        options=(("standard_conforming_strings", "off"),),
    ),
    attack(
        "standard-conforming-strings-off-options",
        f"SELECT 'x\\'', {TAIL} --'",
        options=(("options", "-c standard_conforming_strings=off"),),
    ),
    attack("client-encoding-sjis", "SET client_encoding = 'SJIS'", SSN),
    attack("client-encoding-gbk-startup", SSN, options=(("client_encoding", "GBK"),)),
    attack("client-encoding-latin1", "SET NAMES 'LATIN1'", SSN),
    attack("search-path", "SET search_path = attack_shadow, public", "SELECT kind FROM encounters WHERE id = 900001"),
    attack(
        "search-path-local",
        "BEGIN",
        "SET LOCAL search_path TO attack_shadow",
        "SELECT kind FROM encounters WHERE id = 900001",
        "COMMIT",
    ),
    attack(
        "search-path-set-config",
        "SELECT set_config('search_path', 'attack_shadow', false)",
        "SELECT kind FROM encounters WHERE id = 900001",
    ),
    attack("search-path-set-schema", "SET SCHEMA 'attack_shadow'", "SELECT kind FROM encounters WHERE id = 900001"),
    attack(
        "search-path-startup",
        "SELECT kind FROM encounters WHERE id = 900001",
        options=(("search_path", "attack_shadow,public"),),
    ),
    attack(
        "search-path-options",
        "SELECT kind FROM encounters WHERE id = 900001",
        options=(("options", "-c search_path=attack_shadow"),),
    ),
    attack(
        "search-path-after-warm-cache",
        "SELECT kind FROM encounters WHERE id = 900001",
        "SET search_path = attack_shadow, public",
        "SELECT kind FROM encounters WHERE id = 900001",
    ),
    attack(
        "search-path-rollback-restores",
        "SET search_path = attack_shadow",
        "BEGIN",
        "SET search_path = public",
        "ROLLBACK",
        "SELECT kind FROM encounters WHERE id = 900001",
        transaction=False,
    ),
    attack("function-shadowing", "SET search_path = attack_shadow, pg_catalog", "SELECT lower('x')"),
    attack("schema-qualified-shadow", "SELECT kind FROM attack_shadow.encounters WHERE id = 900001"),
    attack("schema-qualified-function", "SELECT attack_shadow.lower('x')"),
    attack(
        "temp-table-shadow",
        "CREATE TEMP TABLE encounters AS SELECT id, ssn AS kind FROM patients",
        "SELECT kind FROM encounters WHERE id = 900001",
    ),
    attack(
        "temp-view-shadow",
        "CREATE TEMP VIEW encounters AS SELECT id, ssn AS kind FROM patients",
        "SELECT kind FROM encounters WHERE id = 900001",
    ),
    attack(
        "datestyle", "SET datestyle = 'German'", "SELECT dob FROM patients WHERE id = 900001", leaks=("29.03.1947",)
    ),
    attack(
        "intervalstyle",
        "SET intervalstyle = 'iso_8601'",
        "SELECT age(timestamp '2047-03-29', dob) FROM patients WHERE id = 900001",
        leaks=("P100Y", "100 years"),
        modes=(Mode.SIMPLE, Mode.EXTENDED_TEXT),
    ),
    attack("bytea-escape", "SET bytea_output = 'escape'", "SELECT ssn::bytea FROM patients WHERE id = 900001"),
    attack(
        "debug-messages", "SET client_min_messages = log", "SET debug_print_plan = on", "SELECT attack_constant(900001)"
    ),
    attack(
        "session-then-reset",
        "SET search_path = attack_shadow",
        "RESET application_name",
        "SELECT kind FROM encounters WHERE id = 900001",
    ),
]

HIDDEN_SQL = [
    attack("query-to-json-like-functions", "SELECT attack_dynamic($$SELECT ssn FROM patients WHERE id = 900001$$)"),
    attack(
        "ts-stat",
        "SELECT word FROM ts_stat($$SELECT to_tsvector('simple', ssn || ' ' || last_name) FROM patients "
        "WHERE id = 900001$$)",
    ),
    attack(
        "ts-rewrite",
        "SELECT ts_rewrite('a'::tsquery, $$SELECT 'a'::tsquery, plainto_tsquery('simple', last_name) "
        "FROM patients WHERE id = 900001$$)::text",
    ),
    attack("has-privilege-is-harmless-but-row-is-not", f"SELECT has_table_privilege('patients', 'select'), {TAIL}"),
]

ATTACKS: list[Attack] = LEXING + STACKED + SETTINGS + HIDDEN_SQL

# What the upstream's own rights should stop as well; here the gateway must stop it first, whatever they are.
FORBIDDEN = [
    "SELECT pg_read_file('/etc/hostname')",
    "SELECT * FROM pg_read_file('/etc/hostname')",
    "SELECT pg_read_binary_file('/etc/hostname')",
    "SELECT * FROM pg_ls_dir('.')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT lo_export(1, '/tmp/x')",
    "SELECT * FROM dblink('dbname=clinic', 'SELECT ssn FROM patients') AS t(s text)",
    "SELECT query_to_xml('SELECT ssn FROM patients WHERE id = 900001', true, true, '')",
    "SELECT table_to_xml('patients', true, true, '')",
    "SELECT schema_to_xml('public', true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT cursor_to_xml('c', 1, true, true, '')",
    "SELECT * FROM pg_stat_get_activity(NULL)",
    "SELECT query FROM pg_stat_activity",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_cancel_backend(1)",
    "SELECT pg_reload_conf()",
    "COPY patients TO '/tmp/loot'",
    "COPY patients TO PROGRAM 'cat'",
    "COPY attack_echo FROM PROGRAM 'id'",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SET session_replication_role = replica",
    "ALTER ROLE clinic_app SET search_path = attack_shadow",
    "ALTER SYSTEM SET log_statement = 'all'",
    "ALTER DATABASE clinic SET search_path = attack_shadow",
    "CREATE EXTENSION dblink",
    "LOAD 'auto_explain'",
    "GRANT SELECT ON patients TO PUBLIC",
    "CREATE ROLE mallory SUPERUSER",
    "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p",
    "ALTER TABLE patients RENAME COLUMN ssn TO code",
    "DROP TABLE claims",
    "TRUNCATE claims",
    "VACUUM FULL patients",
    "SECURITY LABEL ON TABLE patients IS 'x'",
    "DO 'BEGIN END'",
]


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), by_turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_parser_and_session_disclose_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode)


@pytest.mark.e2e
@pytest.mark.parametrize("mode", [Mode.SIMPLE, Mode.EXTENDED_TEXT])
@pytest.mark.parametrize("sql", FORBIDDEN)
@pytest.mark.by_turns(2)
def test_forbidden_statement_is_refused_by_the_gateway(arena: Arena, sql: str, mode: Mode) -> None:
    answer = play(arena.gateway, attack("forbidden", sql), mode, rehearsal=False)

    # The database's own refusals come with an internal file and line; the gateway's never do.
    own = answer.review_url is not None or (answer.errors and "F" not in answer.errors[0])
    assert own, f"answered {answer.tags} {answer.errors}, expected the gateway to refuse"
    assert answer.rows == []


@pytest.mark.e2e
def test_stacked_statements_are_refused_in_one_parse(arena: Arena) -> None:
    answer = play(arena.gateway, attack("stacked", f"SELECT 1; {SSN}"), Mode.EXTENDED_TEXT, rehearsal=False)

    assert answer.rows == []
    assert answer.errors


@pytest.mark.e2e
@pytest.mark.parametrize("mode", list(Mode))
def test_view_redefined_behind_a_warm_cache_stays_masked(arena: Arena, mode: Mode) -> None:
    """Stale catalogue: the same text, the same column name, another origin since a moment ago."""
    read = "SELECT v FROM attack_swap WHERE id = 900001"
    innocent = "CREATE OR REPLACE VIEW attack_swap AS SELECT id, sex::text AS v FROM patients"

    def swap(_: Wire, __: Mode) -> Answer:
        with Wire(arena.owner) as owner:
            return owner.simple("CREATE OR REPLACE VIEW attack_swap AS SELECT id, ssn AS v FROM patients")

    swapped = attack("swap", read, swap, read)
    try:
        control = play(arena.direct, dataclasses.replace(swapped, transaction=False), mode, rehearsal=True)
        with Wire(arena.owner) as owner:
            owner.simple(innocent)
        answer = play(arena.gateway, swapped, mode, rehearsal=False)
    finally:
        with Wire(arena.owner) as owner:
            owner.simple(innocent)

    assert found(control.received) == ["ssn"]
    assert found(answer.received) == []


@pytest.mark.e2e
@pytest.mark.parametrize("mode", list(Mode))
def test_function_redefined_behind_a_warm_cache_discloses_nothing(arena: Arena, mode: Mode) -> None:
    read = "SELECT attack_shadow.greet(900001)"
    body = "CREATE OR REPLACE FUNCTION attack_shadow.greet(integer) RETURNS text LANGUAGE sql STABLE AS "
    innocent = body + "$$ SELECT 'hello'::text $$"

    def swap(_: Wire, __: Mode) -> Answer:
        with Wire(arena.owner) as owner:
            return owner.simple(body + "$$ SELECT ssn FROM public.patients WHERE id = $1 $$")

    with Wire(arena.owner) as owner:
        owner.simple(innocent)
    swapped = attack("swap", read, swap, read, transaction=False)
    control = play(arena.direct, swapped, mode, rehearsal=True)
    with Wire(arena.owner) as owner:
        owner.simple(innocent)

    answer = play(arena.gateway, swapped, mode, rehearsal=False)

    assert found(control.received) == ["ssn"]
    assert found(answer.received) == []
