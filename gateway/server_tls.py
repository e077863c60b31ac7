"""The certificates that the gateway's listeners show, and the authorities of its clients'."""

from __future__ import annotations

import ssl

from django.conf import settings


def server_tls() -> ssl.SSLContext | None:
    """The client leg's TLS, or None on a loopback-only installation without a certificate."""
    if not settings.HOOPWEB_TLS_CERT_FILE:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.HOOPWEB_TLS_CLIENT_CA_FILE:
        context.verify_mode = ssl.CERT_REQUIRED  # a second factor: see listeners.postgres_startup.is_certified
    load_certificates(context)
    return context


def load_certificates(context: ssl.SSLContext) -> None:
    """Handshakes from now on show and trust what the files hold now."""
    context.load_cert_chain(settings.HOOPWEB_TLS_CERT_FILE, settings.HOOPWEB_TLS_KEY_FILE or None)
    if settings.HOOPWEB_TLS_CLIENT_CA_FILE:
        context.load_verify_locations(settings.HOOPWEB_TLS_CLIENT_CA_FILE)
