"""The signing key changes; what was signed before still counts, and nothing else does."""

from __future__ import annotations

import base64
import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from audit.domain.anchor import anchor_file
from audit.domain.append import append_entries
from audit.domain.bundle import Scope, write_bundle
from audit.domain.checkpoints import LogDamaged, sign_checkpoint
from audit.domain.integrity import check_chain
from audit.domain.keyring import KeyRing, RetiredKey, open_rotation, rotation_note
from audit.domain.keys import SigningKeyProblem, configured_signers, log_keys, log_origin, log_signer
from audit.domain.note import Checkpoint, NoteProblem, Signer, Verifier
from audit.domain.rotate import rotate_log_key
from audit.domain.verify import Report, Verdict, verify_bundle
from tests.audit.factories import denied, opened


def seed(letter: str) -> str:
    return base64.b64encode(letter.encode() * 32).decode()


def use(settings, letters: str) -> None:
    settings.HOOPWEB_LOG_SIGNING_KEY = ",".join(seed(letter) for letter in letters)


def signer(letter: str) -> Signer:
    return Signer(log_origin(), letter.encode() * 32)


@pytest.fixture
def rotated(db, settings) -> None:
    """Three keys, a then b then c, with entries and checkpoints under each."""
    use(settings, "a")
    append_entries([opened(), denied("d1")])
    sign_checkpoint()
    for letters in ("ba", "cb"):
        use(settings, letters)
        append_entries([denied(f"{letters}1")])
        rotate_log_key(rotated_by="os:test")
        append_entries([denied(f"{letters}2")])
        sign_checkpoint()
    use(settings, "c")


def exported(path: Path, scope: Scope = Scope()) -> Path:  # noqa: B008
    target = path / "bundle.jsonl"
    with target.open("wb") as out:
        write_bundle(out, scope=scope, with_text=False, requested_by="auditor")
    return target


def verified(bundle: Path, *keys: Verifier, anchor: Path | None = None) -> Report:
    return verify_bundle(bundle, keys=keys, anchor=anchor)


def rewritten(bundle: Path, change) -> Path:
    records = [json.loads(line) for line in bundle.read_text().splitlines()]
    bundle.write_text("".join(json.dumps(record) + "\n" for record in change(records)))
    return bundle


@pytest.mark.parametrize("pinned", ["a", "b", "c"])
@pytest.mark.parametrize("scope", [Scope(), Scope(session="s1")], ids=["whole", "session"])
@pytest.mark.by_turns(2)
def test_a_rotated_log_verifies_with_any_key_of_its_chain(rotated, tmp_path, pinned, scope):
    report = verified(exported(tmp_path, scope), signer(pinned).verifier, anchor=anchor_file(log_origin()))

    assert (report.verdict, report.findings) == (Verdict.INTACT, ())


def test_the_stored_log_checks_with_the_newest_key_alone(rotated):
    assert check_chain(log_keys()) == []
    assert log_signer().verifier == signer("c").verifier


def test_a_key_outside_the_chain_verifies_nothing(rotated, tmp_path):
    report = verified(exported(tmp_path), signer("x").verifier)

    assert report.verdict is Verdict.TAMPERED
    assert "key-swapped" in {finding.kind for finding in report.findings}


def test_swapping_the_key_without_a_rotation_is_named(db, settings, tmp_path):
    use(settings, "a")
    append_entries([opened()])
    sign_checkpoint()
    use(settings, "b")

    with pytest.raises(LogDamaged, match="checkpoint-forged"):
        sign_checkpoint()


def test_a_new_key_in_the_configuration_signs_nothing_before_its_rotation(db, settings):
    use(settings, "ba")
    append_entries([opened()])

    sign_checkpoint()

    assert log_signer().verifier == signer("a").verifier


def test_the_log_does_not_go_on_without_the_key_it_names(rotated, settings):
    use(settings, "b")

    with pytest.raises(SigningKeyProblem, match="holds no key"):
        sign_checkpoint()


def test_rotating_to_a_key_the_log_had_already_is_refused(rotated, settings):
    use(settings, "ac")

    with pytest.raises(SigningKeyProblem, match="already"):
        rotate_log_key(rotated_by="os:test")


