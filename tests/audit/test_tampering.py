"""Every way to change a stored or exported log, over 2,000 entries (10,000 in `make soak`): found offline, and located.

The attacker is a database superuser without the signing key: triggers are switched off, every table may be rewritten.
Each test changes the intact log of `log` (to a savepoint, rolled back after it), exports it anew and verifies that.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

from audit.domain.anchor import anchor_file
from audit.domain.append import append_entries
from audit.domain.bundle import Scope, write_bundle
from audit.domain.bundle_format import seal_text
from audit.domain.canonical import canonical
from audit.domain.checkpoints import LogDamaged, sign_checkpoint
from audit.domain.head import stated_size
from audit.domain.keys import log_signer
from audit.domain.merkle import Frontier, leaf_hash
from audit.domain.note import Checkpoint as SignedCheckpoint
from audit.domain.note import Signer
from audit.domain.verify import Report, Verdict, main, verify_bundle
from audit.models import Checkpoint, LogEntry
from tests.audit.conftest import KEYS
from tests.audit.factories import authorised, completed, denied, opened
from tests.rows import rows_read

SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
SIZE = 10_000 if SOAKING else 2_000

pytestmark = [pytest.mark.timeout(900 if SOAKING else 300), pytest.mark.django_db]


@pytest.fixture
def _django_db_helper() -> None:
    """No transaction of each test's own: all are within `written`'s, which the mark's would close."""


