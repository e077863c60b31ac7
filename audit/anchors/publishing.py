"""Giving one checkpoint to one anchor. Each kind is a function that returns the proof to keep. Raises NotDelivered."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import EmailMessage, make_msgid

from audit.anchors.bucket import put_note
from audit.anchors.cosignature import Witness, add_checkpoint_request, cosigned_at
from audit.anchors.timestamp import QUERY_TYPE, TimestampProblem, read_roots, timestamp_query, verify_timestamp
from audit.domain.anchor import write_whole
from audit.domain.box import SealProblem
from audit.domain.merkle import Frontier, Tree, growth_proof
from audit.domain.note import NoteProblem
from audit.models import Anchor, AnchorProof, Checkpoint, LogEntry
from audit.sinks.secret import plain_secret, way_to
from audit.sinks.sending import NotDelivered, PartlyDelivered, Way, post
from audit.sinks.targets import TargetProblem, parse_networks, parse_target

_SIZE = re.compile(rb"[0-9]{1,18}")


def publish_to(anchor: Anchor, checkpoint: Checkpoint) -> bytes:
    return _PUBLISH[anchor.kind](anchor, checkpoint)


def _timestamp(anchor: Anchor, checkpoint: Checkpoint) -> bytes:
    answer = post(_way(anchor), timestamp_query(checkpoint.note), content_type=QUERY_TYPE)
    try:
        # A token that nobody can verify later proves nothing: it is not kept.
        verify_timestamp(answer, note=checkpoint.note, roots=read_roots(anchor.certificate))
    except TimestampProblem as problem:
        raise NotDelivered(str(problem)) from None
    return answer


def _witness(anchor: Anchor, checkpoint: Checkpoint) -> bytes:
    known = AnchorProof.objects.filter(anchor=anchor.name, kind=anchor.kind).order_by("-id").first()
    try:
        lines = _ask_witness(anchor, checkpoint, old=known.size if known else 0)
    except NotDelivered as refusal:
        # 409: the witness says up to where it knows this log (tlog-witness, "text/x.tlog.size").
        size = refusal.answer.strip()
        if refusal.status != 409 or not _SIZE.fullmatch(size) or int(size) > checkpoint.size:
            raise
        lines = _ask_witness(anchor, checkpoint, old=int(size))
    try:
        cosigned_at(checkpoint.note, lines.decode(errors="replace"), Witness.parse(anchor.certificate))
    except NoteProblem as problem:
        raise NotDelivered(str(problem)) from None
    return lines


def _ask_witness(anchor: Anchor, checkpoint: Checkpoint, *, old: int) -> bytes:
    proof = _growth(old, checkpoint) if 0 < old < checkpoint.size else []
    way = _way(anchor)
    way = replace(way, target=replace(way.target, path=f"{way.target.path.rstrip('/')}/add-checkpoint"))
    return post(way, add_checkpoint_request(checkpoint.note, old=old, proof=proof), content_type="text/plain")


def _growth(old: int, checkpoint: Checkpoint) -> list[bytes]:
    """That the log's first `old` entries are still its beginning: from what a checkpoint of that size has kept of them.

    Where there is none, as after a restore, from all of them. A witness believes neither: it looks at the proof.
    """
    kept = Checkpoint.objects.filter(size=old).order_by("-id").values_list("frontier", flat=True).first()
    older = None
    if kept is not None:
        with contextlib.suppress(ValueError):  # damaged, which checks tell
            older = Frontier.from_bytes(old, bytes(kept))
    rows = LogEntry.objects.filter(seq__gt=0 if older is None else old, seq__lte=checkpoint.size).order_by("seq")
    leaves = (bytes(leaf) for leaf in rows.values_list("leaf", flat=True).iterator(10_000))
    return Tree(leaves).consistency_proof(old, checkpoint.size) if older is None else growth_proof(older, [*leaves])


def _mail(anchor: Anchor, checkpoint: Checkpoint) -> bytes:
    """One mail for each address: a server that takes some of a mail's addresses says so to nobody."""
    message_id, refused, problem = make_msgid(domain="hoopweb"), 0, ""
    for address in anchor.recipients:
        try:
            _note_mail(checkpoint, address, message_id).send()
        except (SMTPException, OSError) as error:
            refused, problem = refused + 1, type(error).__name__
    if not refused:
        return message_id.encode()
    if refused == len(anchor.recipients):
        raise NotDelivered(f"the mail was not taken: {problem}")
    detail = f"the mail to {refused} of {len(anchor.recipients)} addresses was not taken: {problem}"
    raise PartlyDelivered(detail, proof=message_id.encode())


