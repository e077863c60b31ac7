"""`apply` and `export`: mistakes named by path, all or nothing, and a round trip without change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command

from approvals.domain.channels import channel_secrets
from approvals.models import Channel, Policy
from audit.models import LogEntry
from gateway.domain.clients import holds_secret
from gateway.domain.credentials import open_credential
from gateway.domain.version import current_version
from gateway.models import AccessRule, Agent, Connection, Issuer
from masking.models import MaskingRule

CONNECTION = {
    "name": "clinic",
    "kind": "postgres",
    "host": "127.0.0.1",
    "port": 5433,
    "database": "clinic",
    "username": "clinic_app",
    "password": {"value": "canary-secret"},
    "tls": "disable",
}
DOCUMENT: dict[str, Any] = {
    "apiVersion": "hoopweb/v1",
    "connections": [
        CONNECTION,
        {
            "name": "warehouse",
            "kind": "bigquery",
            "project": "demo",
            "location": "US",
            "api_endpoint": "http://127.0.0.1:9050",
            "credentials": {"anonymous": True},
        },
    ],
    "access": [{"groups": ["ai-agents"], "connections": ["clinic"], "operations": ["read", "write"]}],
    "masking": [{"name": "ssn", "connections": ["clinic"], "columns": ["public.patients.ssn"], "technique": "redact"}],
    "policies": [
        {
            "name": "phi-writes",
            "connections": ["clinic"],
            "when": {"operation": ["write"], "touches_phi": True},
            "action": "require_approval",
            "reviewers": ["privacy-officers"],
        }
    ],
    "agents": [{"name": "demo-agent", "groups": ["ai-agents"], "owner": "admin"}],
    "groups": [{"name": "privacy-officers", "members": ["reviewer"]}],
    "issuers": [
        {
            "name": "corp",
            "issuer": "https://login.example",
            "jwks_uri": "https://login.example/keys",
            "algorithms": ["RS256"],
            "groups_map": {"g-1": "ai-agents"},
        }
    ],
}


@pytest.fixture(autouse=True)
def people(db: None) -> None:
    for name in ("admin", "reviewer"):
        User.objects.create_user(name)


def apply(tmp_path: Path, document: dict[str, Any] | str, *flags: str) -> str:
    path = tmp_path / "document.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False))
    output = tmp_path / "output.txt"
    with output.open("w") as stdout:
        call_command("apply", "-f", str(path), *flags, stdout=stdout)
    return output.read_text()


def changed(section: str, index: int, **changes: Any) -> dict[str, Any]:
    items = [dict(item) for item in DOCUMENT[section]]
    items[index].update(changes)
    return {**DOCUMENT, section: items}


def test_document_becomes_the_configuration(tmp_path: Path) -> None:
    output = apply(tmp_path, DOCUMENT)

    assert "+ connection clinic" in output
    assert "canary-secret" not in output
    clinic = Connection.objects.get(name="clinic")
    assert open_credential(bytes(clinic.credential.sealed)) == {"password": "canary-secret"}
    assert Connection.objects.get(name="warehouse").settings["credentials"] == "anonymous"
    assert AccessRule.objects.get().operations == ["read", "write"]
    assert MaskingRule.objects.get().inference == "guarded"
    assert Policy.objects.get().when == {"operation": ["write"], "touches_phi": True}
    assert Agent.objects.get().client_id == "demo-agent"
    assert Issuer.objects.get().groups_map == {"g-1": "ai-agents"}
    assert list(Group.objects.get(name="privacy-officers").user_set.values_list("username", flat=True)) == ["reviewer"]
    assert current_version() == 1


def test_second_application_changes_nothing(tmp_path: Path) -> None:
    apply(tmp_path, DOCUMENT)

    assert apply(tmp_path, DOCUMENT).strip() == "no changes"
    assert current_version() == 1


def test_export_holds_no_secret_and_applies_as_no_change(tmp_path: Path) -> None:
    apply(tmp_path, DOCUMENT)
    exported = tmp_path / "exported.yaml"

    call_command("export", "-o", str(exported))

    text = exported.read_text()
    assert "canary-secret" not in text
    assert "password" not in text
    assert apply(tmp_path, text, "--prune").strip() == "no changes"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (DOCUMENT, []),
        (changed("masking", 0, connections=["*"]), []),
        (changed("masking", 0, connections=["clin*", "clinc"]), ["masking rule ssn: there is no connection clinc, so"]),
        (changed("policies", 0, connections=["ward*"]), ["policy phi-writes: there is no connection ward*, so"]),
        (
            changed(
                "policies", 0, reviewers=["privacy-oficers", {"group": "privacy-officers"}], escalate_to=["chiefs"]
            ),
            ["policy phi-writes: there is no group chiefs, so", "policy phi-writes: there is no group privacy-oficers"],
        ),
        (
            changed("access", 0, connections=["nowhere"], name="all"),
            ["access rule all: there is no connection nowhere"],
        ),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_names_of_nothing_are_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    document: dict[str, Any],
    told: list[str],
    flags: tuple[str, ...],
) -> None:
    """A mask over a mistyped connection masks nothing, and nobody would hear of it before it leaked."""
    apply(tmp_path, document, *flags)

    lines = [line for line in capsys.readouterr().err.splitlines() if "there is no" in line]
    assert len(lines) == len(told)
    assert all(line.startswith(expected) for line, expected in zip(lines, told, strict=True))


def test_export_to_a_place_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot be written: No such file or directory"):
        call_command("export", "-o", str(tmp_path / "none" / "x.yaml"))


@pytest.mark.parametrize("kind", ["mysql", "snowflake"])
def test_export_leaves_out_what_no_document_can_ask_for(tmp_path: Path, kind: str) -> None:
    """Connections of such kinds could be made once; one stopped the whole export."""
    apply(tmp_path, DOCUMENT)
    Connection.objects.create(name="old", kind=kind)
    exported = tmp_path / "exported.yaml"

    call_command("export", "-o", str(exported))

    assert "old" not in {each["name"] for each in yaml.safe_load(exported.read_text())["connections"]}
    assert apply(tmp_path, exported.read_text()).strip() == "no changes"


def test_change_is_recorded_with_before_and_after_without_secrets(tmp_path: Path) -> None:
    apply(tmp_path, DOCUMENT)
    apply(tmp_path, changed("connections", 0, port=5434, password={"value": "canary-second"}))

    entries = LogEntry.objects.filter(kind="config.changed").order_by("seq")
    text = bytes(entries.last().canonical).decode()
    assert '"port":5433' in text
    assert '"port":5434' in text
    assert '"secret":"password"' in text
    assert not any(b"canary" in bytes(entry.canonical) for entry in entries)


def test_channels_keep_their_secrets_sealed_and_export_none(tmp_path: Path) -> None:
    channels = [
        {
            "name": "siem",
            "kind": "webhook",
            "url": "https://siem.example/hoopweb",
            "secret": {"value": "canary-secret-of-the-webhook"},
            "events": ["review.opened", "emergency.opened"],
        },
        {
            "name": "officers",
            "kind": "slack",
            "webhook_url": {"value": "https://hooks.slack.example/canary-path"},
            "signing_secret": {"value": "canary-signing-secret"},
            "people": {"T1/U1": "reviewer"},
        },
    ]
    document = {**DOCUMENT, "channels": channels}

    apply(tmp_path, document)
    again = apply(tmp_path, document)
    call_command("export", output=str(tmp_path / "out.yaml"))

    exported = (tmp_path / "out.yaml").read_text()
    siem, officers = Channel.objects.order_by("-name")
    assert again.strip() == "no changes"
    assert channel_secrets(siem) == {"secret": "canary-secret-of-the-webhook"}
    assert channel_secrets(officers)["url"] == "https://hooks.slack.example/canary-path"
    assert "canary" not in exported
    assert [channel["name"] for channel in yaml.safe_load(exported)["channels"]] == ["officers", "siem"]
    assert all(b"canary" not in bytes(entry.canonical) for entry in LogEntry.objects.all())


def test_dry_run_shows_and_changes_nothing(tmp_path: Path) -> None:
    output = apply(tmp_path, DOCUMENT, "--dry-run")

    assert "+ policy phi-writes" in output
    assert not Connection.objects.exists()
    assert current_version() == 0


def test_prune_removes_what_the_documents_sections_do_not_name(tmp_path: Path) -> None:
    apply(tmp_path, DOCUMENT)
    without = {**DOCUMENT, "policies": [], "connections": [CONNECTION]}
    del without["masking"]

    assert "no changes" in apply(tmp_path, without)
    output = apply(tmp_path, without, "--prune")

    assert "- policy phi-writes" in output
    assert "- connection warehouse" in output
    assert not Policy.objects.exists()
    assert MaskingRule.objects.exists()  # its section is not in the document


def test_directory_of_sockets_is_a_host(tmp_path: Path) -> None:
    document = changed("connections", 0, host="/cloudsql/p:r:i", settings={"requirepeer": "proxy"})

    apply(tmp_path, document)

    clinic = Connection.objects.get(name="clinic")
    assert (clinic.host, clinic.tls, clinic.settings) == ("/cloudsql/p:r:i", "disable", {"requirepeer": "proxy"})
    assert "no changes" in apply(tmp_path, document)


@pytest.mark.parametrize(
    ("document", "mistake"),
    [
        (changed("connections", 0, tls="dissable"), "connections[0].tls: is not known"),
        (changed("connections", 0, host="db.example"), "connections[0].tls: disable is for loopback hosts only"),
        (changed("connections", 0, prot=1), "connections[0].prot: is not a known key"),
        (changed("connections", 0, port="5433"), "connections[0].port: input should be a valid integer"),
        (changed("connections", 0, kind="oracle"), "connections[0]: kind is not one this version serves, expected"),
        (changed("connections", 1, name="clinic"), "connections[1].name: 'clinic' is given twice"),
        (changed("connections", 0, password={"env": "NOT_SET"}), "connections[0].password.env: the variable NOT_SET"),
        (changed("connections", 0, password={"file": "gone"}), "connections[0].password.file: cannot be read"),
        (changed("connections", 0, password={}), "connections[0].password: expected exactly one of"),
        (changed("connections", 0, password="clear"), "connections[0].password: "),
        (
            changed("connections", 0, settings={"functions": "slug"}),
            "connections[0].settings: expected each function once",
        ),
        (
            changed("connections", 0, settings={"pooler": "transaction"}),
            "connections[0].settings: expected a pooler that keeps a server for a whole session",
        ),
        (
            changed("connections", 0, host="/run/postgresql", tls="verify-full"),
            "connections[0].tls: there is no TLS over a Unix socket",
        ),
        (changed("connections", 0, host="/run/a,b"), "connections[0].host: expected one directory, without a comma"),
        (changed("connections", 0, host="/" + "d" * 200), "connections[0].host: the socket's path has 215 bytes"),
        (
            changed("connections", 0, settings={"requirepeer": "postgres"}),
            "connections[0].settings: requirepeer is for Unix sockets",
        ),
        (changed("connections", 0, kind="mysql"), "connections[0]: kind is not one this version serves, expected"),
        (changed("connections", 0, kind="snowflake"), "connections[0]: kind is not one this version serves, expected"),
        (changed("policies", 0, when={"touchs_phi": True}), "policies[0].when.touchs_phi: is unknown"),
        (changed("policies", 0, reviewers=[]), "policies[0].reviewers: is empty"),
        (
            changed("policies", 0, name="a\nCc: b"),
            "policies[0].name: expected letters that can be seen; this has ⟨U+",
        ),
        (
            changed("policies", 0, name="a\u202eb"),
            "policies[0].name: expected letters that can be seen; this has ⟨U+",
        ),
        (
            changed("access", 0, name="a\x1b[2Jb"),
            "access[0].name: expected letters that can be seen; this has ⟨U+",
        ),
        (changed("groups", 0, name="reader\u200bs"), "groups[0].name: expected letters that can be seen; this has ⟨U+"),
        (changed("access", 0, groups=["a", "b\u202e"]), "access[0].groups[1]: expected letters that can be seen"),
        (changed("agents", 0, groups=["a\u3164"]), "agents[0].groups[0]: expected letters that can be seen"),
        (changed("policies", 0, skip_groups=["a\nb"]), "policies[0].skip_groups[0]: expected letters that can be seen"),
        (changed("masking", 0, exempt_groups=["a\u200d"]), "masking[0].exempt_groups[0]: expected letters that can be"),
        (
            changed("issuers", 0, groups_map={"x": "a\ufeff"}),
            "issuers[0].groups_map.x: expected letters that can be seen",
        ),
        (changed("masking", 0, technique="rot13"), "masking[0].technique: "),
        (changed("masking", 0, columns=["ssn"]), "masking[0].columns: "),
        (changed("agents", 0, owner="nobody"), "agents[0].owner: there is no account 'nobody'"),
        (changed("groups", 0, members=["reviewer", "ghost"]), "groups[0].members[1]: there is no account 'ghost'"),
        (changed("issuers", 0, algorithms=["none"]), "issuers[0].algorithms[0]: is not known"),
        (changed("issuers", 0, algorithms=["HS256"]), "issuers[0].algorithms[0]: is not known"),
        (changed("issuers", 0, jwks_uri="http://login.example/keys"), "issuers[0].jwks_uri: keys over plain HTTP"),
        ({**DOCUMENT, "polices": []}, "polices: is not a known key"),
        ({**DOCUMENT, "apiVersion": "hoopweb/v2"}, "apiVersion: is not known"),
        ("apiVersion: hoopweb/v1\napiVersion: hoopweb/v1\n", "line 2: 'apiVersion' is given twice"),
        ("a: [", "line 1: "),
        ("!!python/object/apply:os.system ['true']", "line 1: "),
        ("- 1", "the file holds no mapping"),
    ],
)
def test_mistake_is_named_by_its_path_and_nothing_changes(tmp_path: Path, document: Any, mistake: str) -> None:
    with pytest.raises(CommandError) as caught:
        apply(tmp_path, document)

    message = str(caught.value)
    assert any(line.startswith(mistake) for line in message.splitlines()), message
    assert "canary" not in message
    assert not Connection.objects.exists()
    assert not Group.objects.filter(name="privacy-officers").exists()
    assert current_version() == 0


def test_secret_may_come_from_a_file_beside_the_document(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from-a-file\n")

    apply(tmp_path, changed("connections", 0, password={"file": "password"}))

    sealed = bytes(Connection.objects.get(name="clinic").credential.sealed)
    assert open_credential(sealed) == {"password": "from-a-file"}


def test_agents_credentials_come_from_the_document_and_go_back_into_it(tmp_path: Path) -> None:
    rule = {"issuer": "https://login.example", "claims": {"repository": "example/a", "ref": "refs/heads/*"}}
    agent = {"federation": [rule], "client_secret": {"value": "first"}}
    document = changed("agents", 0, **agent)
    apply(tmp_path, document)
    kept = Agent.objects.get()
    assert (kept.federation, holds_secret(kept, "first")) == ([rule], True)
    assert "demo-agent" not in apply(tmp_path, document)

    document["agents"][0] |= {"client_secret": {"value": "second"}, "secret_overlap_s": 60}
    apply(tmp_path, document)

    assert holds_secret(kept, "first")
    assert holds_secret(kept, "second")


def test_preset_is_what_it_stands_for(tmp_path: Path) -> None:
    tenant = "11111111-2222-3333-4444-555555555555"
    issuers = [{"name": "github", "preset": "github-actions"}, {"name": "ms", "preset": "entra", "place": tenant}]

    apply(tmp_path, {**DOCUMENT, "issuers": issuers})

    assert Issuer.objects.get(name="github").issuer == "https://token.actions.githubusercontent.com"
    assert Issuer.objects.get(name="ms").jwks_uri == f"https://login.microsoftonline.com/{tenant}/discovery/v2.0/keys"


@pytest.mark.parametrize(
    ("section", "changes", "mistake"),
    [
        ("issuers", {"preset": "nobody"}, "issuers[0]: preset is not known"),
        ("issuers", {"preset": "entra"}, "issuers[0]: place: expected tenant id"),
        ("issuers", {"preset": "google", "place": "x"}, "issuers[0]: place: expected none"),
        ("issuers", {"place": "x"}, "issuers[0].place: is not a known key"),
        ("agents", {"federation": [{"issuer": "x", "claims": {"sub": "*"}}]}, "agents[0].federation: rule 0: expected"),
        ("agents", {"federation": [{"issuer": "x"}]}, "agents[0].federation[0].claims: is missing"),
        ("agents", {"jwks": {"keys": []}}, "agents[0].jwks: expected"),
        ("agents", {"jwks_uri": "http://10.0.0.1/k"}, "agents[0].jwks_uri: keys over plain HTTP"),
    ],
)
def test_mistakes_of_credentials_are_named(tmp_path: Path, section: str, changes: Any, mistake: str) -> None:
    with pytest.raises(CommandError, match=re.escape(mistake)):
        apply(tmp_path, changed(section, 0, **changes))


def test_password_by_uri_is_kept_as_its_address_and_other_secrets_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_SECRET", "from-the-environment")
    document = changed("connections", 0, password={"uri": "vault://secret/clinic#password"})
    document["agents"] = [{**DOCUMENT["agents"][0], "client_secret": {"uri": "env:AGENT_SECRET"}}]

    apply(tmp_path, document)

    sealed = bytes(Connection.objects.get(name="clinic").credential.sealed)
    assert open_credential(sealed) == {"password_uri": "vault://secret/clinic#password"}
    assert holds_secret(Agent.objects.get(), "from-the-environment")


@pytest.mark.parametrize(
    ("uri", "mistake"),
    [
        ("http://x/y", "connections[0].password.uri: expected a URI of env:, file:, vault:, aws-secret:"),
        ("vault://secret", "connections[0].password.uri: vault: expected vault://MOUNT/PATH#FIELD"),
    ],
)
def test_mistakes_of_uris_are_named(tmp_path: Path, uri: str, mistake: str) -> None:
    with pytest.raises(CommandError, match=re.escape(mistake)):
        apply(tmp_path, changed("connections", 0, password={"uri": uri}))
