"""RFC 3161 time stamps: somebody else's signature over a checkpoint and a time. Pure.

The stamped message is the whole signed note. A token is believed when its imprint is the note's, its signature is of a
certificate for time stamping, and that certificate leads to one of the given roots (rfc3161-client checks all three).
"""

from __future__ import annotations

from datetime import datetime

from cryptography.x509 import Certificate, load_pem_x509_certificates
from rfc3161_client import (
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from audit.anchors.certificate_order import in_order

QUERY_TYPE = "application/timestamp-query"


class TimestampProblem(ValueError):
    """The token is none, or does not stamp this note under the given roots."""


def timestamp_query(note: str) -> bytes:
    """A request with a nonce that asks for the authority's certificate along with the token."""
    return TimestampRequestBuilder().data(note.encode()).cert_request(cert_request=True).build().as_bytes()


def verify_timestamp(response: bytes, *, note: str, roots: list[Certificate]) -> datetime:
    """Return when the authority stamped the note. Raises TimestampProblem."""
    try:
        decoded = decode_timestamp_response(in_order(response))
        builder = VerifierBuilder()
        for root in roots:
            builder = builder.add_root_certificate(root)
        builder.build().verify_message(decoded, note.encode())
        return decoded.tst_info.gen_time
    except (VerificationError, ValueError) as error:
        raise TimestampProblem(f"the time stamp does not hold: {error}") from None


def read_roots(pem: str) -> list[Certificate]:
    """Raises TimestampProblem."""
    try:
        return load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise TimestampProblem("expected root certificates in PEM") from None
