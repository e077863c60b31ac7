"""`python -m hoopweb.embedded.deployment`: the files below `secrets/` that compose.yaml mounts.

Safe to repeat: what is there stays, addresses of services of your own included. The directory is closed to others;
the files in it are readable, because compose mounts them into containers whose user is not the one who made them. The
certificate and key of the gateway (`tls_cert.pem`, `tls_key.pem`) are brought.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hoopweb.embedded.configuration import PROJECT
from hoopweb.embedded.secrets import ensure_secret, ensure_secrets, new_password, secrets_directory


def create_deployment_secrets(root: Path) -> Path:
    """Make what is missing below `<root>/secrets` and return that directory."""
    ensure_secrets(root)
    control = ensure_secret(root, "control_password", new_password)
    redis = ensure_secret(root, "redis_password", new_password)
    ensure_secret(root, "database_url", lambda: f"postgresql://hoopweb:{control}@postgres:5432/hoopweb")
    ensure_secret(root, "redis_url", lambda: f"redis://:{redis}@redis:6379/0")
    directory = secrets_directory(root)
    directory.chmod(0o700)
    for path in directory.iterdir():
        path.chmod(0o444)
    return directory


if __name__ == "__main__":
    made = create_deployment_secrets(PROJECT)
    sys.stdout.write(f"{made} is complete but for tls_cert.pem and tls_key.pem: put the gateway's certificate there\n")
