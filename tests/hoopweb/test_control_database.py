"""How the control database is connected to."""

from __future__ import annotations

from hoopweb.settings import control_database


def test_connections_notice_a_host_that_is_gone_unless_the_address_says_otherwise():
    options = control_database("postgresql://u@db.example/hoopweb?sslmode=verify-full&tcp_user_timeout=5000")["OPTIONS"]

    assert options == {
        "keepalives_idle": "60",
        "keepalives_interval": "15",
        "keepalives_count": "4",
        "tcp_user_timeout": "5000",
        "sslmode": "verify-full",
    }
