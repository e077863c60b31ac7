"""Who calls: the MCP SDK's token verifier over the product's own.

A token is good here when its audience is the product (`hoopweb`) or this endpoint alone (RFC 8707, RFC 9728): an MCP
client that discovers the authorization server asks for the second kind, and what leaks from it opens no other door.
"""

from __future__ import annotations

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, TokenVerifier

from approvals.domain.request import Principal
from gateway.api.authentication import record_failure, verifier
from gateway.domain.connections import load_identity_rules
from gateway.domain.identity import EVERY_DOOR
from gateway.domain.threads import in_thread
from gateway.domain.tokens import mcp_resource
from gateway.session.services import AuthenticationFailed


class GovernedToken(AccessToken):
    """The SDK's view of a verified token, with the Principal it stands for."""

    principal: Principal

    def __repr__(self) -> str:  # a traceback or a log line must not carry the token
        return f"GovernedToken(subject={self.subject!r})"


class GovernedTokenVerifier(TokenVerifier):
    """Fulfils the SDK's `TokenVerifier`: every check of `gateway.domain.identity`, and the failure recorded."""

    async def verify_token(self, token: str) -> GovernedToken | None:
        try:
            principal = await verifier.verify(
                token, snapshot=await in_thread(load_identity_rules), audiences=EVERY_DOOR | {mcp_resource()}
            )
        except AuthenticationFailed as failed:
            await in_thread(record_failure, failed, protocol="mcp", client_address="")
            return None
        return GovernedToken(
            token=token,
            client_id=principal.actor or principal.subject,
            scopes=[],
            expires_at=None if principal.expires_at is None else int(principal.expires_at),
            resource=mcp_resource(),
            subject=principal.subject,
            claims={"iss": principal.issuer},
            principal=principal,
        )


def current_token() -> GovernedToken:
    """The caller of the tool that runs now. Without one there is no tool call (fail closed)."""
    token = get_access_token()
    if not isinstance(token, GovernedToken):
        raise PermissionError("no token, expected a bearer token of this endpoint")
    return token
