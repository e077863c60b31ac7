"""Checkpoints go to others, what comes back is verified, and bundles carry it to whoever verifies offline."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import trustme
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, transaction

from audit.anchors.certificate_order import in_order
from audit.anchors.delivery import anchor_newest, due_anchors
from audit.anchors.timestamp import TimestampProblem, read_roots, timestamp_query, verify_timestamp
from audit.domain.anchor import anchor_file
from audit.domain.append import append_entries
from audit.domain.bundle import Scope, write_bundle
from audit.domain.checkpoints import sign_checkpoint
from audit.domain.head import read_head
from audit.domain.keys import audit_vkey, log_signer
from audit.domain.note import Checkpoint as SignedCheckpoint
from audit.domain.note import open_checkpoint
from audit.domain.verify import Report, Trusted, Verdict, verify_bundle
from audit.models import Anchor, AnchorProof, Checkpoint, LogEntry
from audit.sinks.secret import store_secret
from tests.audit.anchors.authorities import LocalWitness, TimestampAuthority
from tests.audit.factories import denied, opened
from tests.audit.sinks.receivers import HttpReceiver, running
from tests.audit.test_chunk_store import s3  # noqa: F401
from tests.mail_server import mail_server
from tests.rows import reading


@pytest.fixture(autouse=True)
def loopback(settings, tmp_path, db):
    settings.HOOPWEB_SINK_NETWORKS = ["127.0.0.0/8"]
    settings.HOOPWEB_ANCHOR_DIR = tmp_path / "anchored"


@pytest.fixture
def authority(tmp_path) -> TimestampAuthority:
    return TimestampAuthority(tmp_path / "tsa")


def anchor(kind: str, **fields) -> Anchor:
    row = Anchor(name=kind, kind=kind, **fields)
    row.full_clean()
    row.save()
    return row


def grow(count: int = 3) -> None:
    append_entries([denied(f"{datetime.now(UTC).timestamp()}-{at}") for at in range(count)])
    sign_checkpoint()


def later(row: Anchor) -> None:
    Anchor.objects.filter(pk=row.pk).update(delivered_at=datetime.now(UTC) - timedelta(days=1), next_try_at=None)


def exported(path: Path, scope: Scope = Scope()) -> Path:  # noqa: B008
    target = path / "bundle.jsonl"
    with target.open("wb") as out:
        write_bundle(out, scope=scope, with_text=False, requested_by="auditor")
    return target


def verified(bundle: Path, **trusted) -> Report:
    return verify_bundle(bundle, keys=[log_signer().verifier], trusted=Trusted(**trusted))


def changed_anchor(bundle: Path, **fields) -> Path:
    records = [json.loads(line) for line in bundle.read_text().splitlines()]
    for record in records:
        if record["type"] == "anchor":
            record.update(fields)
    bundle.write_text("".join(json.dumps(record) + "\n" for record in records))
    return bundle


def test_anchor_that_was_served_by_a_clock_that_was_ahead_is_served_again(authority):
    grow()
    with running(HttpReceiver()) as server:
        server.answer = authority.answer
        row = anchor("rfc3161", url=f"http://127.0.0.1:{server.port}/tsr", certificate=authority.root)
        assert anchor_newest(row.pk)
    grow()
    assert due_anchors() == []

    Anchor.objects.filter(pk=row.pk).update(delivered_at=datetime.now(UTC) + timedelta(days=365))

    assert due_anchors() == [row.pk]


@pytest.mark.parametrize("scope", [Scope(), Scope(session="s1")], ids=["whole", "session"])
def test_a_time_stamp_is_taken_kept_and_verified_offline(authority, tmp_path, scope):
    append_entries([opened()])
    grow()
    with running(HttpReceiver()) as server:
        server.answer = authority.answer
        row = anchor("rfc3161", url=f"http://127.0.0.1:{server.port}/tsr", certificate=authority.root)
        assert anchor_newest(row.pk)
        assert due_anchors() == []  # not before its time
    grow()

    report = verified(exported(tmp_path, scope), tsa_roots=authority.root)

    assert (report.verdict, report.findings) == (Verdict.INTACT, ())
    (line,) = report.anchors
    assert line.startswith("rfc3161: 4 entries, time-stamped at ")
    assert line.endswith("holds")


def test_a_time_stamp_with_its_chain_in_a_files_order_is_taken_and_verified(tmp_path):
    authority = TimestampAuthority(tmp_path / "tsa", chain=True)
    grow()
    with running(HttpReceiver()) as server:
        server.answer = authority.answer
        row = anchor("rfc3161", url=f"http://127.0.0.1:{server.port}/", certificate=authority.root)
        assert anchor_newest(row.pk), Anchor.objects.get().problem
    kept = bytes(AnchorProof.objects.get().proof)

    report = verified(exported(tmp_path), tsa_roots=authority.root)

    assert in_order(kept) != kept  # the control: it came in another order than DER's, and is kept as it came
    assert len(in_order(kept)) == len(kept)
    assert report.anchors[0].endswith("holds")


def test_an_authority_of_ones_own_is_reached_by_its_certificate(authority, tmp_path):
    tls = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.issue_cert("localhost").configure_cert(context)
    grow()
    with running(HttpReceiver(context=context)) as server:
        server.answer = authority.answer
        row = anchor("rfc3161", url=f"https://localhost:{server.port}/", certificate=authority.root)
        assert not anchor_newest(row.pk)  # the control: no authority of the system's signed it
        assert "its certificate is not of the given authority" in Anchor.objects.get().problem

        Anchor.objects.update(ca=tls.cert_pem.bytes().decode(), next_try_at=None)

        assert anchor_newest(row.pk), Anchor.objects.get().problem


def test_without_its_roots_a_time_stamp_proves_nothing_and_says_so(authority, tmp_path):
    grow()
    with running(HttpReceiver()) as server:
        server.answer = authority.answer
        anchor_newest(anchor("rfc3161", url=f"http://127.0.0.1:{server.port}/", certificate=authority.root).pk)
    bundle = exported(tmp_path)

    assert "not checked" in verified(bundle).anchors[0]
    out = StringIO()
    roots = tmp_path / "roots.pem"
    roots.write_text(authority.root)
    with pytest.raises(SystemExit) as ended:
        call_command("audit_verify", str(bundle), key=[audit_vkey()], tsa=str(roots), stdout=out)
    assert ended.value.code == 0


def test_a_time_stamp_of_another_authority_or_another_note_is_named(authority, tmp_path):
    grow()
    with running(HttpReceiver()) as server:
        server.answer = authority.answer
        anchor_newest(anchor("rfc3161", url=f"http://127.0.0.1:{server.port}/", certificate=authority.root).pk)
    bundle = exported(tmp_path)
    stranger = TimestampAuthority(tmp_path / "stranger")

    assert {f.kind for f in verified(bundle, tsa_roots=stranger.root).findings} == {"anchor-forged"}

    grow()
    newer = sign_checkpoint().note
    kinds = {
        f.kind for f in verified(changed_anchor(exported(tmp_path), note=newer), tsa_roots=authority.root).findings
    }
    assert "anchor-forged" in kinds


def test_an_altered_token_is_refused(tmp_path):
    good = TimestampAuthority(tmp_path / "good")
    note = sign_checkpoint().note
    stamped = good.answer(timestamp_query(note))[2]
    assert verify_timestamp(stamped, note=note, roots=read_roots(good.root))
    with pytest.raises(TimestampProblem):
        verify_timestamp(stamped, note=note + "x", roots=read_roots(good.root))
    with pytest.raises(TimestampProblem):
        verify_timestamp(stamped[:-9] + b"tampered!", note=note, roots=read_roots(good.root))
    with pytest.raises(TimestampProblem):
        verify_timestamp(b"<html>", note=note, roots=read_roots(good.root))


def test_a_token_that_does_not_verify_is_not_kept_and_asked_for_again(authority, tmp_path):
    grow()
    with running(HttpReceiver()) as server:
        server.answer = TimestampAuthority(tmp_path / "stranger").answer
        row = anchor("rfc3161", url=f"http://127.0.0.1:{server.port}/", certificate=authority.root)
        assert not anchor_newest(row.pk)
        row.refresh_from_db()
        assert (AnchorProof.objects.count(), row.failures) == (0, 1)

        server.answer = authority.answer
        later(row)
        assert due_anchors() == [row.pk]
        assert anchor_newest(row.pk)


def test_a_witness_cosigns_growth_and_refuses_a_fork(tmp_path):
    grow()
    local = LocalWitness(log_signer().verifier)
    with running(HttpReceiver()) as server:
        server.answer = local.answer
        row = anchor("witness", url=f"http://127.0.0.1:{server.port}/w", certificate=local.witness.vkey)
        assert anchor_newest(row.pk)
        grow()
        later(row)
        assert anchor_newest(row.pk)
        assert server.requests[-1][0] == "/w/add-checkpoint"
        assert local.refusals == []

        AnchorProof.objects.all().delete()  # we forgot up to where it knows the log: it says so (409)
        grow()
        later(row)
        assert anchor_newest(row.pk)
        assert local.refusals == [409]

        report = verified(exported(tmp_path), witnesses=(local.witness.vkey,))
        assert report.verdict is Verdict.INTACT
        assert report.anchors[0].endswith("holds")

        local.root = bytes(32)  # as if this were another history than the one it knows
        grow()
        later(row)
        assert not anchor_newest(row.pk)
        assert local.refusals == [409, 422]


def test_a_witness_is_shown_growth_without_reading_what_it_knows():
    grow(1_000)
    local = LocalWitness(log_signer().verifier)
    with running(HttpReceiver()) as server:
        server.answer = local.answer
        row = anchor("witness", url=f"http://127.0.0.1:{server.port}", certificate=local.witness.vkey)
        assert anchor_newest(row.pk)
        grow(7)
        later(row)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE audit_logentry, audit_checkpoint")

        with reading("audit_logentry", most=20):
            assert anchor_newest(row.pk)
        assert local.refusals == []

        with connection.cursor() as cursor:  # as where a restore lost it: the proof is made from every entry
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("DELETE FROM audit_checkpoint WHERE size = 1007")
            cursor.execute("SET LOCAL session_replication_role = origin")
        append_entries([denied("last")])
        later(row)
        Checkpoint.objects.create(**_signed_over(1_008))
        assert anchor_newest(row.pk)
        assert local.refusals == []


def _signed_over(size: int) -> dict[str, Any]:
    """A checkpoint over the log's head, without the check that would miss the one before it."""
    head, signer = read_head(), log_signer()
    assert head.size == size
    note = signer.sign(SignedCheckpoint(signer.name, size, head.frontier.root).text())
    return {"size": size, "root": head.frontier.root, "frontier": head.frontier.to_bytes(), "head": head.leaf,
            "note": note, "signed_at": datetime.now(UTC)}  # fmt: skip


