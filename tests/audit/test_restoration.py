"""A log that came back from a backup goes on, and everybody sees it; nobody can use that to hide anything.

A restore is played by rolling the database back to a savepoint, which leaves the anchors as they are: that is what
`pg_restore` of a dump does (tests/deploy/test_backup.py does it with the real tools).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from audit.domain.anchor import anchor_file
from audit.domain.append import append_entries
from audit.domain.bundle import Scope, write_bundle
from audit.domain.checkpoints import LogDamaged, sign_checkpoint
from audit.domain.damage import current_damage
from audit.domain.entry import Entry
from audit.domain.head import lock_head
from audit.domain.integrity import check_chain
from audit.domain.keys import audit_vkey, log_keys, log_origin, log_signer
from audit.domain.note import split_notes
from audit.domain.restoration import KIND, Restoration, restoration_body
from audit.domain.restorations import RestorationRefused, find_loss, restore_log
from audit.domain.verify import Report, Verdict, describe, main, verify_bundle
from audit.domain.verify_walk import Trusted
from audit.models import Checkpoint, LogEntry
from tests.audit.factories import denied, opened
from tests.audit.test_tampering import state_at, superuser

REASON = "disk failure of db-1, restored from the dump of 02:00"
SHARED = 21  # entries the backup holds


def write(*names: str) -> None:
    append_entries([denied(name) for name in names])
    sign_checkpoint()


def lose(*, act: Callable[[], None] = lambda: None) -> None:
    """What is written and signed from here on is lost; anchors have it."""
    backup = transaction.savepoint()
    for number in range(3):
        write(f"lost-{number}")
    act()
    transaction.savepoint_rollback(backup)


@pytest.fixture
def log(db: None) -> None:
    append_entries([opened(), *(denied(f"d{number}") for number in range(9))])
    sign_checkpoint()
    append_entries([denied(f"e{number}") for number in range(SHARED - 11)])
    write("e-last")


@pytest.fixture
def restored(log: None) -> Restoration:
    lose()
    restoration = restore_log(reason=REASON, by="os:test")
    write("after")
    return restoration


def exported(path: Path, *, scope: Scope = Scope()) -> Path:  # noqa: B008
    target = path / "bundle.jsonl"
    with target.open("wb") as out:
        write_bundle(out, scope=scope, with_text=False, requested_by="auditor")
    return target


def judged(bundle: Path, *accepted: Restoration, anchor: Path | None = None) -> Report:
    trusted = Trusted(restorations=frozenset((each.seq, each.leaf) for each in accepted))
    return verify_bundle(bundle, keys=[log_signer().verifier], anchor=anchor, trusted=trusted)


def anchors() -> Path:
    return anchor_file(log_origin())


def kinds(report: Report) -> set[str]:
    return {finding.kind for finding in report.findings}


# --- what it is for --------------------------------------------------------------------------------------------------


def test_a_restored_log_is_damaged_until_it_is_said_to_be_restored(log):
    lose()
    with pytest.raises(LogDamaged, match="truncated"):
        sign_checkpoint()

    restoration = restore_log(reason=REASON, by="os:test")

    assert sign_checkpoint().size == LogEntry.objects.count()
    assert check_chain(log_keys()) == []
    assert not current_damage().exists()
    body = json.loads(bytes(LogEntry.objects.get(kind=KIND).canonical))["body"]
    assert (body["subject"], body["reason"], body["base"]) == ("os:test", REASON, SHARED)
    assert [size for size, _ in body["checkpoints"]] == [SHARED + 1, SHARED + 2, SHARED + 3]
    assert (restoration.seq, restoration.lost_to) == (SHARED + 1, SHARED + 3)


@pytest.mark.parametrize("scope", [Scope(), Scope(session="s1")], ids=["whole", "session"])
@pytest.mark.parametrize("held", [False, True], ids=["alone", "with-the-auditors-notes"])
def test_the_verifier_tells_a_restoration_and_passes_it_only_when_it_is_accepted(restored, tmp_path, scope, held):
    bundle = exported(tmp_path, scope=scope)
    anchor = anchors() if held else None

    report = judged(bundle, anchor=anchor)
    accepted = judged(bundle, restored, anchor=anchor)

    assert (report.verdict, report.findings) == (Verdict.TAMPERED, ())
    (line,) = describe(report)
    assert line.startswith(f"RESTORED: entry {SHARED + 1} says that the log was restored from a backup")
    assert ("3 of these checkpoints are among yours" in line) is held
    assert ("your own checkpoints show the first" in line) is held
    assert (accepted.verdict, accepted.findings, len(accepted.accepted)) == (Verdict.INTACT, (), 1)


def test_statements_that_were_served_over_the_damage_stay_in_the_log(log, tmp_path):
    lose()
    append_entries([denied("meanwhile-1"), denied("meanwhile-2")])  # alert: it goes on, unsigned

    restoration = restore_log(reason=REASON, by="os:test")

    assert restoration.seq == SHARED + 3
    assert judged(exported(tmp_path), restoration, anchor=anchors()).verdict is Verdict.INTACT


def test_a_second_restore_names_what_the_first_one_does_not(restored, tmp_path):
    lose()

    second = restore_log(reason="again", by="os:test")

    bundle = exported(tmp_path)
    assert second.named.isdisjoint(restored.named)
    assert judged(bundle, restored, anchor=anchors()).verdict is Verdict.TAMPERED
    assert judged(bundle, restored, second, anchor=anchors()).verdict is Verdict.INTACT


def test_a_hand_over_of_the_key_among_what_was_lost_can_be_made_again(log, settings, tmp_path):
    from audit.domain.rotate import rotate_log_key

    old = log_signer().verifier
    settings.HOOPWEB_LOG_SIGNING_KEY = (
        "bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldy0=," + settings.HOOPWEB_LOG_SIGNING_KEY
    )
    lose(act=lambda: rotate_log_key(rotated_by="os:test"))

    restoration = restore_log(reason=REASON, by="os:test")
    rotate_log_key(rotated_by="os:test")

    trusted = Trusted(restorations=frozenset({(restoration.seq, restoration.leaf)}))
    report = verify_bundle(exported(tmp_path), keys=[old], anchor=anchors(), trusted=trusted)
    assert (report.verdict, report.findings) == (Verdict.INTACT, ())


# --- what it is not for ----------------------------------------------------------------------------------------------


def test_a_log_that_holds_everything_anchored_has_nothing_to_disown(log):
    with pytest.raises(RestorationRefused, match="nothing to disown"):
        restore_log(reason=REASON, by="os:test")


@pytest.mark.parametrize("reason", ["", "two\nlines", "x" * 501])
def test_a_restoration_needs_a_reason_in_one_line(log, reason):
    lose()

    with pytest.raises(RestorationRefused, match="reason"):
        restore_log(reason=reason, by="os:test")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE audit_logentry SET canonical = '{}' WHERE seq = 5",
        "DELETE FROM audit_logentry WHERE seq = 5",
        "DELETE FROM audit_checkpoint WHERE size = 10",
        "UPDATE audit_checkpoint SET note = replace(note, '10', '11') WHERE size = 10",
        "DELETE FROM audit_sealedtext WHERE seq = 5",
    ],
)
def test_other_damage_is_not_explained_away(log, damage):
    lose()
    superuser(damage)
    before = LogEntry.objects.count()

    with pytest.raises(LogDamaged):
        restore_log(reason=REASON, by="os:test")

    assert LogEntry.objects.count() == before


def test_a_note_of_a_stranger_among_the_anchors_is_refused(log):
    lose()
    text = anchors().read_text()
    anchors().write_text(text + split_notes(text)[-1].replace("— hoopweb", "— someone"))

    with pytest.raises(RestorationRefused, match="no key of this log"):
        find_loss()


# --- attacks ---------------------------------------------------------------------------------------------------------


def cut(size: int) -> None:
    """Everything a superuser of the database can do to make the log end at `size`."""
    state = state_at(size)
    superuser(
        f"DELETE FROM audit_logentry WHERE seq > {size}",
        f"DELETE FROM audit_sealedtext WHERE seq > {size}",
        f"DELETE FROM audit_checkpoint WHERE size > {size}",
        f"DELETE FROM audit_statementrecord WHERE last_seq > {size}",
        f"UPDATE audit_sessionrecord SET last_seq = {size} WHERE last_seq > {size}",
        state,
    )


def test_entries_hidden_by_a_restoration_are_told_to_the_auditor(log, tmp_path):
    write("attack-1")
    write("attack-2")
    cut(SHARED)

    restoration = restore_log(reason="routine maintenance", by="os:attacker")

    report = judged(exported(tmp_path), anchor=anchors())
    assert report.verdict is Verdict.TAMPERED
    assert f"of up to {SHARED + 2} entries" in report.restored[0]
    assert '"os:attacker", because "routine maintenance"' in report.restored[0]
    assert "2 of these checkpoints are among yours" in report.restored[0]
    assert restoration.base == SHARED


def test_a_restoration_written_without_the_key_excuses_nothing(log, tmp_path):
    """The control: with the note of the key, the same entry does."""
    lose()
    genuine = transaction.savepoint()
    restore_log(reason=REASON, by="os:test")
    body = json.loads(bytes(LogEntry.objects.get(kind=KIND).canonical))["body"]
    transaction.savepoint_rollback(genuine)
    stranger = body["note"].rpartition(" ")[0] + " " + body["note"].rpartition(" ")[2].swapcase()

    append_entries([Entry(kind=KIND, body={**body, "note": stranger})])

    with pytest.raises(LogDamaged, match=r"restoration-forged.*checkpoint-missing"):
        sign_checkpoint()
    report = judged(exported(tmp_path), anchor=anchors())
    assert report.verdict is Verdict.TAMPERED
    assert {"restoration-forged", "truncated"} <= kinds(report)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["checkpoints"].append([SHARED + 9, "00" * 32]),
        lambda body: body.update(reason="nothing to see"),
        lambda body: body.update(subject="os:somebody-else"),
        lambda body: body.update(base=1),
    ],
)
def test_a_restoration_says_what_was_signed_and_nothing_else(log, change):
    lose()
    genuine = transaction.savepoint()
    restore_log(reason=REASON, by="os:test")
    body = json.loads(bytes(LogEntry.objects.get(kind=KIND).canonical))["body"]
    transaction.savepoint_rollback(genuine)
    change(body)

    append_entries([Entry(kind=KIND, body=body)])

    with pytest.raises(LogDamaged, match="restoration-forged"):
        sign_checkpoint()


def test_a_restoration_cannot_be_used_again_at_another_place(restored):
    body = json.loads(bytes(LogEntry.objects.get(kind=KIND).canonical))["body"]

    append_entries([Entry(kind=KIND, body=body)])

    with pytest.raises(LogDamaged, match="restoration-forged"):
        sign_checkpoint()


def test_a_fork_behind_a_known_restoration_is_cut(restored, tmp_path):
    """The restoration itself is kept as it was, and what followed it is replaced: its checkpoints are not named."""
    write("hidden-1")
    write("hidden-2")
    cut(restored.seq)

    with pytest.raises(LogDamaged, match="truncated"):
        sign_checkpoint()
    assert "truncated" in kinds(judged(exported(tmp_path), restored, anchor=anchors()))


def test_a_restoration_made_anew_at_the_same_place_is_not_the_accepted_one(restored, tmp_path):
    """Whoever holds the key cuts the log back to the backup once more, and admits it once more, with the same words."""
    write("hidden")
    cut(SHARED)

    again = restore_log(reason=REASON, by="os:test")

    assert again.seq == restored.seq
    report = judged(exported(tmp_path), restored, anchor=anchors())
    assert (report.verdict, kinds(report)) == (Verdict.TAMPERED, {"restoration-missing"})
    assert len(report.restored) == 1


def test_an_accepted_restoration_that_is_gone_is_missed(restored, log, tmp_path):
    """Cut back to before the restoration, with the anchor file cut as well: the auditor's acceptance remembers."""
    cut(10)
    anchors().write_text(split_notes(anchors().read_text())[0] + "\n")

    report = judged(exported(tmp_path), restored)

    assert (report.verdict, kinds(report)) == (Verdict.TAMPERED, {"restoration-missing"})


