"""The systemd units: systemd itself reads them, finds nothing wrong and little exposed; they fit the settings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.known import known_settings, ours
from tests.stack import PROJECT

UNITS = PROJECT / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
MOST_EXPOSED = 20  # tenths of systemd-analyze's scale: 2.0 is "OK", 9.6 what a unit without any limit gets

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze: apt-get install systemd"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units where a host has them, with this checkout in the place of /opt/hoopweb."""
    place = tmp_path_factory.mktemp("root") / "etc" / "systemd" / "system"
    shutil.copytree(UNITS, place)
    for path in place.rglob("*.*"):
        if path.is_file():
            path.write_text(path.read_text(encoding="utf-8").replace("/opt/hoopweb", str(PROJECT)), encoding="utf-8")
    return place.parents[2]


def analyze(*arguments: str, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={"SYSTEMD_UNIT_PATH": f"{place}:"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_systemd_reads_every_unit_without_a_complaint(root: Path) -> None:
    place = root / "etc" / "systemd" / "system"

    done = analyze("verify", "--man=no", *(str(place / name) for name in [*SERVICES, "hoopweb.target"]), place=place)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_verification_would_notice_a_mistake(root: Path) -> None:
    place = root / "etc" / "systemd" / "system"
    broken = place / "hoopweb-broken.service"
    broken.write_text("[Service]\nExecStart=/nonexistent/program\nRestrt=always\n", encoding="utf-8")

    done = analyze("verify", "--man=no", str(broken), place=place)
    broken.unlink()

    assert "Restrt" in done.stderr
    assert "/nonexistent/program" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_services_can_do_little_beside_their_work(root: Path, name: str) -> None:
    done = analyze(
        "security", "--offline=yes", f"--root={root}", f"--threshold={MOST_EXPOSED}", "--no-pager", name, place=root
    )

    assert done.returncode == 0, done.stdout


def test_only_the_gateway_is_handed_what_opens_credentials() -> None:
    holders = [
        path.name for path in UNITS.rglob("*.*") if path.is_file() and "credential_private_keys" in text_of(path)
    ]

    assert holders == ["hoopweb-gateway.service"]


def test_credentials_that_are_named_are_loaded_and_known_to_the_settings() -> None:
    for path in [UNITS / "hoopweb-.service.d" / "common.conf", UNITS / "hoopweb-gateway.service"]:
        loaded = set(re.findall(r"^LoadCredential=([\w.]+):/etc/hoopweb/secrets/\1$", text_of(path), re.M))
        named = dict(re.findall(r"^Environment=HOOPWEB_(\w+)_FILE=%d/([\w.]+)$", text_of(path), re.M))

        assert loaded == set(named.values())
        assert ours(f"{name}_FILE" for name in named) <= known_settings()


def test_environment_file_names_settings_that_exist() -> None:
    names = set(re.findall(r"^HOOPWEB_(\w+)=", text_of(UNITS / "hoopweb.env"), re.M))

    assert names - {"HOME", "JOURNAL_DIR"} <= known_settings()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")