def test_a_cosignature_of_another_witness_is_named(tmp_path):
    grow()
    local, other = (LocalWitness(log_signer().verifier) for _ in range(2))
    with running(HttpReceiver()) as server:
        server.answer = local.answer
        anchor_newest(anchor("witness", url=f"http://127.0.0.1:{server.port}", certificate=local.witness.vkey).pk)

    bundle = exported(tmp_path)
    assert {f.kind for f in verified(bundle, witnesses=(other.witness.vkey,)).findings} == {"anchor-forged"}
    assert verified(changed_anchor(bundle, proof=""), witnesses=(local.witness.vkey,)).verdict is Verdict.TAMPERED


def test_the_auditor_gets_the_note_by_mail_and_nothing_else():
    grow()
    anchor_newest(anchor("mail", recipients=["auditor@example.org"]).pk)

    (message,) = mail.outbox
    (attachment,) = message.attachments
    assert open_checkpoint(attachment[1].decode(), [log_signer().verifier]).size == 3
    assert message.to == ["auditor@example.org"]
    assert "demo-agent" not in message.body + attachment[1].decode()


def test_an_auditor_whose_address_is_refused_is_missed_and_nobody_else_is(settings, caplog):
    """A mail server that takes one of a mail's addresses says nothing of the other."""
    grow()
    row = anchor("mail", recipients=["gone@example.org", "auditor@example.org"], every_s=86_400)

    with mail_server(settings) as server:
        server.refuses = {"gone@example.org"}
        assert not anchor_newest(row.pk)
        grow()
        due = due_anchors()
        after_a_day(row)
        server.refuses = set()
        assert due_anchors() == [row.pk]
        assert anchor_newest(row.pk)

    row.refresh_from_db()
    assert due == []  # the other has a checkpoint, and is not mailed again for it
    assert server.told == ["auditor@example.org", "gone@example.org", "auditor@example.org"]
    assert [proof.size for proof in AnchorProof.objects.order_by("id")] == [3, 7]
    assert [kind for kind in kinds_logged() if kind.startswith("anchor.")] == ["anchor.failing", "anchor.resumed"]
    assert row.problem == ""
    assert "gone@" not in caplog.text


