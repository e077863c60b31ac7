"""A certificate of a purge excuses what is gone only with a note of the log's key; nobody else can write one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from audit.domain.append import append_entries
from audit.domain.bundle import Scope, write_bundle
from audit.domain.certificates import KIND, certificate_body
from audit.domain.certify import NothingToConfirm, confirm_certificate
from audit.domain.check import check_evidence
from audit.domain.checkpoints import sign_checkpoint
from audit.domain.entry import Entry, Json
from audit.domain.keys import audit_vkey, log_signer
from audit.domain.merkle import leaf_hash
from audit.domain.note import NoteProblem, Signer, Verifier, parse_named
from audit.domain.restorations import restore_log
from audit.domain.retention import purge
from audit.domain.rotate import rotate_log_key
from audit.domain.verify import Report, Verdict, describe, main, verify_bundle
from audit.domain.verify_walk import Trusted
from audit.models import LogEntry
from tests.audit.factories import authorised, opened
from tests.audit.test_retention import LONG_AGO, aged

WHOLE, SESSION = Scope(), Scope(session="s1")


@pytest.fixture(autouse=True)
def log(db: None) -> None:
    """A statement past its retention, and a young one."""
    append_entries([opened("s1"), aged(authorised("old"), session="s1"), authorised("young", session="s1")])
    sign_checkpoint()


def said(**changed: Json) -> dict[str, Json]:
    """What a certificate would say that covers every text here."""
    now = datetime.now(UTC).isoformat()
    return {
        "subject": "schedule",
        "class": "texts",
        "until": now,
        "up_to": 3,
        "count": 2,
        "held": 0,
        "holds": [],
        **changed,
    }


def place() -> tuple[int, bytes]:
    newest = LogEntry.objects.order_by("-seq").first()
    assert newest is not None
    return newest.seq + 1, bytes(newest.leaf)


def signed(signer: Signer | None = None, **changed: Json) -> dict[str, Json]:
    seq, prev = place()
    return certificate_body(signer=signer or log_signer(), said=said(**changed), seq=seq, prev=prev, time_s=1)


def write(body: dict[str, Json]) -> None:
    append_entries([Entry(kind=KIND, body=body)])


def steal() -> None:
    """The young statement's text goes, as only a purge may take one."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_sealedtext WHERE seq = 3")


def bundle(path: Path, scope: Scope = WHOLE) -> Path:
    target = path / "bundle"
    with target.open("wb") as out:
        write_bundle(out, scope=scope, with_text=True, requested_by="test")
    return target


def judged(path: Path, scope: Scope = WHOLE, *accepted: str) -> Report:
    trusted = Trusted(certificates=frozenset(map(parse_named, accepted)))
    return verify_bundle(bundle(path, scope), keys=[Verifier.parse(audit_vkey())], trusted=trusted)


def kinds(report: Report) -> set[str]:
    return {finding.kind for finding in report.findings}


def damage() -> set[str]:
    return {finding.kind for finding in check_evidence(checked_by="test").findings}


def named() -> str:
    entry = LogEntry.objects.filter(kind=KIND).order_by("seq").first()
    assert entry is not None
    return f"{entry.seq}:{leaf_hash(bytes(entry.canonical)).hex()}"


# --- what it is for --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [WHOLE, SESSION], ids=["whole", "session"])
def test_the_control_a_certificate_of_the_key_excuses_what_it_covers(tmp_path: Path, scope: Scope):
    write(signed())
    steal()

    report = judged(tmp_path, scope)

    assert damage() == set()
    assert (report.verdict, report.findings) == (Verdict.INTACT, ())


def test_the_verifier_tells_every_purge(tmp_path: Path):
    purge(by="os:keeper")

    (line,) = [line for line in describe(judged(tmp_path)) if line.startswith("purged, as certified: ")]

    assert ': 1 of class "texts" from before 20' in line
    assert 'up to entry 2, by "os:keeper"' in line


def test_a_certificate_of_an_earlier_key_of_the_log_counts(tmp_path: Path, settings):
    write(signed())
    steal()
    settings.HOOPWEB_LOG_SIGNING_KEY = (
        "bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldy0=," + settings.HOOPWEB_LOG_SIGNING_KEY
    )
    rotate_log_key(rotated_by="os:test")

    assert damage() == set()
    assert judged(tmp_path).verdict is Verdict.INTACT


# --- attacks ---------------------------------------------------------------------------------------------------------


def another_place() -> dict[str, Json]:
    body = signed()
    write(body)
    return body


FORGERIES: dict[str, tuple[Callable[[], dict[str, Json]], str]] = {
    "no-note": (said, "certificate-unsigned"),
    "another-key": (lambda: signed(Signer(log_signer().name, b"x" * 32)), "certificate-forged"),
    "another-log": (lambda: signed(Signer("hoopweb.log/0000", b"s" * 32)), "certificate-forged"),
    "widened": (lambda: {**signed(up_to=2), "up_to": 3}, "certificate-forged"),
    "later": (lambda: {**signed(until=LONG_AGO.isoformat()), "until": said()["until"]}, "certificate-forged"),
    "hold-dropped": (lambda: {**signed(holds=[{"session": "s1"}]), "holds": []}, "certificate-forged"),
    "another-class": (lambda: {**signed(**{"class": "recordings"}), "class": "texts"}, "certificate-forged"),
    "a-member-more": (lambda: {**signed(), "approved": "yes"}, "certificate-forged"),
    "note-is-no-text": (lambda: {**signed(), "note": [1]}, "certificate-forged"),
    "beyond-its-place": (lambda: signed(up_to=1_000), "certificate-forged"),
    "beyond-its-time": (
        lambda: signed(until=(datetime.now(UTC) + timedelta(days=9)).isoformat()),
        "certificate-forged",
    ),
}


