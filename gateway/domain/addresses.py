"""Addresses of other machines, and of this one."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

BIGQUERY_SERVICE = "https://bigquery.googleapis.com"  # where a connection names no `api_endpoint`


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine. A name other than `localhost` is not: resolvers may be lied to."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def keys_address_problem(url: str) -> str:
    """What is wrong with an address of public keys, or nothing."""
    parts = urlsplit(url)
    if url and parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return "keys over plain HTTP are for loopback hosts only, expected https://"
    if parts.username or parts.password:
        return "expected an address without a user name"
    return ""
