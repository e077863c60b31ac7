"""What the caller may use: connections, tickets for drivers, and a token for scripts of a signed-in person."""

from __future__ import annotations

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from approvals.domain.request import Principal
from approvals.domain.step_up import SESSION_KEY
from audit.domain.append import append_entries
from audit.domain.entry import Entry
from gateway.api.authentication import client_address, principal_of
from gateway.api.serializers import (
    ConnectionSerializer,
    ProblemSerializer,
    TicketRequestSerializer,
    TicketSerializer,
    TokenSerializer,
)
from gateway.domain.connections import usable_connections
from gateway.domain.tickets import buy_ticket
from gateway.domain.tokens import DEFAULT_TTL_S, issue_person_token


class ConnectionsView(APIView):
    """The connections some access rule opens to the caller. Hosts and accounts of upstreams are not told."""

    @extend_schema(operation_id="connections_list", responses=ConnectionSerializer(many=True))
    def get(self, request: Request) -> Response:
        usable = usable_connections(principal_of(request).groups)
        return Response(
            [
                {"name": name, "kind": spec.kind, "phi": spec.phi, "operations": sorted(map(str, operations))}
                for name, (spec, operations) in sorted(usable.items())
            ]
        )


class TicketsView(APIView):
    """Buy a short-lived one-time password for a driver."""

    @extend_schema(
        operation_id="tickets_create",
        request=TicketRequestSerializer,
        responses={201: TicketSerializer, 404: ProblemSerializer},
    )
    def post(self, request: Request) -> Response:
        asked = TicketRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        connection = asked.validated_data["connection"]
        principal = principal_of(request)
        if connection not in usable_connections(principal.groups):
            raise NotFound("there is no such connection for you")
        bought = buy_ticket(principal=principal, connection=connection, ttl_s=asked.validated_data["ttl_s"])
        append_entries([_ticket_bought(principal, connection, bought.ticket_id)])
        reply = {
            "ticket": bought.secret,
            "username": principal.subject,
            "connection": connection,
            "expires_at": bought.expires_at,
        }
        return Response(reply, status=201, headers={"Cache-Control": "no-store"})


class TokensView(APIView):
    """A short REST token for the person signed in with a session cookie."""

    @extend_schema(operation_id="tokens_create", request=None, responses={201: TokenSerializer, 403: ProblemSerializer})
    def post(self, request: Request) -> Response:
        if request.auth is not None:
            # A bearer token that could buy its successor would never expire.
            raise PermissionDenied("tokens are given to people signed in with a browser")
        with transaction.atomic():
            at = request.session.get(SESSION_KEY)
            token = issue_person_token(request.user, ttl_s=DEFAULT_TTL_S, authenticated_at=at)
            body = {
                "grant": "session",
                "subject": request.user.get_username(),
                "client_address": client_address(request),
            }
            append_entries([Entry(kind="token.issued", body=body)])
        reply = {"token": token, "expires_in": DEFAULT_TTL_S}
        return Response(reply, status=201, headers={"Cache-Control": "no-store"})


def _ticket_bought(principal: Principal, connection: str, ticket_id: str) -> Entry:
    body = {
        "subject": principal.subject,
        "issuer": principal.issuer,
        "actor": principal.actor,
        "connection": connection,
        "ticket": ticket_id,
        "token_id": principal.token_id,
    }
    return Entry(kind="ticket.bought", body=body)