@pytest.fixture(scope="module")
def written(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The intact log, written once in a transaction that ends with the module; its anchors are in the home yielded."""
    home = tmp_path_factory.mktemp("home")
    with django_db_blocker.unblock(), rolled_back(), override_settings(HOOPWEB_HOME=home, **KEYS):
        entries = []
        for session in range(SIZE // 50):
            name = f"s{session}"
            entries.append(opened(name))
            for at in range(16):
                statement = f"{name}-{at}"
                entries += [authorised(statement, name), completed(statement, name), denied(f"{statement}d", name)]
            entries.append(denied(f"{name}-last", name))
        for at in range(0, SIZE, 500):
            append_entries(entries[at : at + 500])
            if at < SIZE - 500:
                sign_checkpoint()
        assert LogEntry.objects.count() == SIZE
        yield home


@pytest.fixture
def log(written: Path, own_evidence: None, tmp_path: Path) -> Iterator[None]:
    """Entries of sessions of 50 each, a checkpoint after every 500 but the last."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    with rolled_back():
        yield


@contextmanager
def rolled_back() -> Iterator[None]:
    block = transaction.atomic()
    block._from_testcase = True  # type: ignore[attr-defined]  # what must be durable may stand in it, as in Django's own
    with block:
        yield
        transaction.set_rollback(True)


def exported(path: Path, *, scope: Scope = Scope(), with_text: bool = False) -> Path:  # noqa: B008
    target = path / "bundle.jsonl"
    with target.open("wb") as out:
        write_bundle(out, scope=scope, with_text=with_text, requested_by="auditor")
    return target


def checked(bundle: Path, *, anchor: Path | None = None) -> Report:
    return verify_bundle(bundle, keys=[log_signer().verifier], anchor=anchor)


def superuser(*statements: str) -> None:
    """Run SQL with every trigger off, as somebody who owns the database would."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            cursor.execute(statement)
        cursor.execute("SET LOCAL session_replication_role = origin")


def rewrite_chain(start: int, change: Callable[[dict], None]) -> None:
    """The best an attacker without the key can do: change an entry and recompute everything after it, the state too."""
    size = stated_size()
    rows = list(LogEntry.objects.order_by("seq").values_list("seq", "canonical", "leaf"))
    leaves, prev = [], bytes(32)
    for seq, stored, leaf in rows:
        if seq < start:
            prev = bytes(leaf)
        else:
            entry = json.loads(bytes(stored))
            if seq == start:
                change(entry)
            data = canonical({**entry, "prev": prev.hex()})
            hashed = leaf_hash(data)
            superuser(
                f"UPDATE audit_logentry SET canonical = '\\x{data.hex()}', leaf = '\\x{hashed.hex()}',"
                f" prev = '\\x{prev.hex()}' WHERE seq = {seq}"
            )
            prev = hashed
        leaves.append(prev)
    frontier = Frontier().extend(leaves)
    superuser(
        f"UPDATE audit_loghead SET head = '\\x{prev.hex()}', frontier = '\\x{frontier.to_bytes().hex()}'"
        f" WHERE size = {size}"
    )


def state_at(size: int) -> str:
    """SQL that makes the log's head the one of its first `size` entries."""
    entries = LogEntry.objects.filter(seq__lte=size).order_by("seq").values_list("leaf", flat=True)
    leaves = [bytes(leaf) for leaf in entries]
    frontier = Frontier().extend(leaves).to_bytes().hex()
    return (
        "DELETE FROM audit_loghead; INSERT INTO audit_loghead (after, size, head, frontier, counts)"
        f" VALUES ({size - 1}, {size}, '\\x{leaves[-1].hex()}', '\\x{frontier}', '[]')"
    )


# --- the control: nothing changed ----------------------------------------------------------------------------------


def test_intact_log_verifies_whole_in_part_and_with_text(log, tmp_path):
    for scope in (Scope(), Scope(session="s7")):
        for with_text in (False, True):
            report = checked(exported(tmp_path, scope=scope, with_text=with_text))
            assert (report.verdict, report.findings) == (Verdict.INTACT, ())


def test_intact_log_verifies_against_the_anchor_file(log, tmp_path):
    bundle = exported(tmp_path)

    assert checked(bundle, anchor=anchor_file(log_signer().name)).verdict is Verdict.INTACT


def test_what_is_checked_before_each_checkpoint_is_what_came_since_the_last(log):
    sign_checkpoint()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audit_statementrecord, audit_logentry")

    entries, statements = rows_read("audit_logentry"), rows_read("audit_statementrecord")
    append_entries([denied("late", "s1")])
    sign_checkpoint()

    assert 1 <= rows_read("audit_logentry") - entries < 10
    assert 1 <= rows_read("audit_statementrecord") - statements < 10


def test_triggers_refuse_change_to_everybody_else(log):
    for statement in (
        "UPDATE audit_logentry SET kind = 'x' WHERE seq = 5",
        "DELETE FROM audit_logentry WHERE seq = 5",
        "DELETE FROM audit_checkpoint",
        "UPDATE audit_checkpoint SET size = 1",
        "UPDATE audit_logstate SET log_id = gen_random_uuid()",
        "DELETE FROM audit_logstate",
        "UPDATE audit_loghead SET size = 1",
        "DELETE FROM audit_loghead",
    ):
        with pytest.raises(Exception, match=r"append-only|never shrinks"), transaction_block():
            connection.cursor().execute(statement)


# --- the stored log ------------------------------------------------------------------------------------------------

SWAP = (
    "UPDATE audit_logentry SET seq = -seq WHERE seq IN (700, 701)",
    "UPDATE audit_logentry SET seq = CASE seq WHEN -700 THEN 701 ELSE 700 END WHERE seq < 0",
)
SWAP_CONTENT = (
    "CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM audit_logentry WHERE seq IN (700, 701)",
    "UPDATE audit_logentry e SET canonical = k.canonical FROM kept k"
    " WHERE e.seq + k.seq = 1401 AND e.seq IN (700, 701)",
)
SHIFT_DOWN = (
    "DELETE FROM audit_logentry WHERE seq = 700",
    "UPDATE audit_logentry SET seq = -(seq - 1) WHERE seq > 700",
    "UPDATE audit_logentry SET seq = -seq WHERE seq < 0",
    "UPDATE audit_loghead SET size = size - 1",
)
INSERT_INSIDE = (
    "UPDATE audit_logentry SET seq = -(seq + 1) WHERE seq >= 700",
    "UPDATE audit_logentry SET seq = -seq WHERE seq < 0",
    "INSERT INTO audit_logentry SELECT 700, leaf, prev, canonical, kind, session_id, statement_id, subject, connection,"
    " at FROM audit_logentry WHERE seq = 300",
)
COPY_BEYOND = (
    f"INSERT INTO audit_logentry SELECT {SIZE + 1}, leaf, prev, canonical, kind, session_id, statement_id, subject,"
    f" connection, at FROM audit_logentry WHERE seq = {SIZE}",
)
EDIT = "UPDATE audit_logentry SET canonical = replace(convert_from(canonical, 'UTF8'), 'demo-agent', 'nobody')::bytea"


@pytest.mark.parametrize(
    ("statements", "seq", "kind"),
    [
        pytest.param((f"{EDIT} WHERE seq = 700",), 700, "edited", id="edit"),
        pytest.param((f"{EDIT} WHERE seq = 1",), 1, "edited", id="edit-first"),
        pytest.param((f"{EDIT} WHERE seq = {SIZE}",), SIZE, "edited", id="edit-last"),
        pytest.param(("UPDATE audit_logentry SET canonical = '{}' WHERE seq = 700",), 700, "edited", id="blank"),
        pytest.param(("UPDATE audit_logentry SET canonical = '\\xff' WHERE seq = 700",), 700, "edited", id="garbage"),
        pytest.param(("DELETE FROM audit_logentry WHERE seq = 700",), 700, "deleted", id="delete"),
        pytest.param(("DELETE FROM audit_logentry WHERE seq = 1",), 1, "deleted", id="delete-first"),
        pytest.param((f"DELETE FROM audit_logentry WHERE seq = {SIZE}",), SIZE, "truncated", id="delete-last"),
        pytest.param((f"DELETE FROM audit_logentry WHERE seq > {SIZE - 300}",), SIZE - 299, "truncated", id="truncate"),
        pytest.param(("DELETE FROM audit_logentry WHERE seq > 700",), 701, "truncated", id="truncate-checkpoints"),
        pytest.param(("DELETE FROM audit_logentry",), 1, "truncated", id="truncate-all"),
        pytest.param(SWAP, 700, "reordered", id="swap"),
        pytest.param(SWAP_CONTENT, 700, "reordered", id="swap-content"),
        pytest.param(SHIFT_DOWN, 700, "deleted", id="delete-and-close-the-gap"),
        pytest.param(INSERT_INSIDE, 700, "inserted", id="insert"),
        pytest.param(COPY_BEYOND, SIZE + 1, "inserted", id="insert-at-end"),
    ],
)
@pytest.mark.by_turns(2)
def test_changed_log_is_located(log, tmp_path, statements, seq, kind):
    superuser(*statements)

    report = checked(exported(tmp_path))

    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (seq, kind)


def test_recomputed_chain_contradicts_the_checkpoint(log, tmp_path):
    rewrite_chain(700, lambda entry: entry["body"].update(subject="nobody"))

    report = checked(exported(tmp_path))

    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (501, "rewritten")


def test_cut_tail_with_everything_that_knew_of_it_is_shown_by_the_anchor(log, tmp_path):
    checked(exported(tmp_path))
    state = state_at(900)
    superuser(
        "DELETE FROM audit_logentry WHERE seq > 900",
        "DELETE FROM audit_checkpoint WHERE size > 900",
        "DELETE FROM audit_statementrecord",
        "DELETE FROM audit_sessionrecord",
        state,
    )

    report = checked(exported(tmp_path))

    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (901, "truncated")


def test_cut_unsigned_tail_is_shown_by_the_records(log, tmp_path):
    state = state_at(SIZE - 400)
    superuser(
        f"DELETE FROM audit_logentry WHERE seq > {SIZE - 400}",
        state,
    )

    report = checked(exported(tmp_path))

    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (SIZE - 399, "truncated")


def test_forged_checkpoint_is_named(log, tmp_path):
    superuser("UPDATE audit_checkpoint SET note = replace(note, '1000', '1001') WHERE size = 1000")

    report = checked(exported(tmp_path))

    assert report.verdict is Verdict.TAMPERED
    assert "checkpoint-forged" in {finding.kind for finding in report.findings}


def test_checkpoints_of_another_key_are_named(log, tmp_path):
    signer = log_signer()
    stranger = Signer(signer.name, b"x" * 32)
    for row in Checkpoint.objects.all():
        note = stranger.sign(SignedCheckpoint(signer.name, row.size, bytes(row.root)).text())
        superuser(f"UPDATE audit_checkpoint SET note = '{note}' WHERE id = {row.pk}")

    report = checked(exported(tmp_path))

    assert report.verdict is Verdict.TAMPERED
    assert "key-swapped" in {finding.kind for finding in report.findings}


def test_the_key_of_another_log_does_not_verify_this_one(log, tmp_path):
    bundle = exported(tmp_path)

    report = verify_bundle(bundle, keys=[Signer(log_signer().name, b"x" * 32).verifier])

    assert report.verdict is Verdict.TAMPERED
    assert report.findings[0].kind == "key-swapped"


@pytest.mark.parametrize("size", [500, SIZE - 500], ids=["oldest", "newest"])
def test_removed_checkpoint_is_missed_by_its_anchor(log, tmp_path, size):
    superuser(f"DELETE FROM audit_checkpoint WHERE size = {size}")

    report = checked(exported(tmp_path))

    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (size, "checkpoint-missing")


def test_a_checkpoints_row_that_says_something_else_than_its_note_is_named(log, tmp_path):
    superuser(f"UPDATE audit_checkpoint SET root = '\\x{bytes(32).hex()}' WHERE size = 500")

    report = checked(exported(tmp_path))

    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (500, "checkpoint-forged")


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (
            "UPDATE audit_sealedtext SET box = set_byte(box, 60, 1 + get_byte(box, 60) % 254) WHERE seq = 2",
            "text-edited",
        ),
        ("DELETE FROM audit_sealedtext WHERE seq = 2", "text-missing"),
        (
            "UPDATE audit_sealedtext SET box = (SELECT box FROM audit_sealedtext WHERE seq = 5) WHERE seq = 2",
            "text-edited",
        ),
    ],
)
def test_changed_statement_text_is_located(log, tmp_path, statement, kind):
    superuser(statement)

    report = checked(exported(tmp_path))

    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (2, kind)


