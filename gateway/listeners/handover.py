"""An HTTP request as it came, for another process of the gateway, and that one's answer."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.listeners.peers import Message

HANDED = "hoopweb.handed"  # in the scope of a request that another process sent on: it goes no further
_HEADERS = frozenset({b"authorization", b"content-type", b"content-range", b"host", b"user-agent"})
_ANSWERED = frozenset({"content-type", "location", "range", "www-authenticate"})


def is_handed(request: Request) -> bool:
    return bool(request.scope.get(HANDED))


def as_message(request: Request, body: bytes) -> Message:
    scope = request.scope
    head = {
        "method": scope["method"],
        "scheme": scope["scheme"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "client": list(scope["client"]) if scope.get("client") else None,
        "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in scope["headers"] if n in _HEADERS],
    }
    return Message(head, body)


def as_request(message: Message) -> Request:
    """The request, as the first process heard it: its token is verified again, over the wire it came on."""
    head = message.head
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": str(head["method"]),
        "scheme": str(head["scheme"]),
        "path": str(head["path"]),
        "raw_path": str(head["path"]).encode(),
        "query_string": str(head["query"]).encode("latin-1"),
        "headers": [(str(n).encode("latin-1"), str(v).encode("latin-1")) for n, v in head["headers"]],
        "client": tuple(head["client"]) if head.get("client") else None,
        "server": None,
        "root_path": "",
        HANDED: True,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": message.body, "more_body": False}

    return Request(scope, receive)


def answered(response: Response) -> Message:
    headers = [[name, value] for name, value in response.headers.items() if name in _ANSWERED]
    return Message({"status": response.status_code, "headers": headers}, bytes(response.body))


def as_response(message: Message) -> Response:
    headers = {str(name): str(value) for name, value in message.head["headers"]}
    return Response(message.body, status_code=int(message.head["status"]), headers=headers)
