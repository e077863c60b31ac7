"""pg_dump and pg_restore on an open connection: the dump is the one a direct connection gives, and it restores."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest

from hoopweb.embedded.postgres import postgres_binaries
from tests.clients.scratch import Ways, open_connection
from tests.stack import Stack

_SCHEMA = """
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('fine', 'so-so');
CREATE TABLE shop.owners (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood shop.mood);
CREATE TABLE shop.things (id serial PRIMARY KEY, owner int REFERENCES shop.owners, note text, data bytea,
    made timestamptz DEFAULT '2024-02-29', CHECK (id > 0));
CREATE INDEX things_note ON shop.things (lower(note));
CREATE VIEW shop.owned AS SELECT o.name, count(*) FROM shop.owners o JOIN shop.things t ON t.owner = o.id GROUP BY 1;
CREATE FUNCTION shop.twice(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN n * 2; END $$;
INSERT INTO shop.owners (name, mood) SELECT 'owner ' || n, 'fine' FROM generate_series(1, 20) n;
INSERT INTO shop.things (owner, note, data) SELECT n % 20 + 1, E'tab\\t and \\\\ and "quotes"\\n' || n, '\\x00ff' FROM
    generate_series(1, 500) n;
COMMENT ON TABLE shop.things IS 'it''s a table; with a semicolon';
"""


def dump(dsn: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(postgres_binaries() / "pg_dump"), "-d", dsn, *arguments], capture_output=True, timeout=120, check=False
    )


def without_salt(text: bytes) -> list[bytes]:
    r"""The lines of a plain dump but those of its random `\restrict` key."""
    return [line for line in text.splitlines() if not line.startswith((b"\\restrict", b"\\unrestrict"))]


@pytest.fixture(scope="module")
def shop(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Ways:
    ways = open_connection(stack, tmp_path_factory.mktemp("shop"), name="shop")
    with psycopg.connect(ways.direct, autocommit=True) as direct:
        direct.execute(_SCHEMA)
    return ways


@pytest.mark.parametrize("arguments", [(), ("--data-only", "--column-inserts")])
def test_pg_dump_is_the_dump_of_a_direct_connection(shop: Ways, arguments: tuple[str, ...]) -> None:
    direct, through = dump(shop.direct, *arguments), dump(shop.through, *arguments)

    assert through.returncode == 0, through.stderr.decode()
    assert without_salt(through.stdout) == without_salt(direct.stdout)


def test_pg_restore_restores_through_the_gateway(stack: Stack, shop: Ways, tmp_path: Path) -> None:
    archive = tmp_path / "shop.dump"
    copy = open_connection(stack, tmp_path, name="shop_copy")
    assert dump(shop.through, "-Fc", "-f", str(archive)).returncode == 0

    restored = subprocess.run(
        [str(postgres_binaries() / "pg_restore"), "-d", copy.through, "--exit-on-error", str(archive)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert restored.returncode == 0, restored.stderr
    assert without_salt(dump(copy.direct).stdout) == without_salt(dump(shop.direct).stdout)
