"""The management commands and files outside checks rely on."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml

from tests.stack import Stack


def test_demo_file_is_private_and_complete(stack: Stack):
    path = stack.home / "demo.json"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    demo = stack.demo
    assert {
        "web_url", "postgres", "http_url", "users", "agents", "upstream", "control_dsn", "audit_vkey",
    } <= demo.keys()  # fmt: skip
    assert {"host", "port", "sslmode", "ca_file"} <= demo["postgres"].keys()
    assert {"admin", "reviewer", "reviewer2", "auditor"} <= demo["users"].keys()
    assert all({"username", "password", "token"} <= user.keys() for user in demo["users"].values())
    assert "client_id" in demo["agents"]["demo-agent"]
    assert {"host", "port", "database", "username", "password"} <= demo["upstream"].keys()


def test_clinic_has_the_promised_tables(stack: Stack):
    with stack.direct() as direct:
        patients = direct.execute("select count(*) from patients").fetchone()
        for table in ("encounters", "diagnoses", "lab_results", "clinical_notes", "claims"):
            assert direct.execute(f"select 1 from {table} limit 1").fetchone() == (1,)
        direct.execute("select id, mrn, first_name, last_name, ssn, dob, sex, email, phone, address, city, state, zip "
                       "from patients limit 0")  # fmt: skip
        direct.execute("select note from clinical_notes limit 0")
    assert patients is not None
    assert patients[0] >= 10_000


def test_export_applied_again_changes_nothing(stack: Stack, tmp_path: Path):
    exported = tmp_path / "export.yaml"
    assert stack.manage("export", "-o", str(exported)).returncode == 0

    again = stack.manage("apply", "-f", str(exported), "--dry-run")

    assert again.returncode == 0, again.stderr
    assert yaml.safe_load(exported.read_text(encoding="utf-8"))["apiVersion"] == "hoopweb/v1"
    assert "password" not in exported.read_text(encoding="utf-8").replace("password_", "")


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"connections": [{"name": "x", "kind": "postgres", "host": "h", "colour": "red"}]}, "connections[0]"),
        ({"policies": [{"name": "p", "connections": ["clinic"], "action": "perhaps"}]}, "policies[0].action"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_wrong_document_is_named_by_its_path_and_changes_nothing(
    stack: Stack, tmp_path: Path, wrong: dict[str, object], path: str
):
    before = stack.manage("export").stdout
    document = tmp_path / "wrong.yaml"
    document.write_text(yaml.safe_dump({"apiVersion": "hoopweb/v1", **wrong}), encoding="utf-8")

    done = stack.manage("apply", "-f", str(document))

    assert done.returncode != 0
    assert path in done.stderr + done.stdout
    assert stack.manage("export").stdout == before


def test_explain_tells_facts_decision_and_masks_without_running(stack: Stack):
    done = stack.manage("explain", "clinic", "select ssn from patients where id = 1")

    assert done.returncode == 0, done.stderr
    assert "ALLOW" in done.stdout.upper()
    assert "public.patients.ssn" in done.stdout
    assert "redact" in done.stdout


def test_detect_answers_line_by_line(stack: Stack):
    text = "Call Daniel R. at 415-555-1234 about MRN 87654321, SSN 123-45-6789."
    done = stack.manage("detect", stdin=json.dumps({"text": text}) + "\n" + json.dumps({"text": "normal"}) + "\n")

    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert {"start", "end", "class", "score"} <= first["spans"][0].keys()
    assert "123-45-6789" not in first["masked"]
    assert second == {"spans": [], "masked": "normal"}


def test_bundle_verifies_with_the_public_key_alone(stack: Stack, tmp_path: Path):
    bundle = tmp_path / "evidence.bundle"
    assert stack.manage("audit_bundle", "-o", str(bundle)).returncode == 0

    intact = stack.manage("audit_verify", str(bundle), "--key", stack.demo["audit_vkey"])
    edited = bundle.read_bytes()
    position = len(edited) // 2
    bundle.write_bytes(edited[:position] + bytes([edited[position] ^ 1]) + edited[position + 1 :])
    tampered = stack.manage("audit_verify", str(bundle), "--key", stack.demo["audit_vkey"])

    assert intact.returncode == 0, intact.stdout + intact.stderr
    assert tampered.returncode in {1, 3}


def test_bundle_of_one_session_verifies(stack: Stack, tmp_path: Path):
    session = stack.rest("POST", "/api/v1/connections/clinic/statements", json={"statement": "select 1 as one"}).json()[
        "session_id"
    ]
    bundle = tmp_path / "session.bundle"

    assert stack.manage("audit_bundle", "-o", str(bundle), "--session", session).returncode == 0

    done = stack.manage("audit_verify", str(bundle), "--key", stack.demo["audit_vkey"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_ready_before_it_is(stack: Stack):
    assert stack.healthz() == 200
