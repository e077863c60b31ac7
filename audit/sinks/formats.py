"""The formats a sink can have, and over what each travels. Pure: an event in, one text out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from audit.sinks import cef, cloud_logging, fhir, ocsf, plain, syslog
from audit.sinks.event import Event


@dataclass(frozen=True, slots=True)
class Format:
    """`encode` gives the text of one event, without a newline; `envelope` makes one HTTP body of several."""

    title: str
    transports: frozenset[str]
    encode: Callable[[Event], str]
    envelope: Callable[[list[str]], str] = plain.as_array
    content_type: str = "application/json"


FORMATS: Mapping[str, Format] = {
    "ocsf": Format("OCSF 1.3", frozenset({"http", "file", "syslog"}), ocsf.encode),
    "fhir": Format(
        "FHIR R4 AuditEvent (IHE BALP)",
        frozenset({"http", "file"}),
        fhir.encode,
        fhir.as_batch,
        "application/fhir+json",
    ),
    "syslog": Format("syslog (RFC 5424)", frozenset({"syslog"}), syslog.encode),
    "cef": Format("CEF", frozenset({"syslog", "file"}), cef.encode),
    "cloud-logging": Format("Google Cloud Logging", frozenset({"http"}), cloud_logging.encode, cloud_logging.as_write),
    "json": Format("JSON", frozenset({"http", "file", "syslog"}), plain.encode),
}
