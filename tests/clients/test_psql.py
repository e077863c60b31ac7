"""psql: what a person types, meta-commands included, compared with a direct connection where nothing is masked."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from hoopweb.embedded.postgres import postgres_binaries
from tests.reviews import decide, pending_review
from tests.stack import Stack


def psql(dsn: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(postgres_binaries() / "psql"), "-X", "-d", dsn, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def direct_dsn(stack: Stack) -> str:
    upstream = stack.demo["upstream"]
    return (
        f"host={upstream['host']} port={upstream['port']} dbname={upstream['database']} user={upstream['username']} "
        f"password={upstream['password']}"
    )


@pytest.mark.parametrize(
    "command",
    [
        r"\dt",
        r"\d",
        r"\d patients",
        r"\d+ claims",
        r"\di",
        r"\dn",
        r"\dv",
        r"\df",
        r"\du",
        r"\l",
        r"\dp patients",
        r"\x on",
    ],
)
def test_psql_meta_command_prints_what_it_prints_directly(stack: Stack, agent_dsn: str, command: str) -> None:
    direct = psql(direct_dsn(stack), "-c", command)

    through = psql(agent_dsn, "-c", command)

    assert through.returncode == 0, through.stderr
    assert through.stdout == direct.stdout


# Every other letter of `\d`, on the system's names too. Not `\deu` and `\dRs`: they read columns with passwords.
META = r"""
\d+ patients
\dS+ pg_class
\d *.claims
\da
\dA
\dAc
\dAf
\dAo
\dAp
\db
\dc
\dC
\dconfig work_mem
\dd
\dD
\ddp
\dE
\des
\det
\dew
\df+
\df *concat*
\dF
\dFd
\dFp
\dFt
\dg
\di+
\dii
\dl
\dL
\dm
\dn+
\do
\dO
\dP
\drds
\drg
\dRp
\ds
\dT+
\dtvS
\dti+
\dx
\dx+
\dX
\dy
\l+
\lo_list
\sf pg_catalog.lower(text)
\sv information_schema.tables
\z
\encoding
"""


def test_psql_meta_commands_print_what_they_print_directly(stack: Stack, agent_dsn: str) -> None:
    # Some tell sizes, which grow by themselves (a vacuum, a first write): what is said before and after counts.
    for _ in range(20):
        before = psql(direct_dsn(stack), "-a", stdin=META)
        through = psql(agent_dsn, "-a", stdin=META)
        after = psql(direct_dsn(stack), "-a", stdin=META)
        if before.stdout == after.stdout:
            break

    assert through.stderr == after.stderr
    assert through.stdout.splitlines() == after.stdout.splitlines()


def test_psql_masks_a_read_and_keeps_its_shape(stack: Stack, agent_dsn: str) -> None:
    query = "SELECT id, ssn, state FROM patients ORDER BY id LIMIT 3"
    direct = psql(direct_dsn(stack), "-AtF|", "-c", query).stdout.splitlines()

    through = psql(agent_dsn, "-AtF|", "-c", query)

    assert through.returncode == 0, through.stderr
    rows = [line.split("|") for line in through.stdout.splitlines()]
    stored = [line.split("|") for line in direct]
    assert [(row[0], row[2]) for row in rows] == [(row[0], row[2]) for row in stored]
    assert all(row[1] != kept[1] for row, kept in zip(rows, stored, strict=True))


def test_psql_describes_columns_without_running(agent_dsn: str) -> None:
    through = psql(agent_dsn, "-At", stdin="SELECT id, dob, state FROM patients \\gdesc\n")

    assert through.stdout.splitlines() == ["id|integer", "dob|date", "state|character(2)"]


def test_psql_binds_variables_and_parameters(agent_dsn: str) -> None:
    script = "\\set wanted 3\nSELECT :wanted + 1;\nSELECT $1::int + 1 \\bind 5 \\g\n"

    through = psql(agent_dsn, "-At", stdin=script)

    assert through.stdout.split() == ["4", "6"], through.stderr


def test_psql_denial_names_rule_hint_and_session(agent_dsn: str) -> None:
    through = psql(agent_dsn, "-v", "VERBOSITY=verbose", "-c", "DROP TABLE claims")

    assert through.returncode == 1
    assert "42501" in through.stderr
    assert "HINT:" in through.stderr
    assert "DETAIL:" in through.stderr


def test_psql_goes_on_after_a_denial_inside_one_script(agent_dsn: str) -> None:
    through = psql(agent_dsn, "-At", stdin="DROP TABLE claims;\nSELECT 41 + 1;\n")

    assert through.stdout.split() == ["42"]


def test_psql_copy_out_waits_for_approval_and_is_masked(stack: Stack, agent_dsn: str, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    query = "SELECT id, ssn FROM patients WHERE id = 7"
    stored = psql(direct_dsn(stack), "-At", "-c", query).stdout.strip().split("|")
    answers: list[subprocess.CompletedProcess[str]] = []

    waiting = threading.Thread(
        target=lambda: answers.append(psql(agent_dsn, "-c", f"\\copy ({query}) to '{target}' csv"))
    )
    waiting.start()
    decide(stack, pending_review(stack, "patients WHERE id = 7"), "approve")
    waiting.join(120)

    assert answers[0].returncode == 0, answers[0].stderr
    number, ssn = target.read_text(encoding="utf-8").strip().split(",")
    assert number == "7"
    assert ssn != stored[1]


def test_psql_copies_in_and_out_of_unprotected_data(ledger_dsn: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('9001,first,1.50,2024-05-01,"{x,y}","{""k"": 2}"\n', encoding="utf-8")

    copied = psql(ledger_dsn, "-c", f"\\copy entries from '{source}' csv")
    back = psql(ledger_dsn, "-c", f"\\copy (SELECT id, label FROM entries WHERE id = 9001) to '{target}' csv")
    psql(ledger_dsn, "-c", "DELETE FROM entries WHERE id = 9001")

    assert (copied.returncode, back.returncode) == (0, 0), copied.stderr + back.stderr
    assert target.read_text(encoding="utf-8") == "9001,first\n"


def test_psql_transaction_rolls_back(ledger_dsn: str) -> None:
    update = "UPDATE entries SET label = 'changed' WHERE id = 1"
    script = f"BEGIN;\n{update};\nROLLBACK;\nSELECT label FROM entries WHERE id = 1;\n"

    through = psql(ledger_dsn, "-At", stdin=script)

    assert through.stdout.split("\n")[-2] == "entry 1", through.stderr


def test_psql_wrong_token_is_told_one_uniform_sentence(stack: Stack) -> None:
    dsn = stack.gateway_dsn(token="not-a-token")

    through = psql(dsn, "-c", "SELECT 1")

    assert through.returncode == 2
    assert "not-a-token" not in through.stderr
