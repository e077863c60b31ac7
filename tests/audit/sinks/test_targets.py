"""Where a sink may connect to, and where not."""

from __future__ import annotations

import socket

import pytest

from audit.sinks import targets
from audit.sinks.targets import TargetProblem, parse_networks, parse_target, resolve


def answering(monkeypatch, *addresses: str) -> None:
    """Let every name resolve to these: the one fake here, because a test has no name server of its own."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(targets.socket, "getaddrinfo", lambda *args, **kwargs: found)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://h", "https://", "https://user:secret@h/", "https://h:x/", "https://h/#f", "file:///../etc/passwd",
     "file:///a/b", "file://host/a", "file:///.hidden", "syslog://h", "http://["],
)  # fmt: skip
def test_malformed_targets_are_refused(url):
    with pytest.raises(TargetProblem):
        parse_target(url)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.5", "192.168.1.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1",
     "fe80::1", "fd00:ec2::254", "::ffff:10.0.0.5", "::ffff:169.254.169.254", "2002:0a00:0005::1",
     "64:ff9b::a00:5", "fec0::1", "::a00:5", "::ffff:0:10.0.0.5"],
)  # fmt: skip
def test_private_addresses_are_refused_unless_named(monkeypatch, address):
    answering(monkeypatch, address)

    with pytest.raises(TargetProblem, match="HOOPWEB_SINK_NETWORKS"):
        resolve(parse_target("https://collector.example"), networks=[])


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "0.0.0.0",
        "::ffff:169.254.1.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
    ],
)
def test_link_local_addresses_are_refused_whatever_is_named(monkeypatch, address):
    answering(monkeypatch, address)

    with pytest.raises(TargetProblem):
        resolve(parse_target("https://collector.example"), networks=parse_networks(["0.0.0.0/0", "::/0"]))


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch):
    answering(monkeypatch, "93.184.216.34", "10.0.0.5")

    with pytest.raises(TargetProblem):
        resolve(parse_target("https://collector.example"), networks=[])


def test_public_and_named_addresses_are_given_back(monkeypatch):
    answering(monkeypatch, "93.184.216.34")
    assert resolve(parse_target("https://collector.example"), networks=[]) == "93.184.216.34"

    answering(monkeypatch, "10.20.0.5")
    assert resolve(parse_target("https://siem"), networks=parse_networks(["10.20.0.0/16"])) == "10.20.0.5"


@pytest.mark.parametrize("url", ["http://collector.example", "syslog+tcp://collector.example"])
def test_plaintext_stays_on_this_machine(monkeypatch, url):
    answering(monkeypatch, "93.184.216.34")
    with pytest.raises(TargetProblem, match="without TLS"):
        resolve(parse_target(url), networks=parse_networks(["0.0.0.0/0"]))

    answering(monkeypatch, "127.0.0.1")
    assert resolve(parse_target(url), networks=parse_networks(["127.0.0.0/8"])) == "127.0.0.1"
