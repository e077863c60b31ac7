"""The secret everybody is after: one patient, and one row of every type, whose values occur nowhere else.

`found` recognises a canary in any byte stream: as text, without punctuation, in another case, reversed, hex, base64 (at
each of the three alignments), as an unkeyed hash, and in PostgreSQL's binary result format.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import uuid
from datetime import date

CANARY_ID = 900_001
DECOY_ID = 900_002  # same shape, other values: tells "one row" from "this row"

PATIENT = {
    "mrn": "MRN-77418093",
    "first_name": "Zyphorae",
    "last_name": "Quixandrel",
    "ssn": "536-71-9284",
    "dob": "1947-03-29",
    "email": "zyphorae.quix@canary-post.example",
    "phone": "(707) 555-8193",
    "address": "7741 Xanthorrhoea Spur",
    "zip": "94931",
}
NOTE_SSN = "541-82-6637"  # occurs in a clinical note only: what the value detectors are for
CLAIM = {"member_id": "4XK9QT7RM31", "claim_number": "CLM-8830417265"}

IDENTIFIERS = {
    "national_id": 1_836_311_903,  # integer
    "account": 7_540_113_804_746_346_429,  # bigint
    "score": "83177254.9318",  # numeric
    "balance": 61_803.39887498949,  # double precision
    "admitted": "1951-11-23",  # date
    "seen": "2021-07-19 04:41:53.271828+00",  # timestamptz
    "device": "c0ffee51-7a2b-4d19-9b3e-5d41ca11ab1e",  # uuid
    "origin": "203.113.77.41",  # inet
    "payload": "Vexilloryx",  # inside jsonb
    "tags": "Brontolimax",  # inside text[]
    "photo": "Cryptozenith",  # inside bytea
    "code": "KZWX7QJV",  # char(8)
}

_TRANSFORMED = ("mrn", "first_name", "last_name", "ssn", "email")


def needles() -> dict[bytes, str]:
    """Every byte string that betrays a canary, with the name of what it betrays."""
    found: dict[bytes, str] = {}
    for name, value in {**PATIENT, **CLAIM, "note": NOTE_SSN}.items():
        found[value.encode()] = name
        digits = "".join(character for character in value if character.isalnum())
        if len(digits) >= 8:
            found[digits.encode()] = f"{name} without punctuation"
    for name, value in {**{name: PATIENT[name] for name in _TRANSFORMED}, "note": NOTE_SSN}.items():
        # The plain forms first: upper case of digits is the digits themselves, and keeps its plain name.
        found = {form: f"{name} {how}" for form, how in _transformations(value).items()} | found
    return found | _typed_needles()


def _transformations(value: str) -> dict[bytes, str]:
    raw = value.encode()
    forms = {
        raw.upper(): "in upper case",
        raw.lower(): "in lower case",
        raw[::-1]: "reversed",
        raw.hex().encode(): "in hex",
        raw.hex().upper().encode(): "in upper-case hex",
        hashlib.md5(raw).hexdigest().encode(): "as unkeyed MD5",
        hashlib.sha256(raw).hexdigest().encode(): "as unkeyed SHA-256",
        hashlib.sha256(raw).digest(): "as unkeyed SHA-256 bytes",
    }
    for shift in range(3):
        # Cut the characters that also encode neighbouring bytes, so that the needle matches at any offset.
        encoded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        forms[encoded[4 if shift else 0 : len(encoded) // 4 * 4]] = "in base64"
    return forms


def _typed_needles() -> dict[bytes, str]:
    values = IDENTIFIERS
    found = {str(value).encode(): name for name, value in values.items() if name != "seen"}
    found[b"2021-07-19 04:41:53"] = "seen"
    found[str(values["photo"]).encode().hex().encode()] = "photo in hex"
    found[uuid.UUID(str(values["device"])).bytes] = "device, binary"
    found[struct.pack("!i", values["national_id"])] = "national_id, binary"
    found[struct.pack("!q", values["account"])] = "account, binary"
    found[struct.pack("!d", values["balance"])] = "balance, binary"
    found[struct.pack("!4h", 8317, 7254, 9318, 0)[:6]] = "score, binary (base 10000 digits)"
    found[bytes([203, 113, 77, 41])] = "origin, binary"
    found[_binary_date(str(values["admitted"]))] = "admitted, binary"
    found[_binary_date(PATIENT["dob"])] = "dob, binary"
    return found


def _binary_date(iso: str) -> bytes:
    return struct.pack("!i", (date.fromisoformat(iso) - date(2000, 1, 1)).days)


NEEDLES = needles()


# Ids, addresses and times in the gateway's own words: a few digits of a canary stand in one of them by chance.
_OURS = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|127\.0\.0\.1:\d+|\d{4}-\d\d-\d\d \d\d:\d\d UTC")
_DIGITS = {name: needle for needle, name in NEEDLES.items() if needle.isdigit() and len(needle) < 10}


def found(data: bytes, extra: tuple[str, ...] = ()) -> list[str]:
    """Names of the canaries in `data`; `extra` are needles only one attack can produce (a part, a number)."""
    names = {name for needle, name in NEEDLES.items() if needle in data}
    if not extra and _DIGITS.keys().isdisjoint(names):
        return sorted(names)
    told = _OURS.sub(b"?", data)
    names = {name for name in names if name not in _DIGITS or _DIGITS[name] in told}
    return sorted(names | {f"part {needle!r}" for needle in extra if needle.encode() in told})


# Digests, keys and tokens: eight digits of a canary stand in one of some million by chance.
_UNREADABLE = re.compile(rb"[0-9A-Za-z+/_-]{32,}")


def left_behind(data: bytes) -> list[str]:
    """`found` for megabytes of identifiers and times, where a few digits turn up by chance.

    Without the ZIP code, and with digits alone only where they stand outside of what is no text of anybody's.
    """
    names = [name for name in found(data) if name != "zip"]
    if not _DIGITS.keys().isdisjoint(names):
        told = _UNREADABLE.sub(b"?", data)
        names = [name for name in names if name not in _DIGITS or _DIGITS[name] in told]
    return names