def test_nothing_is_signed_over_damage(log, tmp_path):
    superuser(f"{EDIT} WHERE seq = {SIZE - 300}")
    before = Checkpoint.objects.count()

    with pytest.raises(LogDamaged):
        sign_checkpoint()
    bundle = exported(tmp_path)

    assert Checkpoint.objects.count() == before
    assert LogEntry.objects.count() == SIZE
    assert json.loads(bundle.read_text().splitlines()[-1])["seal"] is None


# --- the exported file ---------------------------------------------------------------------------------------------


def lines_of(bundle: Path) -> list[dict]:
    return [json.loads(line) for line in bundle.read_text().splitlines()]


def text_of(records: list[dict]) -> bytes:
    return "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records).encode()


def rewritten(bundle: Path, records: list[dict]) -> Path:
    bundle.write_bytes(text_of(records))
    return bundle


def at(records: list[dict], seq: int) -> int:
    return next(index for index, record in enumerate(records) if record.get("seq") == seq)


def edit(records: list[dict]) -> None:
    record = records[at(records, 700)]
    record["entry"] = record["entry"].replace("demo-agent", "nobody")


def edit_with_hash(records: list[dict]) -> None:
    edit(records)
    record = records[at(records, 700)]
    record["leaf"] = leaf_hash(record["entry"].encode()).hex()