def test_a_note_comes_out_of_the_mail_as_it_went_in(settings):
    grow()
    row = anchor("mail", recipients=["auditor@example.org"])

    with mail_server(settings) as server:
        assert anchor_newest(row.pk)

    ((_, message),) = server.taken
    (attachment,) = message.iter_attachments()
    assert attachment.get_content().decode() == Checkpoint.objects.latest("id").note
    assert message.as_bytes().isascii()  # no server asked for more (RFC 6152)
    assert AnchorProof.objects.get().proof == str(message["Message-ID"]).encode()


def after_a_day(row: Anchor) -> None:
    earlier = datetime.now(UTC) - timedelta(days=2)
    Anchor.objects.filter(pk=row.pk).update(delivered_at=earlier, failing_since=earlier, next_try_at=None)


def kinds_logged() -> list[str]:
    return list(LogEntry.objects.order_by("seq").values_list("kind", flat=True))


def test_a_directory_gets_one_file_a_checkpoint_and_none_is_written_twice(settings, tmp_path):
    grow()
    row = anchor("directory", url="file:///worm")
    anchor_newest(row.pk)
    (path,) = (settings.HOOPWEB_ANCHOR_DIR / "worm").iterdir()
    before = path.read_text()
    assert path.stat().st_mode & 0o222 == 0

    Anchor.objects.update(cursor=0)  # a crash before the cursor moved
    assert anchor_newest(row.pk)
    assert path.read_text() == before
    assert verify_bundle(exported(tmp_path), keys=[log_signer().verifier], anchor=path).verdict is Verdict.INTACT


