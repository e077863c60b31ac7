"""Fill the clinic, create the people, apply the rules, issue tokens: what `manage.py load_demo` does. Safe to repeat.

Rows, passwords and rules that exist are kept: somebody may have worked with them. Ends by writing `demo.json.new` into
the home, which the embedded stack publishes as `demo.json` once everything answers.
"""

from __future__ import annotations

import json
import secrets
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import yaml
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command

from audit.domain.keys import audit_vkey
from gateway.domain.clients import holds_secret, live_secrets, set_client_secret
from gateway.domain.tokens import MAX_TTL_S, issue_person_token
from gateway.models import Agent
from hoopweb.demo.generate import generate, load
from hoopweb.demo.kept_hashes import KeptHashes
from hoopweb.embedded.secrets import ensure_secret, write_private, write_secret
from hoopweb.env import env_secret
from hoopweb.identity_provider import ensure_embedded_provider

TEMPLATE = Path(__file__).with_name("demo.yaml")
AGENT = "demo-agent"
USERS = ("admin", "reviewer", "reviewer2", "auditor")


def load_demo() -> bool:
    """Return whether the clinic had to be filled."""
    home: Path = settings.HOOPWEB_HOME
    app_url = env_secret("CLINIC_APP_URL", home=home)
    filled = fill_clinic(env_secret("CLINIC_OWNER_URL", home=home))
    passwords = create_users(home)
    ensure_embedded_provider()
    apply_rules(home, app_url)
    write_private(home / "demo.json.new", json.dumps(describe(app_url, passwords), indent=2) + "\n")
    return filled


def fill_clinic(owner_url: str) -> bool:
    """Create and load the clinical tables; False when they were there already (loading is one transaction)."""
    with psycopg.connect(owner_url) as connection:
        if connection.execute("SELECT to_regclass('public.patients')").fetchone() != (None,):
            return False
    load(owner_url, generate())
    return True


def create_users(home: Path) -> dict[str, str]:
    """Every demo account exists, with the random password kept in the home."""
    passwords = {}
    kept_hashes = KeptHashes(home)
    for username in USERS:
        passwords[username] = ensure_secret(home, f"user_{username}_password", _typable_password)
        user, _ = User.objects.get_or_create(username=username)
        user.email = user.email or f"{username}@example.org"
        user.is_staff = True
        user.is_superuser = username == "admin"
        if not kept_hashes.holds(username, user.password) and not user.check_password(passwords[username]):
            user.set_password(passwords[username])
        user.save()
        kept_hashes.keep(username, user.password)
    return passwords


def _typable_password() -> str:
    """80 random bits without signs: a double click selects all of it."""
    return secrets.token_hex(10)


def apply_rules(home: Path, app_url: str) -> None:
    """Fill in the template, keep it beside the data for people to edit and apply, and make it so."""
    document = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    (clinic,) = document["connections"]
    upstream = urlsplit(app_url)
    clinic |= {"host": upstream.hostname, "port": upstream.port}
    clinic["password"] = {"file": str(home / "secrets" / "clinic_app_password")}
    path = home / "demo.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    # The document lies beside the data; what changed is between the two and needs no line in the log.
    call_command("apply", file=str(path), person="admin", stdout=StringIO())


def describe(app_url: str, passwords: dict[str, str]) -> dict[str, Any]:
    """What outside checks rely on (see the contract of demo.json)."""
    return {
        "web_url": settings.HOOPWEB_WEB_URL,
        "http_url": settings.HOOPWEB_HTTP_URL,
        "postgres": {
            "host": settings.HOOPWEB_LISTEN,
            "port": settings.HOOPWEB_POSTGRES_PORT,
            "sslmode": "disable",
            "ca_file": "",
        },
        "users": {username: _user(username, password) for username, password in passwords.items()},
        "agents": {AGENT: _agent(settings.HOOPWEB_HOME)},
        "upstream": _upstream(app_url),
        "control_dsn": settings.HOOPWEB_DATABASE_URL,
        "audit_vkey": audit_vkey(),
    }


def _user(username: str, password: str) -> dict[str, str]:
    user = User.objects.get(username=username)
    return {"username": username, "password": password, "token": issue_person_token(user, MAX_TTL_S)}


def _agent(home: Path) -> dict[str, str]:
    """The agent's client credentials; the secret is replaced only when the stored hash is not of the one kept here."""
    agent = Agent.objects.get(name=AGENT)
    kept = env_secret("DEMO_AGENT_SECRET", home=home)
    kept_hashes = KeptHashes(home)
    newest = live_secrets(agent).first()
    if not kept or not ((newest and kept_hashes.holds(AGENT, newest.digest)) or holds_secret(agent, kept)):
        kept = set_client_secret(agent=agent)
        write_secret(home, "demo_agent_secret", kept)
        kept_hashes.keep(AGENT, live_secrets(agent)[0].digest)
    return {"client_id": agent.client_id, "client_secret": kept}


def _upstream(app_url: str) -> dict[str, str | int | None]:
    parts = urlsplit(app_url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "database": parts.path.lstrip("/"),
        "username": parts.username,
        "password": parts.password,
    }
