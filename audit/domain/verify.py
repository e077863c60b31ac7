"""The offline verifier: a bundle and a public key, neither Django nor a database: `python -m audit.domain.verify`.

A bundle is JSON lines: a header, rotations of the key and restorations, the checkpoints, what the exporter itself found
wrong, the entries in order, disclosed recordings, and an end line with the digest of everything before it, signed
(docs/evidence-bundle.md). The verifier believes none of it: it hashes every entry, follows the chain, rebuilds the tree
(or checks inclusion proofs, in a bundle of a part), and compares the roots with checkpoints signed by the given key.

Exit codes: 0 intact · 1 tampered (the first bad place and its kind are printed), or restored from a backup and that not
accepted (`RESTORED: …`, `--accept-restoration`) · 2 intact as far as it goes, but no checkpoint covers the newest
entries or the bundle is not sealed, so that a cut tail would not show, or none of the auditor's notes can be compared
with it · 3 unusable (not a bundle, a bad key).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.anchors.cosignature import Witness
from audit.domain.keyring import KeyRing
from audit.domain.note import NoteProblem, Verifier, parse_named
from audit.domain.verify_conclude import conclude
from audit.domain.verify_reading import begin, read_end, read_header, read_record, read_rotation
from audit.domain.verify_restorations import read_declared
from audit.domain.verify_walk import Report, Trusted, Unusable, Verdict, Walk, moment

__all__ = ["Report", "Unusable", "Verdict", "main", "verify_bundle"]

# A line holds an entry (with a statement's text, at most 16 MiB over the wire, escaped) or a piece of a recording. A
# longer one is no bundle's, and reading it whole is how a file of nothing but zeros would take the machine's memory.
MAX_LINE_BYTES = 128 * 1024 * 1024


def verify_bundle(
    path: Path, *, keys: Sequence[Verifier], anchor: Path | None = None, trusted: Trusted | None = None
) -> Report:
    """Return what the bundle proves. Raises Unusable."""
    if not keys:
        raise Unusable("no key was given, expected the log's verifier key")
    walk = Walk(keys, KeyRing.of(*keys), trusted=trusted or Trusted())
    digest = hashlib.sha256()
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            record = _record(line, number)
            prelude = _PRELUDE.get(str(record.get("type"))) if record is not None else None
            if number > 1 and not walk.began and prelude is None:
                begin(walk, anchor)
            if number == 1:
                read_header(walk, record)
            elif record is not None and prelude is not None and not walk.began:
                prelude(walk, record)
            elif walk.ended:
                walk.bad(0, "bundle-edited", f"line {number} stands after the bundle's end")
            elif record is None:
                walk.bad(walk.last + 1, "bundle-edited", f"line {number} is not a record")
            elif record.get("type") == "end":
                read_end(walk, record, number, digest.digest())
            else:
                read_record(walk, record)
            digest.update(line)
    if not walk.header:
        raise Unusable("the file is empty, expected a bundle")
    return conclude(walk)


# What decides which checkpoints count comes before the first of them.
_PRELUDE: Mapping[str, Callable[[Walk, Mapping[str, Any]], None]] = {
    "rotation": read_rotation,
    "restoration": read_declared,
}


class _opened:
    """The lines of a file as bytes; Unusable when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Iterator[bytes]:
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise Unusable(f"the bundle cannot be read: {error.strerror}") from None
        return itertools.takewhile(bool, iter(self._line, None))

    def _line(self) -> bytes:
        line = self._file.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            raise Unusable(f"a line is longer than {MAX_LINE_BYTES} bytes, which no bundle has")
        return line

    def __exit__(self, *problem: object) -> None:
        self._file.close()


def _record(line: bytes, number: int) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        if number == 1:
            raise Unusable("not an evidence bundle") from None
        return None
    return record if isinstance(record, dict) else None


