"""Opening a place for objects: a directory, an S3 bucket or a GCS bucket, by URL, through obstore."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

_TIMEOUT, _CONNECT_TIMEOUT, _RETRIES, _RETRY_FOR = "20s", "5s", 3, timedelta(seconds=20)


class StoreProblem(ValueError):
    """The store is configured wrongly. Says what was expected, never a secret."""


def open_store(url: str, *, secret: str = "", endpoint: str = "", region: str = "", what: str) -> ObjectStore:
    """`file:///directory`, `s3://bucket/prefix` or `gs://bucket/prefix`. `what` names it in errors.

    `secret`: ACCESS_KEY_ID:SECRET_ACCESS_KEY, or a service account's key as JSON; without one the machine's own role
    is used. Asks nobody. Raises StoreProblem.
    """
    parts = urlsplit(url)
    place = parts.path if parts.scheme == "file" else parts.netloc
    if parts.scheme not in ("file", "s3", "gs") or not place.strip("/") or parts.username or parts.query:
        raise StoreProblem(f"{what} is none of file:///directory, s3://bucket/prefix, gs://bucket/prefix")
    if parts.scheme == "file":
        return from_url(url, mkdir=True)
    config = _s3(secret, endpoint, region) if parts.scheme == "s3" else _gcs(secret)
    options: dict[str, Any] = {"timeout": _TIMEOUT, "connect_timeout": _CONNECT_TIMEOUT}
    if _on_this_machine(endpoint):
        options["allow_http"] = True
    retries = {"max_retries": _RETRIES, "retry_timeout": _RETRY_FOR}
    opened: Any = from_url  # its types know every cloud's settings, one overload a cloud
    try:
        store: ObjectStore = opened(url, config=config, client_options=options, retry_config=retries)
    except (BaseError, ValueError) as error:
        raise StoreProblem(f"{what} cannot be opened: {type(error).__name__}") from None
    return store


def _s3(secret: str, endpoint: str, region: str) -> Any:
    """Without a secret the machine's own role is used, as the AWS libraries find it."""
    config = {"endpoint": endpoint, "region": region}
    if secret:
        key, colon, value = secret.strip().partition(":")
        if not colon or not key or not value:
            raise StoreProblem("the secret of an S3 store is ACCESS_KEY_ID:SECRET_ACCESS_KEY")
        config |= {"access_key_id": key, "secret_access_key": value}
    if endpoint.startswith("http:") and not _on_this_machine(endpoint):
        raise StoreProblem("the endpoint of the store is plaintext, expected https://")
    return {name: value for name, value in config.items() if value}


def _gcs(secret: str) -> Any:
    if not secret:
        return {}
    try:
        json.loads(secret)
    except ValueError:
        raise StoreProblem("the secret of a GCS store is a service account's key, as JSON") from None
    return {"service_account_key": secret}


def _on_this_machine(endpoint: str) -> bool:
    return urlsplit(endpoint).hostname in ("127.0.0.1", "::1", "localhost")
