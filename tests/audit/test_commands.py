"""`audit_bundle` and the verifier as people run them; the verifier with Django and every database driver forbidden."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from audit.domain.anchor import anchor_file
from audit.domain.append import append_entries
from audit.domain.keys import audit_vkey, log_signer
from audit.domain.verify_walk import moment
from audit.models import Checkpoint, Export, LogEntry
from tests.audit.factories import authorised, completed, opened

ROOT = Path(__file__).resolve().parents[2]
# Importing any of these ends the process with a traceback: the verifier must need none.
GUARDED = """
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"django", "psycopg", "rest_framework", "redis", "rfc8785", "zstandard"}:
            raise AssertionError(f"the verifier imported {name}")
sys.meta_path.insert(0, Guard())
from audit.domain.verify import main
sys.exit(main(sys.argv[1:]))
"""


def verify(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-c", GUARDED, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert not done.stderr.startswith("Traceback"), done.stderr
    return done.returncode, done.stdout


@pytest.fixture
def bundle(db, tmp_path) -> Path:
    append_entries([opened(), authorised("a1"), completed("a1")])
    call_command("audit_bundle", output=tmp_path / "b.jsonl")
    return tmp_path / "b.jsonl"


def test_a_fresh_bundle_is_intact_and_covered_by_its_own_checkpoint(bundle):
    code, said = verify(bundle, "--key", audit_vkey())

    assert code == 0, said
    assert re.match(r"intact: 4 entries, 1 checkpoints; signed up to entry 4 at \d{4}-\d\d-\d\d [\d:]{8} UTC\n", said)
    assert (bundle.stat().st_mode & 0o777) == 0o600
    assert Checkpoint.objects.count() == Export.objects.count() == 1
    assert LogEntry.objects.get(seq=4).kind == "evidence.exported"
    assert Checkpoint.objects.get().note in anchor_file(log_signer().name).read_text()


def test_bundle_without_disclosure_holds_no_statement(bundle, tmp_path):
    assert "select ssn" not in bundle.read_text()

    call_command("audit_bundle", output=tmp_path / "t.jsonl", with_text=True)

    assert "select ssn" in (tmp_path / "t.jsonl").read_text()


def test_tampered_bundle_exits_1_and_names_the_place(bundle):
    bundle.write_text(bundle.read_text().replace("agents-read", "agents-rite"))

    code, said = verify(bundle, "--key", audit_vkey())

    assert (code, said.splitlines()[0][:25]) == (1, "TAMPERED: entry 2: edited")


@pytest.mark.parametrize(
    ("content", "key"), [(b"", None), (b"not json\n", None), (b'{"type":"other"}\n', None), (None, "nonsense")]
)
def test_unusable_input_exits_3(bundle, content, key):
    if content is not None:
        bundle.write_bytes(content)

    assert verify(bundle, "--key", key or audit_vkey())[0] == 3


def test_missing_file_or_arguments_exit_3(db, tmp_path):
    assert verify(tmp_path / "none", "--key", audit_vkey())[0] == 3
    assert verify(tmp_path / "none")[0] == 3


def test_bundle_of_a_period_verifies(bundle, tmp_path):
    out = tmp_path / "p.jsonl"
    call_command("audit_bundle", f"--output={out}", "--from=2020-01-01", "--to=2100-01-01T00:00:00+00:00")

    code, said = verify(out, "--key", audit_vkey(), "--anchor", anchor_file(log_signer().name))

    assert code == 0, said


@pytest.mark.parametrize(
    ("seconds", "told"), [(1795185141, "2026-11-20 14:32:21 UTC"), (10**30, f"Unix time {10**30}"), (-(10**18), "Unix")]
)
def test_moment_is_told_as_a_date_and_none_is_too_large(seconds: int, told: str) -> None:
    assert moment(seconds).startswith(told)


def test_session_the_log_does_not_know_makes_no_bundle(bundle, tmp_path):
    out = tmp_path / "s.jsonl"

    with pytest.raises(CommandError, match="the log knows no session 01a2-mistyped"):
        call_command("audit_bundle", output=out, session="01a2-mistyped")

    assert not out.exists()


def test_moment_that_is_none_is_refused_in_words(bundle, tmp_path):
    with pytest.raises(CommandError, match="'yesterday' is no moment, expected one such as"):
        call_command("audit_bundle", f"--output={tmp_path / 'p.jsonl'}", "--from=yesterday")


def test_command_wraps_the_verifier(bundle):
    with pytest.raises(SystemExit) as stop:
        call_command("audit_verify", str(bundle), key=[audit_vkey()])

    assert stop.value.code == 0
