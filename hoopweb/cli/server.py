"""The product's REST API as the commands use it. Every error becomes a CommandFailed; no answer's token is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import httpx

from hoopweb.cli.credentials import Login, is_loopback
from hoopweb.cli.failures import CommandFailed, Exit, failure_of

# A statement may run for long; that no connection can be made shows at once.
TIMEOUT = httpx.Timeout(connect=10.0, read=None, write=30.0, pool=10.0)
SHORT_TIMEOUT = httpx.Timeout(30.0)
_SIGN_IN_AGAIN = "the token is not accepted or has expired: run hoopweb login"


class Server:
    """Calls in the name of `login`; `on_renewal` is told a login whose token was replaced."""

    def __init__(self, login: Login, *, on_renewal: Callable[[Login], object]) -> None:
        self.login = login
        self._on_renewal = on_renewal
        self._client = client_for(login.server, timeout=TIMEOUT)

    def get(self, *path: str, **query: str) -> Any:
        return self._call("GET", path, params=query)

    def post(self, *path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._call("POST", path, json=dict(body or {}))

    def _call(self, method: str, path: tuple[str, ...], **options: Any) -> Any:
        if self.login.is_over:
            self._renew()
        response = self._send(method, path, **options)
        if response.status_code == HTTPStatus.UNAUTHORIZED and self.login.is_renewable:
            self._renew()  # nothing ran: a call without a good token is refused before it is read
            response = self._send(method, path, **options)
        return _content(response)

    def _send(self, method: str, path: tuple[str, ...], **options: Any) -> httpx.Response:
        # Names are quoted whole: what a person typed cannot lead to another address.
        if not {"", ".", ".."}.isdisjoint(path):
            raise CommandFailed("expected a name or an id, not an empty one or dots", status=Exit.USAGE)
        url = "/api/v1/" + "/".join(quote(part, safe="") for part in path)
        headers = {"Authorization": f"Bearer {self.login.token}"}
        try:
            return self._client.request(method, url, headers=headers, **options)
        except (httpx.LocalProtocolError, ValueError):  # a token no header can carry
            raise CommandFailed(_SIGN_IN_AGAIN, status=Exit.NOT_SIGNED_IN) from None
        except httpx.HTTPError as error:
            raise _unreachable(self.login.server, error) from None

    def _renew(self) -> None:
        if not self.login.is_renewable:
            raise CommandFailed(_SIGN_IN_AGAIN, status=Exit.NOT_SIGNED_IN)
        try:
            secret = Path(self.login.secret_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            raise CommandFailed(
                f"the secret in {self.login.secret_file} cannot be read: run hoopweb login", status=Exit.NOT_SIGNED_IN
            ) from None
        self.login = with_new_token(self.login, secret=secret)
        self._on_renewal(self.login)


def with_new_token(login: Login, *, secret: str) -> Login:
    """`login` with a token for its client's credentials (RFC 6749 §4.4), asked of the product's token service."""
    # §2.3.1: both are form-encoded before they go into Basic.
    auth = (quote_plus(login.client_id), quote_plus(secret))
    try:
        with client_for(login.server, timeout=SHORT_TIMEOUT) as client:
            response = client.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=auth)
    except httpx.HTTPError as error:
        raise _unreachable(login.server, error) from None
    answer = _json(response) if response.is_success else _problem(response)
    if response.status_code != HTTPStatus.OK or "access_token" not in answer:
        text = str(answer.get("error_description") or "the token service gave no token")
        raise CommandFailed(text, status=Exit.NOT_SIGNED_IN)
    return replace(login, token=str(answer["access_token"]), expires_at=time.time() + float(answer["expires_in"]))


def client_for(server: str, *, timeout: httpx.Timeout) -> httpx.Client:
    """Follows no redirect: a token goes to the server it is for. Loopback never goes through a proxy."""
    trusts_environment = not is_loopback(urlsplit(server).hostname or "")
    return httpx.Client(base_url=server, timeout=timeout, trust_env=trusts_environment, follow_redirects=False)


def _content(response: httpx.Response) -> Any:
    if response.is_success:
        return _json(response)
    problem = _problem(response)
    match response.status_code:
        case HTTPStatus.UNAUTHORIZED:
            raise CommandFailed(_SIGN_IN_AGAIN, status=Exit.NOT_SIGNED_IN)
        case HTTPStatus.FORBIDDEN:
            raise failure_of(problem, status=Exit.DENIED)
        case HTTPStatus.NOT_FOUND if not problem:
            raise CommandFailed("there is no such name or id for you")
    if not problem:
        problem = {"detail": f"the server answered {response.status_code}, expected an answer of the API"}
    raise failure_of(problem, status=Exit.FAILED)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise CommandFailed("the server's answer is not JSON: is this the product's URL?") from None


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The problem document; empty where something else (a balancer's page) came in its place."""
    try:
        content = response.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _unreachable(server: str, error: httpx.HTTPError) -> CommandFailed:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return CommandFailed(f"{server} cannot be reached")
    # What was asked may have happened: it is on record, and nothing is sent a second time on a guess.
    return CommandFailed(f"the answer of {server} was lost ({type(error).__name__}); see hoopweb sessions list")
