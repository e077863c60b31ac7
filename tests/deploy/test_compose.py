"""The container files, as far as they can be checked without an engine: they parse and fit each other."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hoopweb.embedded.deployment import create_deployment_secrets

PROJECT = Path(__file__).resolve().parents[2]
OURS = ("migrate", "web", "gateway", "worker", "evidence", "beat")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))
    return document


def test_compose_has_the_promised_services(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"postgres", "redis", *OURS}


def test_compose_secrets_are_declared_and_made(compose: dict[str, Any], tmp_path: Path) -> None:
    made = create_deployment_secrets(tmp_path)

    used = {name for service in compose["services"].values() for name in service.get("secrets", ())}
    brought = {"tls_cert", "tls_key"}

    assert used == set(compose["secrets"])
    assert used - brought <= {path.name for path in made.iterdir()}
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_making_what_is_missing_leaves_addresses_of_ones_own(tmp_path: Path) -> None:
    made = create_deployment_secrets(tmp_path)
    own = {"database_url": "postgresql://managed.example.org/hoopweb", "redis_url": "rediss://managed.example.org"}
    for name, address in own.items():
        (made / name).unlink()
        (made / name).write_text(address, encoding="utf-8")
    (made / "relay_key").unlink()

    create_deployment_secrets(tmp_path)

    assert {name: (made / name).read_text(encoding="utf-8") for name in own} == own
    assert (made / "relay_key").exists()


def test_compose_only_the_gateway_can_open_credentials(compose: dict[str, Any]) -> None:
    holders = [name for name in OURS if "credential_private_keys" in compose["services"][name].get("secrets", ())]

    assert holders == ["gateway"]


def test_compose_whoever_signs_checkpoints_can_write_the_anchors(compose: dict[str, Any]) -> None:
    for name in ("gateway", "web", "worker", "evidence"):
        assert "state:/var/lib/hoopweb" in compose["services"][name]["volumes"], name


def test_compose_passes_every_secret_as_a_file_that_is_mounted(compose: dict[str, Any]) -> None:
    for name in OURS:
        service = compose["services"][name]
        for variable, value in service["environment"].items():
            if variable.endswith("_FILE"):
                assert str(value).removeprefix("/run/secrets/") in service["secrets"], (name, variable)
            else:
                assert not re.search("PASSWORD|SECRET|KEY", variable), (name, variable)


def test_compose_variables_are_known_to_the_settings(compose: dict[str, Any]) -> None:
    settings = (PROJECT / "hoopweb" / "settings.py").read_text(encoding="utf-8")
    known = set(re.findall(r"env_\w+\(\s*\"([A-Z_]+)\"", settings))
    for name in OURS:
        asked = {key.removeprefix("HOOPWEB_").removesuffix("_FILE") for key in compose["services"][name]["environment"]}
        tls = {"TLS_CERT", "TLS_KEY"}  # paths by nature: HOOPWEB_TLS_CERT_FILE

        assert asked - tls <= known, name


def test_compose_variables_of_the_host_are_explained_in_the_example() -> None:
    text = (PROJECT / "compose.yaml").read_text(encoding="utf-8")
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")
    explained = set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))

    required = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    optional = set(re.findall(r"\$\{([A-Z_]+):-", text)) - {"HOOPWEB_BEHIND_PROXY"}

    assert required | optional == explained


def test_compose_runs_commands_that_exist(compose: dict[str, Any]) -> None:
    for name in OURS:
        command = compose["services"][name].get("command", [])
        if "manage.py" in command:
            verb = command[command.index("manage.py") + 1]
            assert verb == "migrate" or list(PROJECT.glob(f"*/management/commands/{verb}.py")), (name, verb)


def test_dockerfile_copies_what_exists_and_runs_as_nobody_special() -> None:
    lines = (PROJECT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    sources = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]

    assert all((PROJECT / source).exists() for source in sources), sources
    last_user = [line for line in lines if line.startswith("USER ")][-1]
    assert last_user == "USER hoopweb"
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= set(sources)


def test_settings_that_are_named_and_empty_are_those_of_the_embedded_provider() -> None:
    """As .env.example, hoopweb.env and the ConfigMap leave them: people were sent to /authorize, which is nowhere."""
    empty = {"HOOPWEB_OIDC_ISSUER": "", "HOOPWEB_OIDC_CLIENT_ID": "", "HOOPWEB_WEB_URL": "https://h.example.org"}
    asked = "import hoopweb.settings as s; print(s.OIDC_OP_AUTHORIZATION_ENDPOINT, s.OIDC_RP_CLIENT_ID)"

    told = subprocess.run(
        [sys.executable, "-c", asked], cwd=PROJECT, env=os.environ | empty, capture_output=True, text=True, check=True
    )

    assert told.stdout.split() == ["https://h.example.org/openid/authorize", "hoopweb-console"]


def test_compose_passes_any_other_setting(compose: dict[str, Any]) -> None:
    for name in OURS:
        assert compose["services"][name]["env_file"] == [{"path": "settings.env", "required": False}], name
