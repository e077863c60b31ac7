"""What the client does before and after the network: credentials, addresses, environment, the screen."""

from __future__ import annotations

import io
import os
import re
import subprocess
from pathlib import Path

import pytest

from hoopweb.cli import credentials
from hoopweb.cli.__main__ import _COMMANDS, main
from hoopweb.cli.arguments import build_parser
from hoopweb.cli.credentials import Login, checked_server
from hoopweb.cli.drivers import environment_for
from hoopweb.cli.failures import CommandFailed, Exit
from hoopweb.cli.output import shown, write_rows
from tests.stack import PROJECT

TICKET = {"ticket": "hwt_canary", "username": "demo-agent", "connection": "clinic"}


def test_a_login_comes_back_as_it_was_kept(tmp_path: Path):
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    login = Login(server="https://gateway.test", token="t", expires_at=5.0, client_id="a", secret_file="/s")

    path = credentials.save(login, profile="default", environment=environment)

    assert credentials.load("default", environment) == login
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_login_others_may_read_is_refused(tmp_path: Path):
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    path = credentials.save(Login(server="https://gateway.test", token="t"), profile="p", environment=environment)
    path.chmod(0o640)

    with pytest.raises(CommandFailed, match="others may read") as refused:
        credentials.load("p", environment)

    assert refused.value.status is Exit.NOT_SIGNED_IN


def test_a_token_in_the_environment_stands_in_for_the_stored_one(tmp_path: Path):
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "HOOPWEB_TOKEN": "job", "HOOPWEB_SERVER": "https://ci.test/"}

    assert credentials.load("default", environment) == Login(server="https://ci.test", token="job")


def test_a_stored_token_goes_to_the_server_it_was_got_from(tmp_path: Path):
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "HOOPWEB_SERVER": "https://elsewhere.test"}
    credentials.save(Login(server="https://gateway.test", token="t"), profile="default", environment=environment)

    assert credentials.load("default", environment).server == "https://gateway.test"


@pytest.mark.parametrize("profile", ["", "../x", "a/b", ".hidden", "x" * 65])
def test_a_profile_is_no_path(profile: str):
    with pytest.raises(CommandFailed, match="a profile's name"):
        credentials.path_of(profile, {})


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.test",
        "ftp://gateway.test",
        "gateway.test",
        "https://user@gateway.test",
        "http://127.0.0.1.test",
        "http://[::1",
        "https://gateway.test:abc",
        "https://gateway.test:99999",
        "https://",
        "",
    ],
)
def test_a_server_without_tls_is_refused(url: str):
    with pytest.raises(CommandFailed, match="expected"):
        checked_server(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost:8000", "https://gateway.test"]
)
def test_a_server_on_loopback_needs_no_tls(url: str):
    assert checked_server(url + "/") == url


def test_secrets_are_in_no_representation():
    assert "canary" not in repr(Login(server="https://gateway.test", token="canary"))


@pytest.mark.parametrize("option", ["--secret", "--token", "--client-secret", "--password"])
def test_no_option_takes_a_secret(option: str):
    with pytest.raises(SystemExit):
        build_parser({}).parse_args(["login", "--client-id", "a", option, "canary"])


@pytest.mark.parametrize(("decision", "given"), [("approve", []), ("deny", ["--reason"])])
def test_a_decision_needs_its_reason(decision: str, given: list[str]):
    with pytest.raises(SystemExit):
        build_parser({}).parse_args(["reviews", decision, "some-review", *given])


def test_psql_gets_the_ticket_and_nothing_that_could_send_it_elsewhere():
    inherited = {
        "PATH": "/bin", "PGSERVICE": "evil", "PGHOSTADDR": "203.0.113.9", "PGSSLMODE": "disable",
        "PGAPPNAME": "notebook", "PGPASSFILE": "/x", "HOOPWEB_TOKEN": "t", "HOOPWEB_CLIENT_SECRET": "s",
    }  # fmt: skip

    environment = environment_for(TICKET, host="gateway.test", port="6432", inherited=inherited)

    assert environment == {
        "PATH": "/bin", "PGAPPNAME": "notebook", "PGHOST": "gateway.test", "PGPORT": "6432", "PGDATABASE": "clinic",
        "PGUSER": "demo-agent", "PGPASSWORD": "hwt_canary", "PGSSLMODE": "verify-full",
    }  # fmt: skip


def test_what_the_terminal_would_obey_is_spelled_out():
    assert shown("a\x1b[31m\u202eb\nc") == "a\\x1b[31m\\u202eb\\nc"
    assert shown("a\nb\x07", lines=True) == "a\nb\\x07"


