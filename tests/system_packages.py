"""Install what the tests need from Debian when root, else name the one command that does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).with_name("system_packages.txt")


def missing() -> list[str]:
    """The packages whose program is not there."""
    lines = [line.split() for line in LIST.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return [package for package, shown_by in lines if not Path(shown_by).exists()]


def main() -> int:
    """0 also where they cannot be installed: the tests that need one are then skipped, and counted."""
    packages = missing()
    if not packages:
        return 0
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"some tests need more packages: sudo {' '.join(install)}", file=sys.stderr)
        return 0
    print(f"installing {', '.join(packages)}", flush=True)
    # A database server started by its package would only be in the way.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for argv in (["apt-get", "-qq", "update"], ["apt-get", "-qq", *install[1:]]):
        if subprocess.run(argv, env=quiet, check=False, stdout=subprocess.DEVNULL).returncode != 0:
            print(f"apt-get failed; some tests will be skipped without {' '.join(packages)}", file=sys.stderr)
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