def describe(report: Report) -> list[str]:
    """The report in lines a person reads."""
    if report.verdict is Verdict.TAMPERED and not report.findings:
        return [f"RESTORED: {line}" for line in report.restored]
    if report.verdict is Verdict.TAMPERED:
        first, *others = report.findings
        lines = [f"TAMPERED: {first}"]
        lines += [f"also: {finding}" for finding in others[:20]]
        return [*lines, *(f"also RESTORED: {line}" for line in report.restored)]
    counted = f"{report.entries} entries, {report.checkpoints} checkpoints"
    if report.verdict is Verdict.UNANCHORED:
        why = "" if report.sealed else ", and the bundle is not sealed"
        why += ", and none of your notes can be compared with it" if report.compared and not report.compared[0] else ""
        said = f"intact but unanchored: {counted}; tail not provable: signed up to entry {report.covered}{why}"
        return [said, *_told(report)]
    when = f" at {moment(report.signed_at_s)}" if report.signed_at_s else ""
    lines = [f"intact: {counted}; signed up to entry {report.covered}{when}"]
    return [*lines, *_told(report), *_recordings(report)]


def _told(report: Report) -> list[str]:
    accepted = [f"restoration accepted: {line}" for line in report.accepted]
    purged = [f"purged, as certified: {line}" for line in report.purges]
    return [*accepted, *purged, *_notes(report), *(f"anchor {line}" for line in report.anchors)]


def _notes(report: Report) -> list[str]:
    if report.compared is None:
        return []
    compared, held = report.compared
    left = "; for the others this part of the log has no proof: compare them with all of it" if compared < held else ""
    return [f"your notes: {compared} of {held} compared, each a beginning of this log{left}"] if compared else []


def _recordings(report: Report) -> list[str]:
    if report.recordings is None or not report.recordings["named"]:
        return []
    told = report.recordings
    said = f"recordings: the log names {told['named']}, the exporter opened {told['intact']} and found them as named"
    said += f"; {told['lost']} were lost in a crash, as the log says" if told["lost"] else ""
    said += f"; {told['purged']} were past their retention, and certified as purged" if told["purged"] else ""
    said += f"; {told['settling']} were still being stored" if told["settling"] else ""
    return [said + (f"; {report.absent} are not disclosed here" if report.absent else "")]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="audit_verify", description="Verify an evidence bundle offline.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", required=True, action="append", help="the log's verifier key; repeat after a rotation")
    parser.add_argument("--anchor", type=Path, help="a file of checkpoints you hold yourself")
    parser.add_argument("--tsa", type=Path, help="root certificates (PEM) of the time-stamping authority you trust")
    parser.add_argument("--witness", action="append", default=[], help="verifier key of a witness you trust")
    parser.add_argument(
        "--accept-restoration",
        action="append",
        default=[],
        metavar="ENTRY:HASH",
        help="a restoration from a backup you know of, as the verifier names it",
    )
    parser.add_argument(
        "--accept-certificate",
        action="append",
        default=[],
        metavar="ENTRY:HASH",
        help="an unsigned certificate of a purge you know of, as the verifier names it",
    )
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(Verdict.UNUSABLE) if stop.code else 0
    try:
        keys = [Verifier.parse(key) for key in options.key]
        restorations = frozenset(parse_named(text) for text in options.accept_restoration)
        certificates = frozenset(parse_named(text) for text in options.accept_certificate)
        trusted = Trusted(_text(options.tsa), tuple(options.witness), restorations, certificates)
        for witness in trusted.witnesses:
            Witness.parse(witness)
        report = verify_bundle(options.bundle, keys=keys, anchor=options.anchor, trusted=trusted)
    except (Unusable, NoteProblem) as error:
        print(f"unusable: {error}")
        return int(Verdict.UNUSABLE)
    print("\n".join(_printable(line) for line in describe(report)))
    return int(report.verdict)


def _printable(line: str) -> str:
    """Findings quote the bundle: what it says must neither start a line of its own nor move a terminal's cursor."""
    return "".join(character if character.isprintable() else "\ufffd" for character in line)


def _text(path: Path | None) -> str:
    try:
        return path.read_text(encoding="utf-8") if path is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} cannot be read: {type(error).__name__}") from None


if __name__ == "__main__":
    sys.exit(main())
