"""The clients of docs/agents.md and docs/mcp.md, exactly as the pages spell them, against the running product."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from hoopweb.embedded.postgres import postgres_binaries
from tests.gateway.domain.issuer import running_issuer
from tests.stack import PROJECT, Stack

PAGE = (PROJECT / "docs" / "agents.md").read_text(encoding="utf-8")
QUERY = "SELECT state, ssn FROM patients WHERE id = 5"


def recipe(client: str) -> str:
    [row] = re.findall(rf"^\| {client} \| `(.+?)`", PAGE, re.M)
    return str(row)


def spelled(client: str, stack: Stack) -> str:
    return recipe(client).replace("6432", str(stack.demo["postgres"]["port"]))


def masked(row: Any) -> bool:
    return len(str(row[0])) == 2 and "-" not in str(row[1])


def engine_of(stack: Stack) -> Any:
    from sqlalchemy import URL, create_engine

    return eval(
        spelled("SQLAlchemy", stack), {"create_engine": create_engine, "URL": URL, "token": stack.agent_token()}
    )


def test_psql(stack: Stack):
    [command] = re.findall(r"^\| psql \| `(psql .+?)`", PAGE, re.M)
    command = command.replace("6432", str(stack.demo["postgres"]["port"])).replace(
        "psql ", f"{postgres_binaries()}/psql -X -Atc '{QUERY}' ", 1
    )

    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "TOKEN": stack.agent_token()},
        capture_output=True,
        text=True,
        check=False,
    )

    assert masked(done.stdout.strip().split("|")), done.stderr


def test_psycopg(stack: Stack):
    with eval(spelled("psycopg", stack), {"psycopg": psycopg, "token": stack.agent_token()}) as connection:
        assert masked(connection.execute(QUERY).fetchone())


def test_asyncpg(stack: Stack):
    import asyncpg

    async def ask() -> Any:
        call = spelled("asyncpg", stack).removeprefix("await ")
        connection = await eval(call, {"asyncpg": asyncpg, "token": stack.agent_token()})
        try:
            return await connection.fetchrow(QUERY)
        finally:
            await connection.close()

    assert masked(asyncio.run(ask()))


def test_sqlalchemy_and_pandas(stack: Stack):
    import pandas
    from sqlalchemy import text

    engine = engine_of(stack)
    with engine.connect() as connection:
        assert masked(connection.execute(text(QUERY)).fetchone())
    frame = eval(recipe("pandas"), {"pandas": pandas, "engine": engine})
    engine.dispose()

    assert int(frame["count"].sum()) > 10_000


def shell(command: str, **env: str) -> Any:
    """Run a command of a page; what it prints is JSON."""
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ticket_is_a_password_once(stack: Stack):
    [command] = re.findall(r"^curl -s [^`]+?/api/v1/tickets$", PAGE, re.M)

    ticket = shell(command.replace("http://127.0.0.1:8000", stack.demo["web_url"]), TOKEN=stack.agent_token())
    password = next(value for name, value in ticket.items() if name in {"ticket", "password"})

    assert stack.psql("-Atc", "SELECT 41 + 1", token=password).stdout.strip() == "42"
    assert stack.psql("-Atc", "SELECT 41 + 1", token=password).returncode == 2


def test_ci_job_becomes_its_agent_without_a_stored_secret(stack: Stack, tmp_path: Path):
    """The platform is a server of the test's own; all else is as the page says."""
    [document] = [block for block in re.findall(r"```yaml\n(.+?)```", PAGE, re.S) if "nightly-report" in block]
    [exchange] = re.findall(r"^TOKEN=\$\((curl .+?) \| jq -r \.access_token\)", PAGE, re.M | re.S)
    rules = yaml.safe_load(document)
    job = {"sub": "repo:example/reports", "repository": "example/reports", "ref": "refs/heads/main", "groups": None}
    with running_issuer() as platform:
        rules["issuers"] = [{"name": "github", "issuer": platform.url, "jwks_uri": f"{platform.url}/jwks"}]
        rules["issuers"][0] |= {"audience": "hoopweb", "algorithms": ["RS256"]}
        rules["agents"][0]["federation"][0]["issuer"] = platform.url
        path = tmp_path / "ci.yaml"
        path.write_text(yaml.safe_dump({"apiVersion": "hoopweb/v1", **rules}), encoding="utf-8")
        applied = stack.manage("apply", "-f", str(path))
        assert applied.returncode == 0, applied.stderr
        command = exchange.replace("https://hoopweb.example.org", stack.demo["web_url"])

        granted = shell(command, ID_TOKEN=platform.token(**job))
        of_a_fork = shell(command, ID_TOKEN=platform.token(**job | {"repository": "somebody/reports"}))

    with psycopg.connect(stack.gateway_dsn(user="nightly-report", token=granted["access_token"])) as connection:
        assert masked(connection.execute(QUERY).fetchone())
    assert of_a_fork["error"] == "invalid_grant"


def test_mcp_client(stack: Stack):
    """The page's own lines, made into a function."""
    page = (
        (PROJECT / "docs" / "mcp.md")
        .read_text(encoding="utf-8")
        .replace("http://127.0.0.1:8000", stack.demo["web_url"])
    )
    [lines] = re.findall(r"```python\n(.+?)```", page, re.S)
    names: dict[str, Any] = {"token": stack.agent_token()}
    exec(f"async def ask():\n{textwrap.indent(lines, '    ')}    return answer\n", names)

    answer = asyncio.run(names["ask"]())

    assert answer.structured_content["status"] == "completed"
    assert int(answer.structured_content["rows"][0][0]) > 10_000


@pytest.mark.parametrize("client", ["JDBC"])
def test_other_recipes_name_the_same_parts(client: str):
    """It has a suite of its own; the page must not drift from it."""
    assert f"| {client}" in PAGE
