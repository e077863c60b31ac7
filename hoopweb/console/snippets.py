"""What to paste into a client, with this installation's own addresses and a connection's and an agent's names."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from gateway.domain.addresses import is_loopback
from gateway.models import Connection

TOKEN_PATH = "/v1/token"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Snippet:
    title: str
    text: str


def for_agent(*, connection: Connection, agent: str) -> list[Snippet]:
    """The snippets of the connection's kind, those every kind has last."""
    own = _bigquery(connection) if connection.kind == Connection.Kind.BIGQUERY else _postgres(connection.name, agent)
    return [*own, *_http(connection.name)]


def _postgres(connection: str, agent: str) -> list[Snippet]:
    host, port = settings.HOOPWEB_LISTEN, settings.HOOPWEB_POSTGRES_PORT
    # Off loopback a token is accepted as a password inside TLS only.
    tls, jdbc_tls = ("", "") if is_loopback(host) else (" sslmode=verify-full", "&sslmode=verify-full")
    python_tls = ', sslmode="verify-full"' if tls else ""
    return [
        Snippet("psql", f'psql "host={host} port={port} dbname={connection} user={agent} password=$TOKEN{tls}"'),
        Snippet(
            "Python (psycopg)",
            "import os, psycopg\n\n"
            f'with psycopg.connect(host="{host}", port={port}, dbname="{connection}", user="{agent}",\n'
            f'                     password=os.environ["TOKEN"]{python_tls}) as db:\n'
            '    print(db.execute("SELECT 1").fetchone())',
        ),
        Snippet(
            "Node (pg)",
            'import pg from "pg";\n\n'
            f'const db = new pg.Client({{ host: "{host}", port: {port}, database: "{connection}", user: "{agent}",\n'
            f"                           password: process.env.TOKEN{', ssl: true' if tls else ''} }});\n"
            'await db.connect();\nconsole.log((await db.query("SELECT 1")).rows);\nawait db.end();',
        ),
        Snippet(
            "JDBC",
            f'DriverManager.getConnection("jdbc:postgresql://{host}:{port}/{connection}?user={agent}{jdbc_tls}&password="\n'
            '    + URLEncoder.encode(System.getenv("TOKEN"), UTF_8));',
        ),
    ]


def _bigquery(connection: Connection) -> list[Snippet]:
    project = connection.settings.get("project", "")
    gateway = settings.HOOPWEB_HTTP_URL
    endpoint = f"{gateway}/c/{connection.name}"
    return [
        Snippet(
            "BigQuery (Python)",
            "import os\nfrom google.cloud import bigquery\nfrom google.oauth2.credentials import Credentials\n\n"
            f'client = bigquery.Client(project="{project}", credentials=Credentials(os.environ["TOKEN"]),\n'
            f'                         client_options={{"api_endpoint": "{endpoint}"}})\n'
            'print(list(client.query_and_wait("SELECT 1")))',
        ),
        Snippet(
            "credentials.json, for Google's libraries: where the agent's own token lies, and no secret",
            f'{{"type": "external_account", "audience": "{gateway}", "token_url": "{gateway}{TOKEN_PATH}",\n'
            ' "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",\n'
            ' "credential_source": {"file": "/var/run/secrets/agent/token"}}',
        ),
        Snippet(
            "bq (Cloud SDK)",
            "(umask 077; echo $TOKEN > token)\nexport CLOUDSDK_AUTH_ACCESS_TOKEN_FILE=token\n"
            f"bq --api {endpoint} --project_id {project} query --nouse_legacy_sql 'SELECT 1'",
        ),
        Snippet(
            "dbt, and programs that make their own client",
            f"export GOOGLE_APPLICATION_CREDENTIALS=credentials.json\nexport BIGQUERY_EMULATOR_HOST={endpoint}",
        ),
    ]


def _http(connection: str) -> list[Snippet]:
    web = settings.HOOPWEB_WEB_URL
    return [
        Snippet(
            "MCP client",
            '{"mcpServers": {"hoopweb": {"type": "http", "url": "' + web + '/mcp",\n'
            '                            "headers": {"Authorization": "Bearer <the token>"}}}}',
        ),
        Snippet(
            "curl",
            'curl -s -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\\n'
            '  -d \'{"statement": "SELECT 1"}\' \\\n'
            f"  {web}/api/v1/connections/{connection}/statements",
        ),
    ]