def test_nothing_is_rotated_over_damage(db, settings):
    use(settings, "a")
    append_entries([opened(), denied("d1")])
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE audit_logentry SET canonical = '{}' WHERE seq = 2")
        cursor.execute("SET LOCAL session_replication_role = origin")
    use(settings, "ba")

    with pytest.raises(LogDamaged):
        rotate_log_key(rotated_by="os:test")


def test_a_stolen_retired_key_signs_nothing_that_counts(rotated, tmp_path):
    stolen = signer("a")
    forged = stolen.sign(Checkpoint(stolen.name, 100, b"\x07" * 32).text())
    with pytest.raises(RetiredKey):
        log_keys().checkpoint(forged)

    def add(records):
        at = next(place for place, record in enumerate(records) if record["type"] == "checkpoint")
        return [*records[:at], {"type": "checkpoint", "source": "log", "note": forged}, *records[at:]]

    report = verified(rewritten(exported(tmp_path), add), signer("c").verifier)
    assert "checkpoint-forged" in {finding.kind for finding in report.findings}


@pytest.mark.parametrize("which", [0, 1])
def test_a_rotation_left_out_of_a_bundle_is_noticed(rotated, tmp_path, which):
    def drop(records):
        notes = [record for record in records if record["type"] == "rotation"]
        return [record for record in records if record is not notes[which]]

    report = verified(rewritten(exported(tmp_path), drop), signer("c").verifier)
    assert report.verdict is Verdict.TAMPERED
    assert "key-swapped" in {finding.kind for finding in report.findings}


def test_a_thief_of_the_newest_key_cannot_hand_over_unseen(rotated, tmp_path):
    """Who has c can sign a rotation to their own key; the log does not hold it."""
    note = rotation_note(old=signer("c"), new=signer("x"), seq=9, time_s=1)

    def add(records):
        return [records[0], *(r for r in records if r["type"] == "rotation"), {"type": "rotation", "note": note},
                *(r for r in records[1:] if r["type"] != "rotation")]  # fmt: skip

    report = verified(rewritten(exported(tmp_path), add), signer("a").verifier)
    assert any(finding.kind == "key-swapped" and finding.seq == 9 for finding in report.findings)


@pytest.mark.parametrize("missing", ["old", "new"])
def test_a_rotation_only_one_key_signed_is_none(db, missing):
    note = rotation_note(old=signer("a"), new=signer("b"), seq=3, time_s=1)
    assert open_rotation(note).seq == 3  # the control

    text, _, signatures = note.rpartition("\n\n")
    kept = signatures.splitlines(keepends=True)[1 if missing == "old" else 0]

    with pytest.raises(NoteProblem):
        open_rotation(f"{text}\n\n{kept}")


def test_a_ring_is_extended_in_both_directions_and_no_further(db):
    notes = [rotation_note(old=signer(old), new=signer(new), seq=seq, time_s=1) for old, new, seq in
             (("a", "b", 3), ("b", "c", 7), ("x", "y", 9))]  # fmt: skip
    rotations = [open_rotation(note) for note in notes]

    ring = KeyRing.of(signer("b").verifier).extended(rotations)

    assert {(term.key, term.first) for term in ring.terms} == {
        (signer("a").verifier, 0), (signer("b").verifier, 3), (signer("c").verifier, 7),
    }  # fmt: skip


def test_command_makes_a_key_and_then_rotates(db, settings, tmp_path):
    use(settings, "a")
    (tmp_path / "secrets").mkdir()
    stored = tmp_path / "secrets" / "log_signing_key"
    stored.write_text(seed("a"))
    append_entries([opened()])
    out = StringIO()

    with pytest.raises(CommandError, match="already"):
        call_command("rotate_log_key")
    call_command("rotate_log_key", "--generate", stdout=out)
    settings.HOOPWEB_LOG_SIGNING_KEY = stored.read_text()
    call_command("rotate_log_key", stdout=out)

    assert stored.stat().st_mode & 0o077 == 0
    assert log_signer() == configured_signers()[0]
    assert seed("a") not in out.getvalue()
    assert "hands the log over" in out.getvalue()
