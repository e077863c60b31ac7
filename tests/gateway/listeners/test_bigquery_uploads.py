"""Multipart uploads as two families of clients write them, read in one way only."""

from __future__ import annotations

import pytest

from gateway.listeners.bigquery_uploads import read_multipart
from gateway.protocols.bigquery.errors import BigQueryError

TYPE = 'multipart/related; boundary="b"'
RESOURCE = '{"configuration": {}}'


def multipart(end: str, resource: str = RESOURCE, data: str = "1,a\n2,b\n") -> bytes:
    parts = [
        ["--b", "Content-Type: application/json", "", resource],
        ["--b", "Content-Type: */*", "", data],
        ["--b--", ""],
    ]
    return end.join(line for part in parts for line in part).encode()


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_lines_end_as_the_first_one_does(end: str) -> None:
    assert read_multipart(TYPE, multipart(end)) == ({"configuration": {}}, b"1,a\n2,b\n")


def test_what_only_looks_like_a_boundary_is_data() -> None:
    data = "1,a\n--b\n\nx\n--b--\n"

    assert read_multipart(TYPE, multipart("\r\n", data=data)) == ({"configuration": {}}, data.encode())


@pytest.mark.parametrize(
    "body",
    [
        multipart("\r\n", '{"configuration": {}, "configuration": {"load": {}}}'),
        multipart("\r\n", "[]"),
        multipart("\n", data="1\n--b\nContent-Type: text/csv\n\n2"),
        multipart("\r\n").replace(b"--b--", b"--b"),
        multipart("\r\n").replace(b"--b", b"--c"),
        b"",
    ],
    ids=["twice", "list", "three", "open", "other", "empty"],
)
def test_what_can_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(BigQueryError):
        read_multipart(TYPE, body)
