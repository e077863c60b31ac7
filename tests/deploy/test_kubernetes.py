"""The Kubernetes manifests: valid by the API's own schemas, closed by default, and fit for the settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.known import known_settings, ours
from tests.stack import PROJECT

MANIFESTS = PROJECT / "deploy" / "kubernetes"
VERSIONS = ("1.28", "1.32")  # of the API: strict, so that a misspelt field is an error


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(MANIFESTS.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document["kind"] != "Kustomization":
                yield f"{path.name}:{document['kind']}:{document['metadata']['name']}", document


DOCUMENTS = dict(documents())
PODS = {
    name: document["spec"]["template"]["spec"]
    for name, document in DOCUMENTS.items()
    if document["kind"] in {"Deployment", "StatefulSet", "Job"}
}
SETTINGS = DOCUMENTS["settings.yaml:ConfigMap:hoopweb"]["data"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_manifest_is_valid_by_the_schema_of_the_api(name: str, version: str) -> None:
    kubernetes_validate.validate(DOCUMENTS[name], version, strict=True)


def test_schema_would_notice_a_misspelt_field() -> None:
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dta": {}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_kustomization_names_every_file() -> None:
    listed = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]

    assert sorted(listed) == sorted(path.name for path in MANIFESTS.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("name", PODS)
def test_pod_meets_the_restricted_profile(name: str) -> None:
    pod = PODS[name]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        assert context["capabilities"] == {"drop": ["ALL"]}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        made = {volume["name"] for volume in pod["volumes"]} | _claimed(name)
        assert mounted <= made


def _claimed(name: str) -> set[str]:
    claims = DOCUMENTS[name]["spec"].get("volumeClaimTemplates", ())
    return {claim["metadata"]["name"] for claim in claims}


def test_only_the_gateway_mounts_what_opens_credentials() -> None:
    holders = [
        name
        for name, pod in PODS.items()
        if any(volume.get("secret", {}).get("secretName") == "hoopweb-gateway" for volume in pod["volumes"])
    ]

    assert holders == ["gateway.yaml:StatefulSet:hoopweb-gateway"]


def test_settings_exist_and_hold_no_secret() -> None:
    assert ours(name.removeprefix("HOOPWEB_") for name in SETTINGS) <= known_settings()
    for name, value in SETTINGS.items():
        assert "KEY" not in name or value.startswith("/run/secrets/"), name
    for container in (container for pod in PODS.values() for container in pod["containers"]):
        names = (variable["name"].removeprefix("HOOPWEB_") for variable in container.get("env", ()))
        assert ours(names) - {"JOURNAL_DIR"} <= known_settings()


def test_grace_covers_the_drain() -> None:
    pod = PODS["gateway.yaml:StatefulSet:hoopweb-gateway"]

    assert pod["terminationGracePeriodSeconds"] >= int(SETTINGS["HOOPWEB_DRAIN_S"]) + 20


def test_probes_of_the_web_ask_as_its_proxy_does() -> None:
    (container,) = PODS["web.yaml:Deployment:hoopweb-web"]["containers"]

    for probe in (container["startupProbe"], container["readinessProbe"]):
        headers = {header["name"]: header["value"] for header in probe["httpGet"]["httpHeaders"]}
        assert headers["Host"] in SETTINGS["HOOPWEB_ALLOWED_HOSTS"].split(",")
        assert headers["X-Forwarded-Proto"] == "https"


def test_whoever_signs_checkpoints_can_write_the_anchors() -> None:
    """Gateways sign in turn, the evidence worker before a purge, the web for a bundle."""
    writers = {name for name, pod in PODS.items() if any(volume["name"] == "anchors" for volume in pod["volumes"])}

    assert {name.rpartition("-")[2] for name in writers} == {"gateway", "web", "worker", "evidence"}


def test_nothing_but_what_is_named_comes_in() -> None:
    policies = {
        name.rpartition(":")[2]: document["spec"] for name, document in DOCUMENTS.items() if "NetworkPolicy" in name
    }

    assert "ingress" not in policies["hoopweb-nobody"]
    assert policies["hoopweb-nobody"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/part-of": "hoopweb"}}
    (relay,) = policies["hoopweb-relay"]["ingress"]
    assert relay["from"]