def _note_mail(checkpoint: Checkpoint, address: str, message_id: str) -> EmailMessage:
    message = EmailMessage(
        subject=f"hoopweb: checkpoint of {checkpoint.size} entries",
        body=_MAIL.format(size=checkpoint.size, at=f"{checkpoint.signed_at:%Y-%m-%d %H:%M:%S} UTC"),
        to=[address],
        headers={"Message-ID": message_id},
    )
    # As bytes, and so in base64: a note has a letter beyond ASCII, and not every server on the way lets those be.
    message.attach(f"checkpoint-{checkpoint.size}.note", checkpoint.note.encode(), "application/octet-stream")
    return message


_MAIL = """At {at} the evidence log had {size} entries. The attached note is signed by the log's key.

Keep this mail. To check later that nothing up to here was changed or removed, put the notes you have one after the
other into a file and give it to the verifier:

    audit_verify BUNDLE --key VKEY --anchor NOTES
"""


def _file_name(checkpoint: Checkpoint) -> str:
    """By its bytes too: a log restored from a backup counts sizes and rows anew, and must not pass over old files."""
    digest = hashlib.sha256(checkpoint.note.encode()).hexdigest()
    return f"{checkpoint.size:012d}-{checkpoint.pk}-{digest[:16]}.note"


def _bucket(anchor: Anchor, checkpoint: Checkpoint) -> bytes:
    name = _file_name(checkpoint)
    try:
        secret, networks = plain_secret(anchor), parse_networks(settings.HOOPWEB_SINK_NETWORKS)
    except (SealProblem, TargetProblem) as problem:
        raise NotDelivered(str(problem)) from None
    put_note(anchor.url, secret=secret, name=name, note=checkpoint.note.encode(), networks=networks)
    return name.encode()


def _directory(anchor: Anchor, checkpoint: Checkpoint) -> bytes:
    """One file a checkpoint, never written twice: for storage that keeps what it has (object lock, WORM)."""
    directory = settings.HOOPWEB_ANCHOR_DIR / parse_target(anchor.url).path
    name, note = _file_name(checkpoint), checkpoint.note.encode()
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        _write_once(directory / name, note)
    except FileExistsError:  # published before a crash could say so, or cut short by it
        if _content(directory / name) != note:
            raise NotDelivered(f"{name} is there and is not the note: remove it") from None
    except OSError as error:
        raise NotDelivered(f"the note cannot be written: {error.strerror or type(error).__name__}") from None
    return name.encode()


def _write_once(path: Path, note: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o440)
    try:
        write_whole(descriptor, note)
    except OSError:
        with contextlib.suppress(OSError):  # storage may keep what it has
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _way(anchor: Anchor) -> Way:
    return way_to(anchor, ca=anchor.ca)


_PUBLISH: Mapping[str, Callable[[Anchor, Checkpoint], bytes]] = {
    Anchor.Kind.RFC3161: _timestamp,
    Anchor.Kind.WITNESS: _witness,
    Anchor.Kind.MAIL: _mail,
    Anchor.Kind.DIRECTORY: _directory,
    Anchor.Kind.BUCKET: _bucket,
}