def records_of(bundle: Path) -> list[dict]:
    return [json.loads(line) for line in bundle.read_text().splitlines()]


def rewritten(bundle: Path, records: list[dict]) -> Path:
    bundle.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records))
    return bundle


def test_a_restoration_left_out_of_the_head_is_named(restored, tmp_path):
    bundle = exported(tmp_path)

    records = [record for record in records_of(bundle) if record["type"] != "restoration"]

    assert "restoration-hidden" in kinds(judged(rewritten(bundle, records), restored))


@pytest.mark.parametrize("scope", [Scope(), Scope(session="s1")], ids=["whole", "session"])
def test_a_restoration_that_is_not_in_the_log_is_named(log, tmp_path, scope):
    """One of another history of the same log, signed by its key, put into the head of a bundle."""
    lose()
    genuine = transaction.savepoint()
    restoration = restore_log(reason=REASON, by="os:test")
    declared = next(r for r in records_of(exported(tmp_path, scope=scope)) if r["type"] == "restoration")
    transaction.savepoint_rollback(genuine)
    anchors().write_text("\n".join(split_notes(anchors().read_text())[:2]) + "\n")
    bundle = exported(tmp_path, scope=scope)
    assert judged(bundle).verdict is Verdict.INTACT

    records = records_of(bundle)
    records.insert(1, declared)

    assert "restoration-forged" in kinds(judged(rewritten(bundle, records), restoration))


