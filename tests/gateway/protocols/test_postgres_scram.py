"""SCRAM-SHA-256 against RFC 7677's example and against servers that lie."""

from __future__ import annotations

import pytest

from gateway.protocols.postgres.scram import ScramClient, ScramFailed

# RFC 7677 §3: user "user", password "pencil".
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_rfc_7677_exchange() -> None:
    client = ScramClient("pencil", user="user", nonce=NONCE)

    assert client.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert client.final(SERVER_FIRST) == CLIENT_FINAL
    client.verify(SERVER_FINAL)


def test_a_server_that_does_not_know_the_password_is_refused() -> None:
    client = ScramClient("pencil", user="user", nonce=NONCE)
    client.final(SERVER_FIRST)

    with pytest.raises(ScramFailed, match="could not prove"):
        client.verify(b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def test_proof_before_challenge_is_refused() -> None:
    with pytest.raises(ScramFailed):
        ScramClient("pencil").verify(b"v=")


@pytest.mark.parametrize(
    "server_first",
    [
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        SERVER_FIRST.replace(b"i=4096", b"i=1"),
        SERVER_FIRST.replace(b"i=4096", b"i=99999999"),
        SERVER_FIRST.replace(b"i=4096", b"i=-4096"),
        SERVER_FIRST.replace(b"s=W22Z", b"s=\xc3\xa4"),
        b"m=ext," + SERVER_FIRST,
        b"r=x",
        SERVER_FIRST + b"," + b"x" * 5000,
    ],
)
def test_challenges_that_break_the_rules_are_refused(server_first: bytes) -> None:
    with pytest.raises(ScramFailed):
        ScramClient("pencil", user="user", nonce=NONCE).final(server_first)
