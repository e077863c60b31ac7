"""The account the embedded servers run under, and directories that account can reach.

PostgreSQL refuses to run as root. When the stack is started by root, its servers run as `nobody`, who must be able to
walk to the binaries and to the data. A checkout or a home below a 0700 directory (`/root`) is out of reach; the servers
then live in a directory of their own below `/var/lib/hoopweb-embedded`, to which the home keeps a symbolic link.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hoopweb.embedded.problem import StackProblem

REACHABLE = Path("/var/lib/hoopweb-embedded")


@dataclass(frozen=True, slots=True)
class Account:
    """`uid` is None when the servers run as whoever started the stack."""

    uid: int | None
    gid: int | None

    def can_enter(self, path: Path) -> bool:
        """Whether this account may walk to `path` and use it, asked of the kernel rather than read off mode bits."""
        if self.uid is None:
            return True
        answer = subprocess.run(
            ["/usr/bin/test", "-x", str(path)], user=self.uid, group=self.gid, extra_groups=[], check=False
        )
        return answer.returncode == 0

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


SAME_ACCOUNT = Account(None, None)


def server_account() -> Account:
    """`nobody` for root, else whoever runs this."""
    if os.geteuid() != 0:
        return SAME_ACCOUNT
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise StackProblem("started by root, but there is no user nobody for PostgreSQL to run as") from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def server_directory(home: Path, name: str, account: Account) -> Path:
    """Return `<home>/<name>` as a private directory of `account`, placed where that account can reach it."""
    place = home / name
    if not place.exists():
        place.unlink(missing_ok=True)  # a link whose target was removed
        _create(place, account)
    return place.resolve()


def remove_server_directory(home: Path, name: str) -> None:
    """Delete what `server_directory` made, wherever it was placed."""
    place = home / name
    target = place.resolve()
    if place.is_symlink():
        place.unlink()
    shutil.rmtree(target, ignore_errors=True)


def reachable_copy(tree: Path, account: Account, probe: str) -> Path:
    """Return `tree`, or a copy of it elsewhere when `account` cannot execute `tree/probe` where it is."""
    if account.can_enter(tree / probe):
        return tree
    copy = REACHABLE / f"{tree.parent.name}-{_stamp(tree / probe)}"
    if not (copy / probe).exists():
        _reachable_root()
        partial = copy.with_name(f".{copy.name}.{os.getpid()}")
        shutil.copytree(tree, partial, symlinks=True)
        _publish(partial, copy)
    return copy


def _create(place: Path, account: Account) -> None:
    if account.can_enter(place.parent):
        place.mkdir(mode=0o700)
        account.own(place)
        return
    _reachable_root()
    target = REACHABLE / f"{place.name}-{secrets.token_hex(8)}"
    target.mkdir(mode=0o700)
    account.own(target)
    place.symlink_to(target)


def _reachable_root() -> None:
    try:
        REACHABLE.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise StackProblem(
            f"PostgreSQL must run as nobody, who cannot reach this directory, and {REACHABLE} cannot be made "
            f"({error.strerror}): run as an ordinary user, or set HOOPWEB_HOME to a directory others may enter"
        ) from None


def _stamp(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_size:x}-{facts.st_mtime_ns:x}"


def _publish(partial: Path, copy: Path) -> None:
    """Rename into place; a second copy that was quicker wins."""
    try:
        partial.rename(copy)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
