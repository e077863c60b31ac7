"""What of an HTTP/1.1 request's head could be read in two ways, and is therefore refused.

Request smuggling needs two servers that disagree where a request ends, and path tricks two that disagree what it asks
for. A proxy in front of the gateway may be one of them. So nothing lenient is accepted, even where RFC 9112 permits it:
the head has CRLF line ends, no folded lines, one way to tell its body's length, and a target in one spelling.

Sources: RFC 9112 §2.2 (bare LF, bare CR), §3.2 (target forms), §5.2 (obs-fold), §6.1 and §11.2 (Transfer-Encoding
beside Content-Length, or in HTTP/1.0); RFC 9110 §8.6 (Content-Length), §10.1.1 (Expect); RFC 3986 §3.3, §5.2.4.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

END = b"\r\n\r\n"
MAX_HEADERS = 100
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LONE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) (HTTP/\d\.\d)")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# In a decoded path: what separates, ends or repeats something for somebody else on the way.
_HIDDEN_SEPARATOR = re.compile(rb"%(?:2[fF]|5[cC]|[01][0-9A-Fa-f]|7[fF])")
_SERVED = frozenset({b"HTTP/1.0", b"HTTP/1.1"})
# Where two would be two answers to one question.
_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type", b"expect"})


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request is refused: the HTTP status and a reason that quotes nothing of it."""

    status: int
    reason: str


def fault_of(head: bytes) -> Fault | None:
    """The first fault of a whole head, its blank line included; None for one that can be read in one way only."""
    if _LONE_LINE_END.search(head):
        return Fault(400, "a line ends with CR or LF alone")
    line, *fields = head.removesuffix(END).split(b"\r\n")
    asked = _REQUEST_LINE.fullmatch(line)
    if asked is None:
        return Fault(400, "the request line is malformed")
    _, target, version = asked.groups()
    if version not in _SERVED:
        return Fault(505, "this is served over HTTP/1.1")
    return _target_fault(target) or _fields_fault(fields, version)


def has_bare_lf(head: bytes | bytearray, begin: int) -> bool:
    """Whether a head that is not whole yet has, from `begin` on, a line end no whole one may have."""
    return _BARE_LF.search(head, begin) is not None


def _target_fault(target: bytes) -> Fault | None:
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        return Fault(400, "the target is not a path: absolute and authority forms are not served")
    if b"#" in target or b"\\" in path or _BROKEN_ESCAPE.search(path) or _HIDDEN_SEPARATOR.search(path):
        return Fault(400, "the path has a character or an escape that is not served")
    segments = unquote_to_bytes(path).split(b"/")
    if b"" in segments[1:-1] or any(segment in (b".", b"..") for segment in segments):
        return Fault(400, "the path has empty or dot segments")
    try:
        b"/".join(segments).decode()
    except UnicodeDecodeError:
        return Fault(400, "the path is not UTF-8")
    return None


def _fields_fault(fields: list[bytes], version: bytes) -> Fault | None:
    if len(fields) > MAX_HEADERS:
        return Fault(431, f"the request has more than {MAX_HEADERS} headers")
    parts = [field.partition(b":") for field in fields]
    if not all(colon and _NAME.fullmatch(name) for name, colon, _ in parts):
        return Fault(400, "a header is malformed or folded")
    named = [(name, value.strip(b" \t")) for name, _, value in parts]
    given = {name.lower(): value for name, value in named}
    counts = Counter(name.lower() for name, _ in named)
    if any(counts[name] > 1 for name in _ONCE):
        return Fault(400, "a header that stands once is there twice")
    return _body_fault(given, version)


def _body_fault(given: dict[bytes, bytes], version: bytes) -> Fault | None:
    length, coding = given.get(b"content-length"), given.get(b"transfer-encoding")
    if length is not None and not (length.isdigit() and len(length) <= 15):
        return Fault(400, "the content length is malformed")
    if coding is not None and (length is not None or version == b"HTTP/1.0" or coding.lower() != b"chunked"):
        return Fault(400, "the body's length is told in two ways, or in one that is not served")
    if given.get(b"content-encoding", b"identity").lower() not in (b"", b"identity"):
        return Fault(415, "compressed requests are not served")
    if given.get(b"expect", b"100-continue").lower() != b"100-continue":
        return Fault(417, "the expectation is not served, expected 100-continue")
    return None