def delete(records: list[dict]) -> None:
    del records[at(records, 700)]


def swap(records: list[dict]) -> None:
    first, second = at(records, 700), at(records, 701)
    records[first], records[second] = records[second], records[first]


def duplicate(records: list[dict]) -> None:
    records.insert(at(records, 701), dict(records[at(records, 700)]))


def truncate(records: list[dict]) -> None:
    del records[at(records, SIZE - 100) : -1]


def drop_newest_checkpoint(records: list[dict]) -> None:
    checkpoints = [index for index, record in enumerate(records) if record["type"] == "checkpoint"]
    del records[checkpoints[-1]]


def cut_end(records: list[dict]) -> None:
    records.pop()


@pytest.mark.parametrize(
    ("change", "seq", "kind"),
    [
        (edit, 700, "edited"),
        (edit_with_hash, 700, "rewritten"),
        (delete, 700, "deleted"),
        (swap, 700, "reordered"),
        (duplicate, 701, "inserted"),
        (truncate, SIZE - 100, "truncated"),
        (drop_newest_checkpoint, 0, "bundle-edited"),
        (cut_end, 0, "bundle-edited"),
    ],
)
@pytest.mark.by_turns(2)
def test_edited_bundle_is_located(log, tmp_path, change, seq, kind):
    bundle = exported(tmp_path)
    records = lines_of(bundle)
    change(records)

    report = checked(rewritten(bundle, records))

    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (seq, kind)


