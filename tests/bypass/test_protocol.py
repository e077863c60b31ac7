"""Protocol: other frames than Query and one Execute that carry rows, and frames in an order nobody expects."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.bypass.attack import (
    EXTENDED,
    SIMPLE_ONLY,
    Arena,
    Attack,
    Mode,
    Step,
    assert_contained,
    attack,
    case_id,
    cases,
    play,
)
from tests.bypass.wire import (
    FLUSH,
    SYNC,
    Answer,
    ConnectionLost,
    Target,
    Wire,
    bind,
    describe_portal,
    describe_statement,
    execute,
    function_call,
    message,
    parse,
)

SSN = "SELECT ssn FROM patients WHERE id = 900001"
NAME, STATE = (f"SELECT {column} AS x FROM patients WHERE id = 900001" for column in ("last_name", "state"))
HARMLESS = "SELECT id FROM patients WHERE id = 900001"


def frames(*parts: bytes) -> Step:
    """A step that sends these messages in one write, whatever the mode."""

    def step(wire: Wire, _: Mode) -> Answer:
        return wire.request(b"".join(parts))

    return step


def in_mode(build: Callable[[bool], bytes]) -> Step:
    """A step whose messages depend on the result format: `build(binary)` returns them."""

    def step(wire: Wire, mode: Mode) -> Answer:
        return wire.request(build(mode is Mode.EXTENDED_BINARY))

    return step


def call_lookup(wire: Wire, mode: Mode) -> Answer:
    """The fast path (protocol-flow, "Function call") on a function that reads an SSN."""
    oid = wire.simple("SELECT 'attack_lookup'::regproc::oid").rows
    number = int(oid[0][0]) if oid and oid[0][0] else 0
    binary = mode is Mode.EXTENDED_BINARY
    body = struct.pack("!ihhh", number, 1, int(binary), 1)
    argument = struct.pack("!i", 900001) if binary else b"900001"
    return wire.request(
        message(b"F", body + struct.pack("!i", len(argument)) + argument + struct.pack("!h", int(binary)))
    )


def read_large_object(wire: Wire, _: Mode) -> Answer:
    """lo_get over the fast path, as libpq's large-object calls do (OID 3458)."""
    first = wire.simple("SELECT lo_from_bytea(887766, ssn::bytea) FROM patients WHERE id = 900001")
    return first + wire.request(function_call(3458, [b"887766"]))


def portal_in_pieces(wire: Wire, mode: Mode) -> Answer:
    """PortalSuspended: the second fetch must be masked like the first."""
    sql = "SELECT ssn, n FROM patients, generate_series(1, 4) n WHERE id = 900001 ORDER BY n"
    binary = mode is Mode.EXTENDED_BINARY
    start = parse(sql) + bind(portal="pp", binary=binary) + describe_portal("pp") + execute("pp", max_rows=1) + FLUSH
    return wire.request(start + execute("pp", max_rows=1) + execute("pp", max_rows=0) + SYNC)


def portal_after_unrelated_traffic(wire: Wire, mode: Mode) -> Answer:
    binary = mode is Mode.EXTENDED_BINARY
    sql = "SELECT ssn FROM patients, generate_series(1, 2) WHERE id = 900001"
    answer = wire.simple("BEGIN")
    answer += wire.request(parse(sql) + bind(portal="pp", binary=binary) + execute("pp", max_rows=1) + SYNC)
    answer += wire.simple(HARMLESS)
    return answer + wire.request(execute("pp") + SYNC) + wire.simple("COMMIT")


def repeated_prepared(wire: Wire, mode: Mode) -> Answer:
    """Parse and Describe once, Execute later without Describe: the masks must be remembered."""
    binary = mode is Mode.EXTENDED_BINARY
    answer = wire.request(parse(SSN, name="s1") + describe_statement("s1") + SYNC)
    for _ in range(3):
        answer += wire.request(bind(statement="s1", binary=binary) + execute() + SYNC)
    return answer


def parameterised(wire: Wire, mode: Mode) -> Answer:
    binary = mode is Mode.EXTENDED_BINARY
    return wire.extended("SELECT ssn, $2::text FROM patients WHERE id = $1", [b"900001", b"x"], binary=binary)


def mixed_formats(wire: Wire, _: Mode) -> Answer:
    """One format code a column, the protected one binary."""
    bound = message(b"B", b"\0\0" + struct.pack("!hhhhh", 0, 0, 2, 0, 1))
    return wire.request(parse("SELECT id, dob FROM patients WHERE id = 900001") + bound + execute() + SYNC)