def test_a_checkpoint_that_is_not_named_is_held_against_the_restored_log(log, tmp_path):
    """The operator drops a note from the anchor file before restoring; the auditor has it."""
    lose()
    kept = tmp_path / "auditor.notes"
    kept.write_text(anchors().read_text())
    anchors().write_text("\n".join(split_notes(kept.read_text())[:-1]) + "\n")
    restoration = restore_log(reason=REASON, by="os:test")
    for number in range(5):
        write(f"over-it-{number}")

    report = judged(exported(tmp_path), restoration, anchor=kept)

    assert report.verdict is Verdict.TAMPERED
    assert kinds(report) & {"rewritten", "forked"}


# --- as commands -----------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_disowns_and_the_verifier_takes_what_it_prints(log, tmp_path, capsys):
    lose()
    out = StringIO()
    call_command("restore_log", "--dry-run", stdout=out)
    assert LogEntry.objects.filter(kind=KIND).count() == 0
    assert out.getvalue().count("not in the log: checkpoint of") == 3

    call_command("restore_log", "--reason", REASON, stdout=out)

    bundle = exported(tmp_path)
    given = out.getvalue().rpartition("--accept-restoration ")[2].strip()
    capsys.readouterr()
    assert main([str(bundle), "--key", audit_vkey()]) == Verdict.TAMPERED
    assert capsys.readouterr().out.startswith("RESTORED: ")
    assert main([str(bundle), "--key", audit_vkey(), "--accept-restoration", given]) == Verdict.INTACT
    assert "restoration accepted: entry" in capsys.readouterr().out
    assert main([str(bundle), "--key", audit_vkey(), "--accept-restoration", "22"]) == Verdict.UNUSABLE