@pytest.mark.parametrize("change", [lambda r: r.pop(at(r, r[-3]["seq"])), lambda r: r[-3].update(entry="{}")])
def test_edited_bundle_of_a_session_is_noticed(log, tmp_path, change):
    bundle = exported(tmp_path, scope=Scope(session="s7"))
    records = lines_of(bundle)
    change(records)

    assert checked(rewritten(bundle, records)).verdict is Verdict.TAMPERED


def sealed_again(bundle: Path, records: list[dict]) -> Path:
    """By somebody who has the log's key, and cannot have others sign their checkpoints anew."""
    body = text_of(records[:-1])
    digest = hashlib.sha256(body).digest()
    seal = log_signer().sign(seal_text(origin=records[0]["origin"], lines=len(records) - 1, digest=digest))
    return rewritten(bundle, [*records[:-1], {"type": "end", "sha256": digest.hex(), "seal": seal}])


def checkpoints_behind(records: list[dict]) -> None:
    behind = [record for record in records if record["type"] == "checkpoint"]
    records[:] = [*(record for record in records[:-1] if record not in behind), *behind, records[-1]]


def chain_again(records: list[dict], entry: dict) -> None:
    """Have what follows the entry follow it as it is now."""
    leaf = entry["leaf"]
    for record in records[records.index(entry) + 1 :]:
        if record["type"] == "entry":
            record["entry"] = canonical({**json.loads(record["entry"]), "prev": leaf}).decode()
            record["leaf"] = leaf = leaf_hash(record["entry"].encode()).hex()
    records[0]["head"] = leaf


def without_its_proof(records: list[dict]) -> None:
    next(record for record in records if record["type"] == "entry" and "forger" in record["entry"]).pop("proof", None)


def without_the_signed_root(records: list[dict]) -> None:
    newest = [record for record in records if record["type"] == "checkpoint"][-1]
    records.remove(newest)


@pytest.mark.parametrize("scope", [Scope(session="s7"), Scope()], ids=["session", "all"])
@pytest.mark.parametrize("seal", [rewritten, sealed_again], ids=["", "with the key"])
@pytest.mark.parametrize("hide", [checkpoints_behind, without_its_proof, without_the_signed_root])
@pytest.mark.by_turns(2)
def test_entry_that_was_held_against_no_signed_root_is_not_called_intact(log, tmp_path, hide, seal, scope):
    """What was signed long ago, and stamped by others, says nothing of an entry that was compared with none of it."""
    bundle = exported(tmp_path, scope=scope)
    records = lines_of(bundle)
    entry = next(record for record in reversed(records) if "demo-agent" in record.get("entry", ""))
    entry["entry"] = entry["entry"].replace("demo-agent", "forger")
    entry["leaf"] = leaf_hash(entry["entry"].encode()).hex()
    if scope.whole:
        chain_again(records, entry)
    hide(records)

    report = checked(seal(bundle, records))

    assert report.verdict is not Verdict.INTACT
    assert report.verdict is Verdict.TAMPERED or report.covered < entry["seq"]


