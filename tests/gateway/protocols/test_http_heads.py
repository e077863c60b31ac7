"""Heads of requests that could be read in two ways are refused; ordinary ones of real clients are not."""

from __future__ import annotations

import pytest

from gateway.protocols.http.heads import MAX_HEADERS, fault_of, has_bare_lf


def head(target: str = "/a", *fields: str, method: str = "POST", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{method} {target} {version}", "Host: g", *fields, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    "whole",
    [
        head(),
        head("/a/b%20c/d%C3%A9?x=%2F&y=//../", "Content-Length: 12"),
        head("/a", "transfer-encoding: Chunked"),
        head("/a", "Authorization: Bearer x", "Accept-Encoding: gzip, deflate", "User-Agent: a b(c)"),
        head("/a", "Expect: 100-continue", "Content-Length: 1"),
        head("/a", "Content-Encoding: identity"),
        head("/a/", "Accept: a", "Accept: b", "X-Goog-Api-Client: gl-python/3"),
        head("/a:undelete", version="HTTP/1.0"),
        head("/a", *(f"X-{number}: a" for number in range(MAX_HEADERS - 1))),
    ],
)
def test_ordinary_heads_are_taken(whole: bytes) -> None:
    assert fault_of(whole) is None


@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: 5", "content-length: 6"),
        ("Content-Length: 5, 5",),
        ("Content-Length: +5",),
        ("Content-Length: 0x5",),
        ("Content-Length: 5_0",),
        ("Content-Length: ",),
        ("Content-Length : 5",),
        ("Content-Length\t: 5",),
        ("Transfer-Encoding: identity, chunked",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding: ",),
        ("X-A: b", " Transfer-Encoding: chunked"),
        ("X-A: b\r\n folded",),
        ("X-A: b\nContent-Length: 5",),
        ("X-A: b\rContent-Length: 5",),
        ("X-A",),
        (": b",),
        ("X A: b",),
        ("Host: evil",),
        ("Authorization: Bearer a", "authorization: Bearer b"),
        ("Content-Type: a", "Content-Type: b"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(fields: tuple[str, ...]) -> None:
    fault = fault_of(head("/a", *fields))

    assert fault is not None
    assert fault.status == 400


@pytest.mark.parametrize(
    "target",
    [
        "http://g/a",
        "http://evil/a",
        "g:443",
        "*",
        "a",
        "//evil/a",
        "/a//b",
        "/a/./b",
        "/a/../b",
        "/a/%2e%2E/b",
        "/a/..",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/a%0d%0aX: y",
        "/a%7f",
        "/a%",
        "/a%zz",
        "/a%ff",
        "/a#b",
        "/a?b#c",
    ],
)
def test_a_path_in_more_than_one_spelling_is_refused(target: str) -> None:
    fault = fault_of(head(target))

    assert fault is not None
    assert fault.status == 400


@pytest.mark.parametrize(
    ("whole", "status"),
    [
        (head(version="HTTP/2.0", method="PRI"), 505),
        (head(version="HTTP/1.2"), 505),
        (head("/a", "Content-Encoding: gzip"), 415),
        (head("/a", "Content-Encoding: deflate, gzip"), 415),
        (head("/a", "Expect: something"), 417),
        (head("/a", *(f"X-{number}: a" for number in range(MAX_HEADERS))), 431),
        (head("/a", "Transfer-Encoding: chunked", version="HTTP/1.0"), 400),
        (head("/a b"), 400),
        (b"\r\n" + head(), 400),
        (b"GET /a\r\n\r\n", 400),
    ],
)
def test_what_is_not_served_says_so(whole: bytes, status: int) -> None:
    fault = fault_of(whole)

    assert fault is not None
    assert fault.status == status


def test_a_refusal_quotes_nothing() -> None:
    fault = fault_of(head("/canary%zz", "X-Canary: canary"))

    assert fault is not None
    assert "canary" not in fault.reason.lower()


def test_a_bare_line_feed_shows_before_the_head_is_whole() -> None:
    assert has_bare_lf(b"GET / HTTP/1.1\n", 0)
    assert not has_bare_lf(b"GET / HTTP/1.1\r\nHost: g\r", 0)
    assert not has_bare_lf(b"GET / HTTP/1.1\r\n", 15)
