"""Every technique, type and format: the server accepts the masked bytes, psycopg and asyncpg decode them.

The masked bytes of a real value are bound back into the type by the server's own input or receive function, and read
again by both drivers; psycopg also decodes the masked bytes exactly as they would arrive from the wire.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import asyncpg
import psycopg
import pytest
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format

from masking.detectors.scan import compile_scan
from masking.engines.registry import TECHNIQUES, compile_mask
from masking.engines.types import MaskOptions, target_for

# type → an expression whose value is not its own mask
TYPES = {
    "text": "'123-45-6789'",
    "varchar(20)": "'123-45-6789'",
    "char(20)": "'123-45-6789'",
    "name": "'Maria Garcia'",
    "int2": "1234",
    "int4": "90210",
    "int8": "9876543210",
    "numeric(12,2)": "12345.67",
    "float4": "1.5",
    "float8": "-2.5e10",
    "bool": "true",
    "date": "'1951-07-04'",
    "timestamp": "'1951-07-04 12:34:56.789'",
    "timestamptz": "'1951-07-04 12:34:56.789+02'",
    "time": "'12:34:56'",
    "timetz": "'12:34:56+02'",
    "interval": "'3 days'",
    "uuid": "'0190d0a2-0b5c-4f7e-8a57-6f2a9d5f0c11'",
    "json": '\'{"name": "Maria Garcia", "n": 1}\'',
    "jsonb": '\'{"name": "Maria Garcia", "n": 1}\'',
    "bytea": "'SSN 123-45-6789'",
    "inet": "'10.1.2.3'",
    "text[]": "'{Maria Garcia,x}'",
    "int4[]": "'{1,2}'",
    "int4range": "'[1,5)'",
    "mask_mood": "'happy'",
    "mask_domain": "'123-45-6789'",
    "mask_pair": "'(1,\"Maria Garcia\")'",
}
TECHNIQUE_NAMES = [*sorted(TECHNIQUES), "scan"]
PREPARE = """
    DROP TYPE IF EXISTS mask_mood, mask_pair CASCADE; DROP DOMAIN IF EXISTS mask_domain CASCADE;
    CREATE TYPE mask_mood AS ENUM ('happy', 'sad'); CREATE TYPE mask_pair AS (a int, b text);
    CREATE DOMAIN mask_domain AS text CHECK (value <> '');
"""


@pytest.fixture(scope="module")
def dsn(postgres_dsn: str) -> Iterator[str]:
    schema = f"masks_{os.getpid()}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET search_path = {schema}")
        connection.execute(PREPARE)
    yield f"{postgres_dsn}{'&' if '?' in postgres_dsn else '?'}options=-csearch_path%3D{schema}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


@pytest.fixture
async def asyncpg_connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(dsn)
    yield opened
    await opened.close()


def masked_value(
    connection: psycopg.Connection, *, type_name: str, technique: str, fmt: Format
) -> tuple[bytes | None, bytes, int]:
    """Return the masked bytes, the original bytes and the OID the server described the column by."""
    result = connection.pgconn.exec_params(f"SELECT {TYPES[type_name]}::{type_name}".encode(), None, result_format=fmt)
    assert result.status == ExecStatus.TUPLES_OK
    original, oid = result.get_value(0, 0), result.ftype(0)
    assert original is not None
    target = target_for(type_oid=oid, binary=fmt == Format.BINARY)
    if technique == "scan":
        mask = compile_scan(target)
        return (original if mask is None else mask(original)), original, oid
    options = MaskOptions(data_class="c", this_year=2026, key=b"k" * 32)
    return compile_mask(technique, target=target, options=options)(original), original, oid


@pytest.mark.parametrize("fmt", [Format.TEXT, Format.BINARY])
@pytest.mark.parametrize("technique", TECHNIQUE_NAMES)
@pytest.mark.parametrize("type_name", TYPES)
async def test_masked_value_is_valid_for_server_and_drivers(
    connection: psycopg.Connection,
    asyncpg_connection: asyncpg.Connection,
    type_name: str,
    technique: str,
    fmt: Format,
) -> None:
    masked, original, oid = masked_value(connection, type_name=type_name, technique=technique, fmt=fmt)

    accepted = connection.pgconn.exec_params(
        f"SELECT $1::{type_name}::text".encode(), [masked], param_types=[oid], param_formats=[fmt]
    )
    assert accepted.status == ExecStatus.TUPLES_OK, accepted.error_message.decode()
    if masked is not None:
        Transformer(connection).get_loader(oid, fmt).load(masked)
        literal = accepted.get_value(0, 0)
        assert literal is not None
        await asyncpg_connection.fetchval(f"SELECT '{literal.decode().replace(chr(39), chr(39) * 2)}'::{type_name}")
    if technique != "scan":
        assert masked != original


@pytest.mark.parametrize("type_name", ["text", "json", "jsonb", "bytea", "text[]", "mask_pair"])
@pytest.mark.parametrize("fmt", [Format.TEXT, Format.BINARY])
def test_scan_leaves_nothing_of_the_name_or_number(connection: psycopg.Connection, type_name: str, fmt: Format) -> None:
    masked, original, _oid = masked_value(connection, type_name=type_name, technique="scan", fmt=fmt)

    assert masked != original
    assert b"Garcia" not in (masked or b"")
    assert b"6789" not in (masked or b"")
