"""The offline verifier as an auditor gets it: a wheel and a zipapp, run without Django or anything else of ours.

And attacked through its input: whoever makes a bundle chooses every byte of it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import cffi
import cryptography
import pytest

from audit.domain import verify
from audit.domain.append import append_entries
from audit.domain.bundle import Scope, write_bundle
from audit.domain.keys import audit_vkey, log_signer
from audit.domain.verify import Unusable, Verdict, main, verify_bundle
from audit.verifier_package import PACKAGE, build, verifier_modules
from tests.audit.factories import authorised, completed, opened

ROUNDS = 4_000 if os.environ.get("HOOPWEB_SOAK") else 250
SEED = int(os.environ.get("HOOPWEB_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.suffix: path for path in build(tmp_path_factory.mktemp("dist"))}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for imports that holds `cryptography` and what it needs, and nothing else that is installed."""
    directory = tmp_path_factory.mktemp("bare")
    site = Path(cffi.__file__).parent.parent
    for path in (Path(cryptography.__file__).parent, Path(cffi.__file__).parent, *site.glob("_cffi_backend*")):
        directory.joinpath(path.name).symlink_to(path)
    return directory


@pytest.fixture
def bundle(db: None, tmp_path: Path) -> Path:
    append_entries([opened(), *(entry for at in range(8) for entry in (authorised(f"a{at}"), completed(f"a{at}")))])
    target = tmp_path / "evidence.bundle"
    with target.open("wb") as out:
        write_bundle(out, scope=Scope(), with_text=True, requested_by="auditor")
    return target


