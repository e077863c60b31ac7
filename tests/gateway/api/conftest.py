"""People, an agent, a connection, and a data plane at the socket: real HTTP that answers the frames a test wrote."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from gateway.domain.tokens import issue_agent_token, issue_person_token
from gateway.models import AccessRule, Agent, Connection


@dataclass
class DataPlane:
    """`frames` is the next answer; `requests` what was asked, headers included."""

    url: str = ""
    status: int = 200
    frames: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def data_plane(settings: Any) -> Iterator[DataPlane]:
    plane = DataPlane()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            plane.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, asked))
            self.send_response(plane.status)
            self.end_headers()
            for frame in plane.frames:
                self.wfile.write(json.dumps(frame).encode() + b"\n")
                self.wfile.flush()

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    plane.url = settings.HOOPWEB_RELAY_URL = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield plane
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Cast:
    """Everyone of the demo, with a REST client each."""

    admin: User
    reviewer: User
    auditor: User
    agent: Agent

    def client(self, who: str) -> APIClient:
        person = getattr(self, who)
        token = issue_agent_token(person) if isinstance(person, Agent) else issue_person_token(person)
        return bearer(token)


def bearer(token: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def cast(db: None) -> Cast:
    admin = User.objects.create_user("admin", is_staff=True, is_superuser=True)
    reviewer = User.objects.create_user("reviewer", is_staff=True)
    reviewer.groups.add(Group.objects.get_or_create(name="privacy-officers")[0])
    auditor = User.objects.create_user("auditor", is_staff=True)
    auditor.groups.add(Group.objects.get_or_create(name="auditors")[0])
    agent = Agent.objects.create(name="demo-agent", client_id="demo-agent", groups=["ai-agents"], owner=admin)
    Connection.objects.create(
        name="clinic", host="127.0.0.1", port=5432, database="clinic", username="app", tls="disable"
    )
    AccessRule.objects.create(name="agents", groups=["ai-agents"], connections=["clin*"], operations=["read", "write"])
    return Cast(admin=admin, reviewer=reviewer, auditor=auditor, agent=agent)