def prepare_by_text_execute_by_frame(wire: Wire, mode: Mode) -> Answer:
    """PREPARE and Parse share one name space."""
    binary = mode is Mode.EXTENDED_BINARY
    first = wire.simple(f"PREPARE shared AS {SSN}")
    return first + wire.request(bind(statement="shared", binary=binary) + describe_portal() + execute() + SYNC)


def prepare_by_frame_execute_by_text(wire: Wire, _: Mode) -> Answer:
    return wire.request(parse(SSN, name="shared2") + SYNC) + wire.simple("EXECUTE shared2")


def declare_by_text_execute_by_frame(wire: Wire, mode: Mode) -> Answer:
    """DECLARE CURSOR and Bind share one name space, too."""
    answer = wire.simple("BEGIN") + wire.simple(f"DECLARE shared CURSOR FOR {SSN}")
    return answer + wire.request(describe_portal("shared") + execute("shared") + SYNC) + wire.simple("COMMIT")


def bind_by_frame_fetch_by_text(wire: Wire, mode: Mode) -> Answer:
    answer = wire.simple("BEGIN")
    answer += wire.request(parse(SSN) + bind(portal="shared", binary=mode is Mode.EXTENDED_BINARY) + SYNC)
    return answer + wire.simple("FETCH ALL FROM shared") + wire.simple("COMMIT")


def statements_cut_to_one_name(wire: Wire, mode: Mode) -> Answer:
    """The server keeps 63 bytes of a name: closed as one, made as another, run as the first."""
    binary = mode is Mode.EXTENDED_BINARY
    first, other, third = (f"{'n' * 63}{number}" for number in range(3))
    answer = wire.request(parse(STATE, name=first) + SYNC)
    answer += wire.request(message(b"C", b"S" + other.encode() + b"\0") + parse(NAME, name=third) + SYNC)
    return answer + wire.request(bind(statement=first, binary=binary) + describe_portal() + execute() + SYNC)


def portals_cut_to_one_name(wire: Wire, mode: Mode) -> Answer:
    binary = mode is Mode.EXTENDED_BINARY
    first, other = f"{'p' * 63}1", f"{'p' * 63}2"
    answer = wire.simple("BEGIN") + wire.request(parse(STATE) + bind(portal=first, binary=binary) + SYNC)
    answer += wire.request(message(b"C", b"P" + other.encode() + b"\0") + SYNC)
    answer += wire.request(parse(NAME) + bind(portal=other, binary=binary) + SYNC)
    return answer + wire.request(execute(first) + SYNC) + wire.simple("COMMIT")


def unread_name_of_statement(wire: Wire, _: Mode) -> Answer:
    """U&"…" spells the name of one statement; the unnamed one is harmless."""
    answer = wire.request(parse(NAME, name="abc") + SYNC) + wire.request(parse(STATE) + SYNC)
    return (
        answer
        + wire.request(parse('EXECUTE U&"\\0061bc"', name="run") + SYNC)
        + wire.request(bind(statement="run") + execute() + SYNC)
    )