def test_tables_and_csv():
    table, comma = io.StringIO(), io.StringIO()
    rows = [[1, None, "a,b"], [22, True, ["x", "y"]]]

    write_rows(table, names=["id", "n", "text"], rows=rows, layout="table")
    write_rows(comma, names=["id", "n", "text"], rows=rows, layout="csv")

    assert table.getvalue().splitlines() == ["id  n     text", "--  ----  ----", "1   NULL  a,b", "22  true  x, y"]
    assert comma.getvalue().splitlines() == ["id,n,text", '1,,"a,b"', '22,true,"x, y"']


def test_nobody_signed_in_is_said_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("HOOPWEB_TOKEN", raising=False)

    assert main(["connections"]) == Exit.NOT_SIGNED_IN
    assert capsys.readouterr().err == "hoopweb: not signed in: run hoopweb login\n"


def test_the_linked_command_runs_anywhere_and_imports_nothing_from_there(tmp_path: Path):
    link = tmp_path / "hoopweb"
    link.symlink_to(PROJECT / "hoopweb" / "cli" / "hoopweb.sh")
    (tmp_path / "httpx.py").write_text("raise SystemExit('imported from the working directory')", encoding="utf-8")
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    done = subprocess.run(
        [str(link), "connections"], capture_output=True, text=True, cwd=tmp_path, env=bare, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (5, "hoopweb: not signed in: run hoopweb login\n")


def test_the_page_of_the_client_names_every_variable_and_command():
    sources = [path.read_text(encoding="utf-8") for path in (PROJECT / "hoopweb" / "cli").glob("*.py")]
    page = (PROJECT / "docs" / "cli.md").read_text(encoding="utf-8")
    read = {name for source in sources for name in re.findall(r"HOOPWEB_[A-Z_]+", source)}

    assert read == set(re.findall(r"`(HOOPWEB_[A-Z_]+)`", page))
    assert [command for command in _COMMANDS if f"hoopweb {command}" not in page] == []


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_is_no_way_to_another_address(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOOPWEB_TOKEN", "t")
    monkeypatch.setenv("HOOPWEB_SERVER", "http://127.0.0.1:1")

    assert main(["query", name, "select 1"]) == Exit.USAGE
    assert main(["sessions", "kill", name]) == Exit.USAGE


def test_a_token_no_header_can_carry_is_not_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("HOOPWEB_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("HOOPWEB_TOKEN", "canary-é")

    assert main(["connections"]) == Exit.NOT_SIGNED_IN
    assert "canary" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "clin\udcff", "SELECT 1"],
        ["query", "clinic", "SELECT \udcff"],
        ["query", "clinic", "SELECT $1", "-p", "\udcff"],
        ["result", "\udcff"],
        ["sessions", "kill", "\udcff"],
    ],
)
def test_bytes_that_are_no_text_make_no_sense(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HOOPWEB_TOKEN", "t")
    monkeypatch.setenv("HOOPWEB_SERVER", "http://127.0.0.1:1")

    assert main(arguments) == Exit.USAGE
    assert capsys.readouterr().err == "hoopweb: an argument is not UTF-8\n"


@pytest.mark.parametrize("given", [b"", b"SELECT '\xff'"])
def test_stdin_without_a_statement_makes_no_sense(
    given: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HOOPWEB_TOKEN", "t")
    monkeypatch.setenv("HOOPWEB_SERVER", "http://127.0.0.1:1")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8", errors="surrogateescape"))

    assert main(["query", "clinic", "-"]) == Exit.USAGE
    assert capsys.readouterr().err == "hoopweb: expected a statement on stdin, in UTF-8\n"


@pytest.mark.parametrize("text", ["a\nb", "tök€n", "two words"])
def test_a_file_without_a_token_signs_nobody_in(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "kept"))
    (tmp_path / "token").write_text(text, encoding="utf-8")

    assert main(["login", "--server", "http://127.0.0.1:1", "--token-file", str(tmp_path / "token")]) == Exit.USAGE
    assert capsys.readouterr().err == f"hoopweb: {tmp_path}/token holds no token\n"
    assert not (tmp_path / "kept").exists()


def test_a_login_that_cannot_be_kept_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "token").write_text("t", encoding="utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))

    assert main(["login", "--server", "http://127.0.0.1:1", "--token-file", str(tmp_path / "token")]) == Exit.FAILED
    assert capsys.readouterr().err.startswith("hoopweb: the login cannot be kept: ")