def test_a_directory_keeps_the_notes_from_before_and_after_a_restore(settings):
    """A restored log counts sizes and rows anew: the same numbers, another note."""
    grow()
    row = anchor("directory", url="file:///worm")
    backup = transaction.savepoint()
    for _ in range(2):
        grow()
        assert anchor_newest(row.pk)
        lost = Checkpoint.objects.order_by("-id").values("pk", "size")[0]
        anchor_file(log_signer().name).unlink()
        transaction.savepoint_rollback(backup)
        with connection.cursor() as cursor:  # sequences do not roll back, a dump's are restored
            cursor.execute("SELECT setval(pg_get_serial_sequence('audit_checkpoint', 'id'), %s)", [lost["pk"] - 1])

    notes = [path.name.split("-")[:2] for path in (settings.HOOPWEB_ANCHOR_DIR / "worm").iterdir()]
    assert notes == [notes[0], notes[0]]


def test_a_bucket_gets_one_object_a_checkpoint_and_none_is_put_over_another(s3, tmp_path):  # noqa: F811
    endpoint, client = s3
    grow()
    row = anchor("bucket", url=f"s3://evidence/notes?endpoint={endpoint}&region=us-east-1")
    store_secret(row, "notes-key:canary-notes-secret")

    assert anchor_newest(row.pk)
    (item,) = client.list_objects_v2(Bucket="evidence", Prefix="notes/")["Contents"]
    before = client.get_object(Bucket="evidence", Key=item["Key"])["Body"].read()
    Anchor.objects.update(cursor=0)  # a crash before the cursor moved
    assert anchor_newest(row.pk)
    for other in (b"somebody else's", before[:-1], b""):  # that is no anchor, and stays as it is
        client.put_object(Bucket="evidence", Key=item["Key"], Body=other)
        Anchor.objects.update(cursor=0, failures=0)
        assert not anchor_newest(row.pk)
        row.refresh_from_db()
        assert (row.failures, "is not the note" in row.problem) == (1, True)
        assert client.get_object(Bucket="evidence", Key=item["Key"])["Body"].read() == other

    kept = tmp_path / "kept.notes"
    kept.write_bytes(b"\xef\xbb\xbf" + before.replace(b"\n", b"\r\n"))  # as an editor of Windows saves it
    bundle, keys = exported(tmp_path), [log_signer().verifier]
    report = verify_bundle(bundle, keys=keys, anchor=kept)
    assert report.verdict is Verdict.INTACT
    assert "bucket: 3 entries, given to a bucket, and among the notes you hold: holds" in report.anchors
    assert set(verify_bundle(bundle, keys=keys).anchors) == {
        "bucket: 3 entries, given to a bucket; compare with what they kept (--anchor)"
    }