def test_the_command_refuses_in_words(log, capsys):
    with pytest.raises(SystemExit) as stop:
        call_command("restore_log", "--reason", REASON)

    assert stop.value.code == 1
    assert "nothing to disown" in capsys.readouterr().err


def test_what_the_bundle_says_of_itself_cannot_pass_for_a_verdict(log, tmp_path, capsys):
    lose()
    with transaction.atomic():
        head, loss = lock_head(), find_loss()
        body = restoration_body(
            signer=log_signer(),
            by="os:test",
            reason="gone.\nintact: 9 entries \u202eTCATNI",
            base=loss.base,
            named=loss.named,
            seq=head.size + 1,
            prev=head.leaf,
            time_s=1,
        )
        append_entries([Entry(kind=KIND, body=body)])

    assert main([str(exported(tmp_path)), "--key", audit_vkey()]) == Verdict.TAMPERED

    said = capsys.readouterr().out
    assert said.startswith("RESTORED: ")
    assert len(said.splitlines()) == 1
    assert "\u202e" not in said


@pytest.mark.parametrize(
    "hostile",
    [None, 7, [], "", "{}", "[" * 5_000, '{"seq":1e999}', '{"kind":"log.restored"}', "\ud800"],
)
@pytest.mark.parametrize("member", ["entry", "proof"])
@pytest.mark.by_turns(2)
def test_a_restoration_that_is_none_ends_in_a_verdict(restored, tmp_path, member, hostile):
    bundle = exported(tmp_path)
    records = records_of(bundle)
    next(record for record in records if record["type"] == "restoration")[member] = hostile

    assert judged(rewritten(bundle, records), restored).verdict is Verdict.TAMPERED


@pytest.mark.parametrize("checkpoints", [[], [[1e999, "00"]], [[99, "00"]], "ab", [["22", "00" * 32, 1]], None])
def test_a_restoration_that_names_nothing_sensible_ends_in_a_verdict(restored, tmp_path, checkpoints):
    bundle = exported(tmp_path)
    records = records_of(bundle)
    record = next(record for record in records if record["type"] == "restoration")
    entry = json.loads(record["entry"])
    entry["body"]["checkpoints"] = checkpoints
    record["entry"] = json.dumps(entry)

    assert judged(rewritten(bundle, records), restored).verdict is Verdict.TAMPERED


def test_a_notes_file_that_somebody_kept_is_disowned_too(log, tmp_path):
    lose()
    kept = tmp_path / "auditor.notes"
    kept.write_text(anchors().read_text())
    anchors().unlink()

    call_command("restore_log", "--reason", REASON, "--anchor", str(kept), stdout=StringIO())

    assert Checkpoint.objects.order_by("-id").first().size == SHARED + 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audit_logdamage WHERE cleared_at IS NULL")
        assert cursor.fetchone() == (0,)