def test_checkpoint_in_a_part_comes_with_the_proof_that_it_is_of_this_log(log, tmp_path):
    bundle = exported(tmp_path, scope=Scope(session="s7"))
    records = lines_of(bundle)
    older = next(record for record in records if record["type"] == "checkpoint")
    del older["proof"]

    report = checked(sealed_again(bundle, records))

    assert [finding.kind for finding in report.findings] == ["bundle-edited"]


def test_part_that_cannot_be_compared_with_the_auditors_notes_says_so(log, tmp_path, capsys):
    bundle = exported(tmp_path, scope=Scope(session="s7"))
    records = lines_of(bundle)
    (first, *_, newest) = [record for record in records if record["type"] == "checkpoint"]
    mine = tmp_path / "mine.notes"
    mine.write_text(first["note"])
    arguments = [str(bundle), "--key", log_signer().verifier.vkey, "--anchor", str(mine)]

    assert main(arguments) == 0
    assert "your notes: 1 of 1 compared, each a beginning of this log\n" in capsys.readouterr().out

    records = [record for record in records if record["type"] != "checkpoint" or record is newest]
    sealed_again(bundle, records)
    assert main(arguments) == 2
    assert "none of your notes can be compared with it" in capsys.readouterr().out

    mine.write_text(f"{first['note']}\n{newest['note']}")
    assert main(arguments) == 0
    assert "your notes: 1 of 2 compared, each a beginning of this log; for the others" in capsys.readouterr().out


def test_text_of_another_statement_is_noticed(log, tmp_path):
    bundle = exported(tmp_path, scope=Scope(session="s7"), with_text=True)
    records = lines_of(bundle)
    entry = next(record for record in records if "text" in record)
    entry["text"] = entry["text"].replace("ssn", "zip")

    report = checked(rewritten(bundle, records))

    assert report.findings[0].kind == "text-edited"


def test_bundle_cut_back_to_an_older_checkpoint_needs_an_anchor_to_be_seen(log, tmp_path):
    """A consistent beginning of the log, unsealed: never a plain pass, and with an anchor exposed as cut."""
    bundle = exported(tmp_path)
    records = [r for r in lines_of(bundle) if r["type"] != "entry" or r["seq"] <= 1000]
    records = [r for r in records if r["type"] != "checkpoint" or int(r["note"].splitlines()[1]) <= 1000]
    records[0] |= {"size": 1000, "entries": 1000, "head": None}
    records[-1] = {"type": "end", "sha256": hashlib.sha256(text_of(records[:-1])).hexdigest(), "seal": None}

    cut = rewritten(bundle, records)

    assert checked(cut).verdict is Verdict.UNANCHORED
    report = checked(cut, anchor=anchor_file(log_signer().name))
    assert report.verdict is Verdict.TAMPERED
    assert (report.findings[0].seq, report.findings[0].kind) == (1001, "truncated")


def test_independent_verifier_agrees(log, tmp_path):
    """A second reading of the bundle from RFC 9162's definitions alone, with none of the project's hashing code."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    records = lines_of(exported(tmp_path))
    leaves = [hashlib.sha256(b"\0" + r["entry"].encode()).digest() for r in records if r["type"] == "entry"]
    for number, record in enumerate(r for r in records if r["type"] == "entry"):
        entry = json.loads(record["entry"])
        assert entry["seq"] == number + 1
        assert entry["prev"] == (leaves[number - 1].hex() if number else "00" * 32)
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(log_signer().verifier.vkey.split("+", 2)[2])[1:])
    for record in (r for r in records if r["type"] == "checkpoint"):
        text, signature = record["note"].split("\n\n")
        key.verify(base64.b64decode(signature.split()[2])[4:], text.encode() + b"\n")
        _, size, root = text.split("\n")[:3]
        assert base64.b64decode(root) == mth(leaves[: int(size)])


def mth(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def transaction_block():
    from django.db import transaction

    return transaction.atomic()