@pytest.mark.parametrize("size", [b"9" * 5_000, b"-1", b"\xb2", b"", b"10 0"])
def test_a_witness_that_says_nonsense_has_failed(size):
    grow()
    with running(HttpReceiver()) as server:
        server.answer = lambda _: (409, {"Content-Type": "text/x.tlog.size"}, size)
        witness = LocalWitness(log_signer().verifier).witness
        row = anchor("witness", url=f"http://127.0.0.1:{server.port}", certificate=witness.vkey)

        assert not anchor_newest(row.pk)

    row.refresh_from_db()
    assert row.failures == 1


def test_a_bucket_in_a_network_nobody_named_gets_nothing(s3, settings):  # noqa: F811
    settings.HOOPWEB_SINK_NETWORKS = []
    grow()
    row = anchor("bucket", url=f"s3://evidence/elsewhere?endpoint={s3[0]}")

    assert not anchor_newest(row.pk)

    row.refresh_from_db()
    assert (row.cursor, bool(row.problem)) == (0, True)
    assert s3[1].list_objects_v2(Bucket="evidence", Prefix="elsewhere/")["KeyCount"] == 0


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("rfc3161", {"url": "https://t/", "certificate": "x"}), ("rfc3161", {"url": "", "certificate": ""}),
     ("witness", {"url": "https://w/", "certificate": "x+y+z"}), ("mail", {"recipients": []}),
     ("mail", {"recipients": ["nobody"]}), ("directory", {"url": "https://h/"}), ("directory", {"url": "file:///../x"}),
     ("bucket", {"url": "https://b/"}), ("bucket", {"url": "s3://b/?secret=x"}), ("bucket", {"url": "gs://b/?region=x"}),
     ("bucket", {"url": "s3://b/?endpoint=file:///x"}), ("bucket", {"url": "s3://k:v@b/"})],
)  # fmt: skip
def test_what_an_anchor_needs_is_asked_before_it_is_saved(kind, fields):
    with pytest.raises(ValidationError):
        anchor(kind, **fields)


@pytest.mark.parametrize("fields", [{"anchor": "tsa: 9 entries, time-stamped: holds"}, {"kind": "notary: holds"}])
def test_a_made_up_name_does_not_read_like_a_verdict(tmp_path, fields):
    grow()
    anchor_newest(anchor("directory", url="file:///worm").pk)

    report = verified(changed_anchor(exported(tmp_path), **fields))

    assert report.verdict is Verdict.TAMPERED
    assert report.anchors == ()
