"""A WebSocket client of an ASGI application (`channels.testing` would bring a second web server along)."""

from __future__ import annotations

import json
from typing import Any

from asgiref.testing import ApplicationCommunicator


class WebSocketClient:
    def __init__(self, application: Any, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "headers": headers,
            "subprotocols": [],
            "client": ("127.0.0.1", 1),
        }
        self._socket = ApplicationCommunicator(application, scope)

    async def connect(self) -> tuple[bool, int | None]:
        await self._socket.send_input({"type": "websocket.connect"})
        message = await self._socket.receive_output(timeout=60)
        if message["type"] == "websocket.close":
            return False, message.get("code")
        return True, None

    async def send(self, message: Any) -> None:
        await self.send_frame({"text": json.dumps(message)})

    async def send_frame(self, frame: dict[str, Any]) -> None:
        """A frame with `text` or `bytes`, as it is."""
        await self._socket.send_input({"type": "websocket.receive", **frame})

    async def receive(self) -> Any:
        message = await self._socket.receive_output(timeout=60)
        assert message["type"] == "websocket.send", message
        return json.loads(message["text"])

    async def closed_with(self) -> int:
        message = await self._socket.receive_output(timeout=60)
        assert message["type"] == "websocket.close", message
        return message["code"]

    async def disconnect(self) -> None:
        await self._socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._socket.wait(timeout=60)
