"""What verifying a bundle costs: `python -m benchmarks.evidence_verify [ENTRIES …]`. Needs no database.

Bundles of whole logs, entries and texts as the gateway writes them, a checkpoint every 1,000; each verified by the
offline verifier in a process of its own. Linear: the time an entry costs does not grow with the log, nor does memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audit.domain.box import EvidenceKey, Sealer
from audit.domain.bundle_format import BUNDLE_TYPE, BUNDLE_VERSION, seal_text
from audit.domain.chain import Head, link, open_box, prepare
from audit.domain.entry import Entry, Json
from audit.domain.merkle import GENESIS, Frontier
from audit.domain.note import Checkpoint, Signer

SIZES = (10_000, 50_000, 100_000)
EVERY = 1_000
SIGNER = Signer("hoopweb.log/bench", bytes(32))
_ROUNDS = 2
_WRITE = "--write"


def records(entries: int, *, with_text: bool) -> Iterator[dict[str, Any]]:
    """A bundle of a log of so many entries, without its end."""
    sealer = Sealer([EvidenceKey(os.urandom(32))])
    head, notes, lines = Head(Frontier(), GENESIS), [], []
    for start in range(0, entries, EVERY):
        prepared = [
            prepare(_entry(seq), gateway="g", sealer=sealer) for seq in range(start, min(start + EVERY, entries))
        ]
        leaves, head = link(head, prepared)
        for leaf, item in zip(leaves, prepared, strict=True):
            line: dict[str, Any] = {"type": "entry", "seq": leaf.seq, "leaf": leaf.hash.hex()}
            line["entry"] = leaf.canonical.decode()
            if with_text and item.box:
                commitment = bytes.fromhex(json.loads(leaf.canonical)["commitment"])
                text = open_box(item.box, commitment=commitment, sealer=sealer)
                line |= {"text": text.plaintext.decode(), "salt": text.salt.hex()}
            lines.append(line)
        checkpoint = Checkpoint(SIGNER.name, head.size, head.frontier.root, ("time 1",))
        notes.append({"type": "checkpoint", "source": "log", "note": SIGNER.sign(checkpoint.text())})
    yield {
        "type": BUNDLE_TYPE,
        "version": BUNDLE_VERSION,
        "origin": SIGNER.name,
        "scope": {"kind": "all"},
        "size": entries,
        "head": head.leaf.hex(),
        "entries": entries,
        "with_text": with_text,
    }
    yield from notes
    yield from lines


def _entry(number: int) -> Entry:
    """A statement's two entries in turn: authorised with its sealed text, completed with what was masked."""
    statement, session = f"st{number // 2}", f"s{number // 40}"
    body: dict[str, Json] = {"subject": "demo-agent", "connection": "clinic", "protocol": "postgres", "kind": "select"}
    if number % 2:
        masked: list[Json] = [{"column": "ssn", "rule": "ssn", "technique": "redact", "count": 2}]
        body |= {"status": "completed", "rows": 2, "bytes": 64, "recording": "", "masked": masked}
        return Entry("statement.completed", body, session, statement)
    body |= {"tables_read": ["public.patients"], "columns_read": ["public.patients.ssn"], "classes": ["ssn"]}
    body |= {"complete": True, "decision": "allow", "rule": "agents-read", "snapshot": 7, "risk": 3}
    text: dict[str, Json] = {"statement": f"SELECT ssn FROM patients WHERE id = {number}", "parameters": []}
    return Entry("statement.authorised", body, session, statement, sensitive=text)


def write(path: Path, entries: int, *, with_text: bool) -> None:
    digest, lines = hashlib.sha256(), 0
    with path.open("wb") as out:
        for record in records(entries, with_text=with_text):
            line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
            out.write(line)
            digest.update(line)
            lines += 1
        seal = SIGNER.sign(seal_text(origin=SIGNER.name, lines=lines, digest=digest.digest()))
        out.write(json.dumps({"type": "end", "sha256": digest.hexdigest(), "seal": seal}).encode() + b"\n")


def verify(path: Path) -> tuple[float, int]:
    """Seconds and peak resident KB of the verifier alone."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "audit.domain.verify", str(path), "--key", SIGNER.verifier.vkey],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the verifier ended with {process.returncode}, expected 0")
    return time.perf_counter() - began, usage.ru_maxrss


def main(sizes: tuple[int, ...]) -> int:
    print("| entries | texts | MB | seconds | µs an entry | peak MB |\n|---|---|---|---|---|---|")
    for entries in sizes:
        for with_text in (False, True):
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory) / "evidence.bundle"
                # Apart: a process's peak counts what its parent had when it was started.
                made = [sys.executable, "-m", "benchmarks.evidence_verify", _WRITE, str(path), str(entries)]
                subprocess.run([*made, "text"] if with_text else made, check=True)
                seconds, peak_kb = min(verify(path) for _ in range(_ROUNDS))
                megabytes = path.stat().st_size / 1e6
            disclosed = "disclosed" if with_text else "sealed"
            each = seconds / entries * 1e6
            print(f"| {entries} | {disclosed} | {megabytes:.0f} | {seconds:.2f} | {each:.0f} | {peak_kb / 1024:.0f} |")
    return 0


if __name__ == "__main__":
    if _WRITE in sys.argv:
        write(Path(sys.argv[2]), int(sys.argv[3]), with_text=len(sys.argv) > 4)
        sys.exit()
    sys.exit(main(tuple(map(int, sys.argv[1:])) or SIZES))
