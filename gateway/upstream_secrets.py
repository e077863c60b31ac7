"""The data plane's hold on upstream secrets: opened for one use, or read where they lie."""

from __future__ import annotations

from gateway.domain.credentials import open_credential
from gateway.domain.secret_uris import SecretCache, SecretUnavailable
from gateway.domain.snapshot import ConnectionSpec
from gateway.domain.threads import in_thread
from gateway.upstreams.postgres_trust import libpq_tls
from gateway.upstreams.registry import UpstreamFailed


async def upstream_credential(spec: ConnectionSpec) -> dict[str, str]:
    """The upstream's secret, opened for one use; it is never kept beside the session."""
    opened = open_credential(spec.sealed_credential) if spec.sealed_credential else {}
    uri = opened.pop("password_uri", "")
    if not uri:
        return opened
    try:
        return {**opened, "password": await in_thread(_secrets.read, uri)}
    except SecretUnavailable as problem:
        raise UpstreamFailed(f"the upstream's password could not be read: {problem}") from None


_secrets = SecretCache()


async def conninfo(spec: ConnectionSpec) -> dict[str, str]:
    """libpq keywords of a side connection to the upstream."""
    credential = await upstream_credential(spec)
    return {
        "host": spec.host,
        "port": str(spec.port),
        "dbname": spec.database,
        "user": spec.username,
        "password": credential.get("password", ""),
        **libpq_tls(spec),
        "application_name": "hoopweb witness",
    }