ATTACKS: list[Attack] = [
    attack("copy-query", f"COPY ({SSN}) TO STDOUT"),
    attack("copy-query-csv", f"COPY ({SSN}) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)"),
    attack("copy-query-binary", f"COPY ({SSN}) TO STDOUT (FORMAT binary)"),
    attack("copy-query-binary-date", "COPY (SELECT dob FROM patients WHERE id = 900001) TO STDOUT (FORMAT binary)"),
    attack("copy-old-syntax", f"COPY ({SSN}) TO STDOUT WITH CSV DELIMITER '|'"),
    attack(
        "copy-odd-delimiter",
        "COPY (SELECT ssn, last_name FROM patients WHERE id = 900001) TO STDOUT (DELIMITER '|', NULL 'n')",
    ),
    attack(
        "copy-escaped-delimiter",
        r"COPY (SELECT ssn, last_name FROM patients WHERE id = 900001) TO STDOUT (DELIMITER E'\174', NULL E'\x6E')",
    ),
    attack("copy-table", "COPY patients TO STDOUT"),
    attack("copy-table-columns", "COPY patients (id, ssn) TO STDOUT"),
    attack("copy-column-order", "COPY patients (ssn, city, id) TO STDOUT (FORMAT csv)"),
    attack("copy-types", "COPY attack_identifiers TO STDOUT"),
    attack("copy-types-binary", "COPY attack_identifiers TO STDOUT (FORMAT binary)"),
    attack("copy-view", "COPY (SELECT code FROM attack_view WHERE id = 900001) TO STDOUT"),
    attack("copy-returning", "COPY (UPDATE patients SET sex = sex WHERE id = 900001 RETURNING ssn) TO STDOUT"),
    attack("copy-function", "COPY (SELECT attack_lookup(900001)) TO STDOUT"),
    attack("copy-whole-row", "COPY (SELECT to_jsonb(p) FROM patients p WHERE id = 900001) TO STDOUT"),
    attack("copy-encoding", f"COPY ({SSN}) TO STDOUT (ENCODING 'LATIN1')"),
    attack("copy-after-statement", f"SELECT 1; COPY ({SSN}) TO STDOUT; SELECT 2", modes=SIMPLE_ONLY),
    attack("copy-in-trigger", "COPY attack_echo (id) FROM STDIN", copy_in=b"900001\n"),
    attack(
        "copy-in-trigger-stores",
        "COPY attack_sink (id) FROM STDIN",
        "SELECT note FROM attack_sink WHERE id = 900001",
        copy_in=b"900001\n",
    ),
    attack(
        "copy-in-duplicate-key",
        "COPY patients (id, mrn, first_name, last_name, ssn, dob, sex, address, city, state, "
        "zip, registered_at) FROM STDIN",
        leaks=("(ssn)=(536-71-9284)",),
        copy_in=b"900777\tz\tz\tz\t536-71-9284\t1990-01-01\tF\tz\tz\tCA\t00000\t2024-01-01\n",
    ),
    attack("function-call", call_lookup),
    attack("function-call-large-object", read_large_object, modes=SIMPLE_ONLY),
    attack("portal-in-pieces", portal_in_pieces, modes=EXTENDED),
    attack("portal-after-unrelated-traffic", portal_after_unrelated_traffic, modes=EXTENDED),
    attack("prepared-again-and-again", repeated_prepared, modes=EXTENDED),
    attack("parameterised", parameterised, modes=EXTENDED),
    attack("mixed-formats", mixed_formats, modes=(Mode.EXTENDED_BINARY,)),
    attack("prepare-text-execute-frame", prepare_by_text_execute_by_frame, modes=EXTENDED),
    attack("prepare-frame-execute-text", prepare_by_frame_execute_by_text, modes=SIMPLE_ONLY),
    attack("declare-text-execute-frame", declare_by_text_execute_by_frame, modes=EXTENDED),
    attack("bind-frame-fetch-text", bind_by_frame_fetch_by_text, modes=EXTENDED),
    attack("statements-cut-to-one-name", statements_cut_to_one_name, modes=EXTENDED, transaction=False),
    attack("portals-cut-to-one-name", portals_cut_to_one_name, modes=EXTENDED),
    attack("unread-name-of-statement", unread_name_of_statement, modes=(Mode.EXTENDED_TEXT,)),
    attack(
        "unread-names-of-statements",
        *(f'PREPARE U&"\\0061bc" AS {STATE}', f"PREPARE other AS {NAME}", 'EXECUTE U&"oth\\0065r"'),
        "DEALLOCATE ALL",
        modes=SIMPLE_ONLY,
    ),
    attack(
        "unread-name-replaced",
        *(f'PREPARE U&"\\0061bc" AS {STATE}', "DEALLOCATE abc", f"PREPARE abc AS {NAME}", 'EXECUTE U&"\\0061bc"'),
        "DEALLOCATE ALL",
        modes=SIMPLE_ONLY,
    ),
    attack(
        "unread-names-of-cursors",
        "BEGIN",
        f'DECLARE U&"\\0061" CURSOR FOR {STATE}',
        f"DECLARE b CURSOR FOR {NAME}",
        'FETCH ALL FROM U&"\\0062"',
        "COMMIT",
    ),
    attack(
        "execute-without-describe", in_mode(lambda b: parse(SSN) + bind(binary=b) + execute() + SYNC), modes=EXTENDED
    ),
    attack(
        "describe-between",
        in_mode(
            lambda b: (
                parse(SSN)
                + describe_statement()
                + bind(binary=b)
                + describe_portal()
                + describe_statement()
                + execute()
                + SYNC
            )
        ),
        modes=EXTENDED,
    ),
    attack(
        "unnamed-statement-replaced-under-portal",
        in_mode(
            lambda b: (
                parse(SSN) + bind(portal="p", binary=b) + parse(HARMLESS) + describe_statement() + execute("p") + SYNC
            )
        ),
        modes=EXTENDED,
    ),
    attack(
        "two-portals-crossed",
        in_mode(
            lambda b: (
                parse(SSN, name="a")
                + parse(HARMLESS, name="b")
                + bind(portal="pa", statement="a", binary=b)
                + bind(portal="pb", statement="b", binary=b)
                + describe_portal("pb")
                + execute("pb")
                + execute("pa")
                + SYNC
            )
        ),
        modes=EXTENDED,
    ),
    attack(
        "name-reused-after-close",
        in_mode(
            lambda b: (
                parse(HARMLESS, name="n")
                + describe_statement("n")
                + message(b"C", b"Sn\0")
                + parse(SSN, name="n")
                + bind(statement="n", binary=b)
                + execute()
                + SYNC
            )
        ),
        modes=EXTENDED,
    ),
    attack(
        "name-reused-after-deallocate",
        in_mode(lambda b: parse(HARMLESS, name="n") + SYNC),
        "DEALLOCATE n",
        in_mode(lambda b: parse(SSN, name="n") + bind(statement="n", binary=b) + execute() + SYNC),
        modes=EXTENDED,
    ),
    attack(
        "failed-parse-keeps-old-name",
        in_mode(lambda b: parse(SSN, name="n") + SYNC),
        in_mode(lambda b: parse(HARMLESS, name="n") + SYNC),
        in_mode(lambda b: bind(statement="n", binary=b) + execute() + SYNC),
        modes=EXTENDED,
        transaction=False,
    ),
    attack(
        "pipeline-after-error",
        in_mode(lambda b: parse("SELECT nonsense FROM nowhere") + bind() + execute() + SYNC),
        in_mode(lambda b: parse(HARMLESS) + bind() + execute() + parse(SSN) + bind(binary=b) + execute() + SYNC),
        modes=EXTENDED,
        transaction=False,
    ),
    attack(
        "pipeline-two-syncs",
        in_mode(lambda b: parse(HARMLESS) + bind() + execute() + SYNC + parse(SSN) + bind(binary=b) + execute() + SYNC),
        lambda wire, _: wire.request(b""),
        modes=EXTENDED,
    ),
    attack(
        "binary-cursor-by-frame",
        "BEGIN",
        "DECLARE bc BINARY CURSOR FOR SELECT dob FROM patients WHERE id = 900001",
        frames(describe_portal("bc") + execute("bc") + SYNC),
        "COMMIT",
        modes=EXTENDED,
    ),
    attack("huge-value", "SELECT repeat(ssn, 200000) FROM patients WHERE id = 900001"),
    attack("huge-row", f"SELECT {', '.join(['ssn'] * 1600)} FROM patients WHERE id = 900001"),
    attack("many-rows", "SELECT p.ssn, n FROM patients p, generate_series(1, 20000) n WHERE p.id = 900001"),
    attack("huge-statement", f"SELECT ssn /* {'x' * 300_000} */ FROM patients WHERE id = 900001"),
    attack(
        "huge-in-list", f"SELECT ssn FROM patients WHERE id IN ({', '.join(str(i) for i in range(900001, 903000))})"
    ),
    attack("deep-nesting", "SELECT " + "(" * 200 + "ssn" + ")" * 200 + " FROM patients WHERE id = 900001"),
    attack("more-results-than-statements", "INSERT INTO attack_ruled VALUES (900001), (900002)", modes=SIMPLE_ONLY),
    attack("no-columns-then-rows", "SELECT FROM patients WHERE id = 900001; " + SSN, modes=SIMPLE_ONLY),
]


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), cases(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_protocol_discloses_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode)


@pytest.mark.e2e
@pytest.mark.parametrize("value", ["database", "true", "on", "1"])
def test_replication_connection_is_refused(arena: Arena, value: str) -> None:
    gateway = arena.gateway
    target = Target(
        gateway.host,
        gateway.port,
        gateway.database,
        gateway.user,
        gateway.password,
        gateway.tls,
        (("replication", value),),
    )

    with pytest.raises((ConnectionLost, ConnectionError)):
        Wire(target)


@pytest.mark.e2e
@pytest.mark.parametrize("mode", list(Mode))
def test_type_valid_masks_leave_every_column_readable(arena: Arena, mode: Mode) -> None:
    """A mask is a value of its column's type: the row has all its fields, and fixed-width ones their width."""
    answer = play(
        arena.gateway,
        attack("types", "SELECT national_id, account, balance, admitted, device FROM attack_identifiers WHERE id = 1"),
        mode,
        rehearsal=False,
    )

    assert answer.errors == []
    (row,) = answer.rows
    if mode is Mode.EXTENDED_BINARY:
        assert [None if value is None else len(value) for value in row] == [
            width if value is not None else None for width, value in zip((4, 8, 8, 4, 16), row, strict=True)
        ]
    else:
        assert len(row) == 5
