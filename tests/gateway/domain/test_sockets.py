"""What a connection over a Unix-domain socket may say about itself."""

from __future__ import annotations

import pytest

from gateway.domain.sockets import MAX_PATH_BYTES, is_socket, socket_path, socket_problems

LONGEST = "/" + "d" * (MAX_PATH_BYTES - len("//.s.PGSQL.5432"))


def problems(host: str, *, tls: str = "disable", **settings: str) -> dict[str, str]:
    return socket_problems(host=host, port=5432, tls=tls, settings=settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "db.example", "::1", "@abstract", ""])
def test_hosts_are_no_sockets(host: str) -> None:
    assert not is_socket(host)
    assert problems(host, tls="verify-full", ca_file="/ca.pem") == {}


def test_path_is_what_libpq_makes_of_it() -> None:
    assert socket_path("/cloudsql/p:r:i", 6000) == "/cloudsql/p:r:i/.s.PGSQL.6000"
    assert socket_path("/run/postgresql", 0) == "/run/postgresql/.s.PGSQL.5432"


@pytest.mark.parametrize("host", ["/run/postgresql", "/cloudsql/project:region:instance", LONGEST])
def test_sockets_without_tls_are_fine(host: str) -> None:
    assert is_socket(host)
    assert problems(host) == {}
    assert problems(host, requirepeer="postgres", pooler="session") == {}


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        (f"{LONGEST}d", "the socket's path has 108 bytes, expected no more than 107"),
        (f"{LONGEST[:-1]}é", "the socket's path has 108 bytes, expected no more than 107"),
        ("/run/post\0gresql", "expected a directory without control characters"),
        ("/run/postgresql\n", "expected a directory without control characters"),
        ("/run/postgresql,db.example", "expected one directory, without a comma"),
        ("/run/postgresql/.s.PGSQL.5432", "expected the directory alone: the gateway adds .s.PGSQL.PORT"),
    ],
)
def test_what_is_no_directory_of_sockets_is_refused(host: str, problem: str) -> None:
    assert problems(host) == {"host": problem}


@pytest.mark.parametrize("tls", ["require", "verify-full"])
def test_tls_is_refused_over_a_socket(tls: str) -> None:
    (told,) = problems("/run/postgresql", tls=tls, requirepeer="postgres").items()

    assert told[0] == "tls"
    assert told[1].startswith("there is no TLS over a Unix socket, expected disable")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"ca_file": "/ca.pem"}, "ca_file is for TLS, and there is none over a Unix socket"),
        ({"requirepeer": ""}, "expected the name of a user of this machine for requirepeer"),
        ({"requirepeer": "post\0gres"}, "expected the name of a user of this machine for requirepeer"),
        ({"requirepeer": "nobody"}, "requirepeer is nobody, which the kernel also says of everybody it cannot name"),
    ],
)
def test_settings_that_say_less_than_they_seem_to_are_refused(settings: dict[str, str], problem: str) -> None:
    assert problems("/run/postgresql", **settings) == {"settings": problem}


def test_peer_is_not_asked_for_over_tcp() -> None:
    assert problems("127.0.0.1", requirepeer="postgres") == {
        "settings": "requirepeer is for Unix sockets: nobody can say who serves a port"
    }