@pytest.mark.parametrize("scope", [WHOLE, SESSION], ids=["whole", "session"])
@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.by_turns(2)
def test_a_certificate_the_key_did_not_sign_excuses_nothing(tmp_path: Path, forgery: str, scope: Scope):
    body, kind = FORGERIES[forgery]
    write(body())
    steal()

    report = judged(tmp_path, scope)

    assert {kind, "text-missing"} <= damage()
    assert report.verdict is Verdict.TAMPERED
    assert {kind, "text-missing"} <= kinds(report)


def test_a_certificate_cannot_be_used_again_at_another_place(tmp_path: Path):
    body = signed()
    write(body)
    write(body)

    assert damage() == {"certificate-forged"}
    assert "certificate-forged" in kinds(judged(tmp_path))


def test_a_forged_certificate_hides_no_record(tmp_path: Path):
    append_entries([aged(authorised("shown"), session="s1")])
    write(said(**{"class": "projections", "up_to": 4}))
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_statementrecord WHERE id = 'shown'")

    assert {"record-missing", "certificate-unsigned"} <= damage()


def test_an_unsigned_certificate_left_out_of_the_head_is_still_named(tmp_path: Path):
    write(said())
    path = bundle(tmp_path)
    lines = [line for line in path.read_text().splitlines(keepends=True) if '"type":"certificate"' not in line]
    path.write_text("".join(lines))

    report = verify_bundle(path, keys=[Verifier.parse(audit_vkey())])

    assert "certificate-unsigned" in kinds(report)


# --- certificates from before they were signed -----------------------------------------------------------------------


@pytest.mark.parametrize("scope", [WHOLE, SESSION], ids=["whole", "session"])
def test_who_holds_the_key_confirms_an_old_certificate(tmp_path: Path, scope: Scope):
    write(said())
    steal()
    out = StringIO()

    call_command("audit_purge", "--confirm", named(), stdout=out)

    assert out.getvalue() == "entry 5 confirms it, signed\n"
    assert damage() == set()
    assert judged(tmp_path, scope).verdict is Verdict.INTACT
    body = json.loads(bytes(LogEntry.objects.get(seq=5).canonical))["body"]
    assert (body["confirms"], body["up_to"], body["class"]) == (named(), 3, "texts")


def test_the_auditor_may_accept_one_by_its_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As in a bundle an earlier version exported: the entry is what it was, and nobody confirmed it."""
    write(said())
    path = bundle(tmp_path)

    assert main([str(path), "--key", audit_vkey()]) == Verdict.TAMPERED
    assert f"--accept-certificate {named()}" in capsys.readouterr().out
    accepted = judged(tmp_path, WHOLE, named())
    assert "certificate-unsigned" not in {finding.kind for finding in accepted.findings if finding.seq != 4}
    assert len(accepted.purges) == 1


def test_an_accepted_certificate_that_is_gone_is_missed(tmp_path: Path):
    report = judged(tmp_path, WHOLE, "4:" + "00" * 32)

    assert (report.verdict, kinds(report)) == (Verdict.TAMPERED, {"certificate-missing"})


@pytest.mark.parametrize("wrong", ["4", "3:" + "00" * 32, "999:" + "00" * 32, "signed"])
def test_only_an_unsigned_certificate_of_this_log_is_confirmed(wrong: str):
    write(signed())

    with pytest.raises(NothingToConfirm):
        confirm_certificate(named() if wrong == "signed" else wrong, by="os:test")

    assert LogEntry.objects.count() == 4


def test_an_unsigned_certificate_does_not_keep_a_log_from_being_restored():
    """It can be confirmed only once the log is signed again."""
    write(said())
    sign_checkpoint()
    backup = transaction.savepoint()
    append_entries([authorised("lost")])
    sign_checkpoint()
    transaction.savepoint_rollback(backup)

    restore_log(reason="disk failure", by="os:test")
    confirm_certificate(named(), by="os:test")

    assert damage() == set()


@pytest.mark.parametrize("hostile", [None, 7, [], "", "{}", "[" * 5_000, '{"seq":1e999}', f'{{"kind":"{KIND}"}}'])
@pytest.mark.parametrize("member", ["entry", "proof", "seq"])
@pytest.mark.by_turns(2)
def test_a_certificate_that_is_none_ends_in_a_verdict(tmp_path: Path, member: str, hostile: object):
    write(signed())
    path = bundle(tmp_path, SESSION)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    next(record for record in records if record["type"] == "certificate")[member] = hostile
    path.write_text("".join(json.dumps(record) + "\n" for record in records))

    assert verify_bundle(path, keys=[Verifier.parse(audit_vkey())]).verdict is Verdict.TAMPERED


def test_a_name_of_an_entry_is_read_strictly():
    with pytest.raises(NoteProblem, match="expected <entry>"):
        parse_named("04:" + "00" * 32)
