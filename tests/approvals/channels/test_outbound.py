"""The door outwards: what it refuses to reach, and that it reaches exactly what it checked."""

from __future__ import annotations

import socket
import ssl
import time

import pytest
import trustme

from approvals.channels.outbound import NotPermitted, NotReached, checked_target, post
from tests.approvals.channels.receiver import receiving
from tests.audit.sinks.receivers import TricklingReceiver, running

LOOPBACK = ["127.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.5",
        "169.254.169.254",  # the cloud's metadata service
        "192.168.1.1",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "[::1]",
        "[fe80::1]",
        "[fd00::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fec0::1]",
        "[::7f00:1]",
        "[64:ff9b:1::7f00:1]",
    ],
)
def test_addresses_that_only_we_can_reach_are_refused(settings, address):
    settings.HOOPWEB_CHANNEL_NETWORKS = []

    with pytest.raises(NotPermitted):
        checked_target(f"https://{address}/hook")


def test_public_addresses_and_named_networks_are_permitted(settings):
    settings.HOOPWEB_CHANNEL_NETWORKS = ["10.0.0.0/24"]

    assert checked_target("https://93.184.216.34/hook").port == 443
    assert str(checked_target("https://10.0.0.5:8443/hook").pinned) == "10.0.0.5"
    with pytest.raises(NotPermitted):
        checked_target("https://10.0.1.5/hook")


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.216.34/hook",
        "ftp://93.184.216.34/",
        "file:///etc/passwd",
        "https://user@93.184.216.34/",
        "//93.184.216.34/",
        "https:///hook",
        "https://93.184.216.34:99999/",
    ],
)
def test_only_plain_https_addresses_leave_this_machine(settings, url):
    settings.HOOPWEB_CHANNEL_NETWORKS = LOOPBACK

    with pytest.raises(NotPermitted):
        checked_target(url)


def test_name_that_resolves_to_loopback_too_is_refused(settings, monkeypatch):
    settings.HOOPWEB_CHANNEL_NETWORKS = []
    answers = [("93.184.216.34", 443), ("127.0.0.1", 443)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", answer) for answer in answers])

    with pytest.raises(NotPermitted):
        checked_target("https://rebinding.example/hook")


def test_redirect_is_not_followed(settings):
    settings.HOOPWEB_CHANNEL_NETWORKS = LOOPBACK

    with receiving() as inner, receiving() as outer:
        outer.answers, outer.location = [302], inner.url
        assert post(outer.url, body=b"{}", headers={}) == 302

    assert (len(outer.received), inner.received) == (1, [])


def test_proxies_of_the_environment_are_not_used(settings, monkeypatch):
    settings.HOOPWEB_CHANNEL_NETWORKS = LOOPBACK

    with receiving() as proxy, receiving() as receiver:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert post(receiver.url, body=b"{}", headers={}) == 200

    assert proxy.received == []


def test_tls_is_spoken_to_the_checked_address_and_verified_by_name(settings, monkeypatch, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("siem.example").configure_cert(context)
    settings.HOOPWEB_CHANNEL_NETWORKS = LOOPBACK
    settings.HOOPWEB_CHANNEL_CA_FILE = str(tmp_path / "ca.pem")
    resolve = socket.getaddrinfo
    looked_up = []

    def answering(host, port, *args, **known):
        if host not in ("siem.example", "other.example"):
            return resolve(host, port, *args, **known)
        looked_up.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answering)
    with receiving(tls=context) as receiver:
        assert post(f"https://siem.example:{receiver.port}/hook", body=b"{}", headers={}) == 200
        with pytest.raises(NotReached):
            post(f"https://other.example:{receiver.port}/hook", body=b"{}", headers={})

    assert receiver.received[0].headers["host"] == f"siem.example:{receiver.port}"
    assert looked_up == ["siem.example", "other.example"]  # once each: there is no second answer to believe


def test_nobody_there_is_not_reached(settings):
    settings.HOOPWEB_CHANNEL_NETWORKS = LOOPBACK
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with pytest.raises(NotReached):
        post(f"http://127.0.0.1:{port}/", body=b"{}", headers={})


def test_receiver_that_trickles_keeps_nobody(settings, monkeypatch):
    settings.HOOPWEB_CHANNEL_NETWORKS = LOOPBACK
    monkeypatch.setattr("approvals.channels.outbound.WHOLE_WITHIN_S", 0.5)
    with running(TricklingReceiver(head=b"HTTP/1.1 200 OK\r\nX-Slow: ")) as receiver:
        began = time.monotonic()
        with pytest.raises(NotReached):
            post(f"http://127.0.0.1:{receiver.port}/hook", body=b"{}", headers={})

    assert time.monotonic() - began < 5
