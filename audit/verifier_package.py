"""The offline verifier as a package of its own: `python -m audit.verifier_package [--out dist]`, or `make verifier`.

Whoever checks evidence should need nothing of ours but this: a wheel and a one-file zipapp of the modules the verifier
is made of, under the import name `audit_verify`. They are copied as they are, but for the names they import each other
by, so that the verifier an auditor installs is the one the tests attack. What it needs is `cryptography`; for time
stamps also `rfc3161-client`. Anything else among the imports is refused here.

The same source gives the same bytes (SOURCE_DATE_EPOCH): an auditor can build it and compare digests.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTRY = "audit.domain.verify"
PACKAGE = "audit_verify"
ALLOWED = frozenset({"cryptography", "rfc3161_client"})
_OURS = re.compile(r"\baudit\.(?:domain|anchors)\.(?=[a-z_0-9]+)")
_EPOCH_S = 315_532_800  # 1980: the oldest a zip archive can name
_SHEBANG = b"#!/usr/bin/env python3\n"


class ImpureVerifier(RuntimeError):
    """The verifier imports something an auditor's machine does not have."""


def verifier_modules() -> dict[str, Path]:
    """The verifier's modules and their files, by what its imports lead to. Raises ImpureVerifier."""
    found: dict[str, Path] = {}
    waiting = [ENTRY]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        for imported in _imports(found[name]):
            top = imported.split(".")[0]
            if top == "audit":
                waiting.append(imported)
            elif top not in sys.stdlib_module_names and top not in ALLOWED:
                raise ImpureVerifier(f"{name} imports {imported}")
    return dict(sorted(found.items()))


def write_source(directory: Path) -> None:
    """Lay out the package's source below `directory`: what a wheel is built from, and what can be read."""
    package = directory / PACKAGE
    package.mkdir(parents=True)
    package.joinpath("__init__.py").write_text(f'"""{_SUMMARY}"""\n\n__version__ = "{_version()}"\n')
    package.joinpath("__main__.py").write_text(_MAIN)
    for name, path in verifier_modules().items():
        text = _OURS.sub(f"{PACKAGE}.", path.read_text(encoding="utf-8"))
        package.joinpath(name.rpartition(".")[2] + ".py").write_text(text, encoding="utf-8")
    directory.joinpath("pyproject.toml").write_text(_PYPROJECT)
    directory.joinpath("README.md").write_text(_README)
    shutil.copy(ROOT / "LICENSE", directory / "LICENSE")


def build(out: Path) -> list[Path]:
    """Write wheel and zipapp into `out`; returns both."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="audit-verify-") as temporary:
        source = Path(temporary) / "source"
        write_source(source)
        return [_wheel(source, out.resolve()), _zipapp(source / PACKAGE, out.resolve() / f"{PACKAGE}.pyz")]


def _wheel(source: Path, out: Path) -> Path:
    # flit's own hook: it is small, and needs neither a network nor an environment of its own.
    hook = "import sys; from flit_core import buildapi; print(buildapi.build_wheel(sys.argv[1]))"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", hook, str(out)],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH_S)},
        check=True,
        capture_output=True,
        text=True,
    )
    return out / done.stdout.split()[-1]


def _zipapp(package: Path, target: Path) -> Path:
    """One file that runs with any Python that has `cryptography`. Written here: the standard library's dates differ."""
    with target.open("wb") as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("__main__.py"), _MAIN)
            for path in sorted(package.glob("*.py")):
                archive.writestr(zipfile.ZipInfo(f"{PACKAGE}/{path.name}"), path.read_bytes())
    target.chmod(0o755)
    return target


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


_SUMMARY = "Verify a hoopweb evidence bundle offline: a bundle and a public key, nothing else."
_MAIN = f"import sys\n\nfrom {PACKAGE}.verify import main\n\nsys.exit(main())\n"
_PYPROJECT = f"""[build-system]
requires = ["flit_core>=3.11"]
build-backend = "flit_core.buildapi"

[project]
name = "hoopweb-audit-verify"
version = "{_version()}"
description = "{_SUMMARY}"
readme = "README.md"
license = "Apache-2.0"
license-files = ["LICENSE"]
requires-python = ">=3.11"
dependencies = ["cryptography>=42"]

[project.optional-dependencies]
timestamps = ["rfc3161-client>=1.0.4"]

[project.scripts]
audit_verify = "{PACKAGE}.verify:main"

[tool.flit.module]
name = "{PACKAGE}"
"""
_README = """# audit_verify

Checks an evidence bundle of hoopweb without trusting who made it: every entry is hashed and followed, the tree rebuilt,
and compared with checkpoints signed by the key **you** give.

    audit_verify BUNDLE --key VKEY [--anchor NOTES] [--tsa ROOTS.pem] [--witness VKEY]
        [--accept-restoration ENTRY:HASH] [--accept-certificate ENTRY:HASH]

- `--key`: the log's public key, from your own records. Any key of its chain does.
- `--anchor`: checkpoints you hold yourself, such as the mails you got, one after the other in a file.
- `--tsa`: roots of the time-stamping authority you trust (needs `hoopweb-audit-verify[timestamps]`).
- `--witness`: verifier key of a witness you trust.
- `--accept-restoration`: the log was restored from a backup, lost its newest entries, and says so in this entry; you
  know of that loss. The verifier prints what to give. It accepts this one restoration, and no other at its place.
- `--accept-certificate`: a purge was certified before certificates were signed; you know of it. The same holds.

Exit codes: 0 intact; 1 tampered, with the first bad place and its kind, or restored (`RESTORED: …`) and not accepted;
2 intact, tail not provable; 3 unusable.
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="verifier_package", description="Build the offline verifier.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    for path in build(parser.parse_args(arguments).out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