def run(bare: Path, *command: object, cwd: Path) -> tuple[int, str]:
    """Run Python with the standard library and `bare`; the machine's own packages are out of reach (-S)."""
    environment = {"PYTHONPATH": str(bare), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-S", *map(str, command)],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def test_wheel_and_zipapp_verify_where_nothing_else_is_installed(built, bare, bundle, tmp_path):
    edited = tmp_path / "edited.bundle"
    edited.write_text(bundle.read_text().replace('"kind\\":\\"session.opened', '"kind\\":\\"session.closed', 1))
    wheel = tmp_path / "installed"
    zipfile.ZipFile(built[".whl"]).extractall(wheel)
    wheel.joinpath("cryptography").symlink_to(bare / "cryptography")
    for path in bare.iterdir():
        if not wheel.joinpath(path.name).exists():
            wheel.joinpath(path.name).symlink_to(path)
    ways = [(wheel, "-m", PACKAGE), (bare, built[".pyz"])]

    for place, *command in ways:
        arguments = ("--key", audit_vkey())

        assert run(place, *command, bundle, *arguments, cwd=tmp_path)[0] == Verdict.INTACT
        code, said = run(place, *command, edited, *arguments, cwd=tmp_path)
        assert (code, said.startswith("TAMPERED: entry 1: ")) == (Verdict.TAMPERED, True)
        assert run(place, *command, bundle, "--key", "nonsense", cwd=tmp_path)[0] == Verdict.UNUSABLE
    # The control: what the verifier does without is not there indeed.
    probe = "import importlib.util as i; print(i.find_spec('django'), i.find_spec('rfc8785'), i.find_spec('audit'))"
    assert run(bare, "-c", probe, cwd=tmp_path) == (0, "None None None\n")


def test_the_same_source_gives_the_same_bytes(built, tmp_path):
    again = {path.suffix: path for path in build(tmp_path)}

    assert {kind: path.read_bytes() for kind, path in again.items()} == {
        kind: path.read_bytes() for kind, path in built.items()
    }


def test_the_verifier_is_small_and_imports_nothing_of_the_product():
    lines = sum(len(path.read_text().splitlines()) for path in verifier_modules().values())

    assert all(name.startswith(("audit.domain.", "audit.anchors.")) for name in verifier_modules())
    assert lines < 2_300  # what an auditor can read in an afternoon


# --- hostile bundles -------------------------------------------------------------------------------------------------


def judged(path: Path) -> int:
    """The verdict; anything but a verdict is a failure of the verifier."""
    try:
        return verify_bundle(path, keys=[log_signer().verifier]).verdict
    except Unusable:
        return Verdict.UNUSABLE


_VALUES = (
    None,
    True,
    -1,
    0,
    1 << 70,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "\ud800",
    "x" * 10,
    [],
    {},
    [[]],
    {"a": 1},
)


def _changed(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """One change somebody could make to a bundle, by line, by member or by byte."""
    lines = list(lines)
    at = chance.randrange(len(lines))
    what = chance.randrange(6)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines.insert(at, lines[chance.randrange(len(lines))])
    elif what == 2:
        other = chance.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif what == 3:
        record = json.loads(lines[at])
        record[chance.choice(list(record))] = chance.choice(_VALUES)
        lines[at] = json.dumps(record).encode() + b"\n"
    elif what == 4:
        place = chance.randrange(len(lines[at]))
        lines[at] = lines[at][:place] + bytes([chance.randrange(256)]) + lines[at][place + 1 :]
    else:
        lines[at] = lines[at][: chance.randrange(len(lines[at]))]
    return lines


def same(changed: list[bytes], lines: list[bytes]) -> bool:
    """The last line is under no seal; white space in it says nothing."""
    return changed[:-1] == lines[:-1] and json.loads(changed[-1]) == json.loads(lines[-1])


def test_no_change_of_a_bundle_passes_or_breaks_the_verifier(bundle, tmp_path):
    lines = bundle.read_bytes().splitlines(keepends=True)
    chance = random.Random(SEED)
    target = tmp_path / "hostile.bundle"

    assert judged(bundle) == Verdict.INTACT
    for number in range(ROUNDS):
        changed = _changed(lines, chance)
        target.write_bytes(b"".join(changed))

        verdict = judged(target)

        assert verdict != Verdict.INTACT or same(changed, lines), f"HOOPWEB_FUZZ_SEED={SEED} round {number}"


def resealed(bundle: Path, change) -> Path:  # type: ignore[no-untyped-def]
    """The bundle with changed records and its end as it was: a seal of other lines."""
    records = [json.loads(line) for line in bundle.read_text().splitlines()]
    change(records)
    bundle.write_text("".join(json.dumps(record) + "\n" for record in records))
    return bundle


@pytest.mark.parametrize(
    "change",
    [
        lambda records: records[0].update(scope={"kind": "range"}),
        lambda records: records[0].update(scope={"kind": ["all"]}),
        lambda records: records[0].update(origin="another.example/log"),
        lambda records: records[0].update(vkey="somebody+else"),
        lambda records: records[0].update(with_text=False),
        lambda records: records[0].update(entries=float("inf")),
        lambda records: records[-1].update(sha256="00" * 32),
        lambda records: records[-1].update(remark="intact"),
        lambda records: records.append(records[-1]),
        lambda records: records.append({"type": "entry"}),
        lambda records: records.insert(1, records[0]),
        lambda records: records.insert(3, {"type": "x" * 1000}),
        lambda records: records.insert(3, {"type": "entry", "seq": 1, "leaf": "00", "entry": "[" * 200_000}),
    ],
)
def test_changed_metadata_and_trailing_data_are_noticed(bundle, change):
    assert judged(resealed(bundle, change)) == Verdict.TAMPERED


def test_a_bundle_without_its_seal_is_never_intact(bundle):
    *lines, end = bundle.read_bytes().splitlines(keepends=True)
    bundle.write_bytes(b"".join([*lines, json.dumps(json.loads(end) | {"seal": None}).encode()]))

    assert judged(bundle) == Verdict.UNANCHORED


def test_the_same_line_with_its_members_twice_or_in_another_order_is_noticed(bundle):
    lines = bundle.read_bytes().splitlines(keepends=True)
    at = next(place for place, line in enumerate(lines) if b'"entry"' in line[:20])
    twice = lines[at].replace(b"{", b'{"seq":1,', 1)
    bundle.write_bytes(b"".join([*lines[:at], twice, *lines[at + 1 :]]))

    assert judged(bundle) == Verdict.TAMPERED


def test_an_entry_spelt_otherwise_is_another_entry(bundle):
    """RFC 8785 has one spelling for a value; the leaf is over bytes, so an equal value in other bytes does not pass."""

    def respell(records: list[dict]) -> None:
        record = next(record for record in records if record["type"] == "entry" and record["seq"] == 3)
        record["entry"] = json.dumps(json.loads(record["entry"]), ensure_ascii=True)

    report = verify_bundle(resealed(bundle, respell), keys=[log_signer().verifier])

    assert (report.verdict, report.findings[0].seq, report.findings[0].kind) == (Verdict.TAMPERED, 3, "edited")


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(db, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "MAX_LINE_BYTES", 1_000_000)
    bomb = tmp_path / "bomb"
    with bomb.open("wb") as file:
        file.truncate(1 << 34)  # 16 GiB of zeros, none of them on the disk

    assert judged(bomb) == Verdict.UNUSABLE


def test_what_a_bundle_says_cannot_look_like_a_verdict(bundle, capsys):
    lie = {"type": "problem", "seq": 1, "kind": "\x1b[2J\nintact: 17 entries", "detail": "\r\x1b]0;intact\x07"}

    code = main([str(resealed(bundle, lambda records: records.insert(2, lie))), "--key", audit_vkey()])

    said = capsys.readouterr().out
    assert code == Verdict.TAMPERED
    assert said.startswith("TAMPERED: ")
    assert not any(character in said for character in "\x1b\r\x07")
    assert not any(line.startswith("intact") for line in said.splitlines())


def test_a_witness_key_that_is_none_is_the_callers_mistake(bundle):
    assert main([str(bundle), "--key", audit_vkey(), "--witness", "nonsense"]) == Verdict.UNUSABLE
