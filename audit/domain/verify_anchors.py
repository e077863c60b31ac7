"""What an anchor's proof in a bundle is worth to somebody who trusts the anchor. Pure.

A proof speaks of a checkpoint, and the checkpoint is held against the bundle like any other: a time stamp of a root the
entries do not lead to is a contradiction, not an anchor. Without the authority's certificate or the witness's key
nothing is concluded, and the report says what to give.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from audit.domain.note import NoteProblem
from audit.domain.verify_walk import Walk, moment

KINDS = frozenset({"rfc3161", "witness", "mail", "directory", "bucket"})
_NAME = re.compile(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z")


def judge_anchor(walk: Walk, record: Mapping[str, Any], size: int, root: bytes) -> None:
    """Note what the record proves of the log's first `size` entries, or what is wrong with it."""
    name, kind = str(record["anchor"]), str(record["kind"])
    if not _NAME.match(name) or kind not in KINDS:
        # Both are printed: a made-up name must not read like a verdict of ours.
        walk.bad(0, "bundle-edited", "an anchor has a name or kind that none can have")
        return
    what = f"{name}: {size} entries"
    judge = _JUDGES.get(kind)
    if judge is None:
        yours = (size, root) in walk.held
        kept = ", and among the notes you hold: holds" if yours else "; compare with what they kept (--anchor)"
        walk.anchors.append(f"{what}, given to a {kind}{kept}")
        return
    judge(walk, record, what)


def _timestamp(walk: Walk, record: Mapping[str, Any], what: str) -> None:
    if not walk.trusted.tsa_roots:
        walk.anchors.append(f"{what}, time stamp not checked: give the authority's roots (--tsa)")
        return
    try:
        # Only here: whoever checks no time stamp needs no library for them.
        from audit.anchors.timestamp import TimestampProblem, read_roots, verify_timestamp  # noqa: PLC0415
    except ImportError:
        walk.anchors.append(f"{what}, time stamp not checked: pip install rfc3161-client")
        return
    try:
        roots = read_roots(walk.trusted.tsa_roots)
        at = verify_timestamp(base64.b64decode(record["proof"]), note=str(record["note"]), roots=roots)
    except TimestampProblem as problem:
        walk.bad(0, "anchor-forged", f"{what}: {problem}")
        return
    walk.anchors.append(f"{what}, time-stamped at {at:%Y-%m-%d %H:%M:%S} UTC: holds")


def _witness(walk: Walk, record: Mapping[str, Any], what: str) -> None:
    from audit.anchors.cosignature import Witness, cosigned_at  # noqa: PLC0415

    lines = base64.b64decode(record["proof"]).decode(errors="replace")
    if not walk.trusted.witnesses:
        walk.anchors.append(f"{what}, cosignature not checked: give the witness's key (--witness)")
        return
    for vkey in walk.trusted.witnesses:
        witness = Witness.parse(vkey)
        try:
            time_s = cosigned_at(str(record["note"]), lines, witness)
        except NoteProblem:
            continue
        walk.anchors.append(f"{what}, cosigned by {witness.name} at {moment(time_s)}: holds")
        return
    walk.bad(0, "anchor-forged", f"{what}: no given witness has cosigned it")


_JUDGES: Mapping[str, Callable[[Walk, Mapping[str, Any], str], None]] = {"rfc3161": _timestamp, "witness": _witness}
