"""Channels over REST, for those who run them: whether they work, what was given up, and sending it again."""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.api import ForPeople
from approvals.domain.channels import Health, channel_health
from approvals.domain.deliveries import send_again, tell_test
from approvals.idempotent import IDEMPOTENCY_KEY, idempotent
from approvals.models import Channel, Delivery
from approvals.paging import Pages, page_of


class ChannelSerializer(serializers.ModelSerializer[Channel]):
    """A channel without its secrets, and its light: good, waiting, failing, unused or off."""

    light = serializers.SerializerMethodField()
    given_up = serializers.SerializerMethodField()
    retrying = serializers.SerializerMethodField()
    problem = serializers.SerializerMethodField()

    class Meta:
        model = Channel
        fields: ClassVar[list[str]] = [
            "name", "kind", "events", "connections", "groups", "enabled", "light", "given_up", "retrying", "problem",
        ]  # fmt: skip

    def get_light(self, channel: Channel) -> str:
        return self._health(channel).light

    def get_given_up(self, channel: Channel) -> int:
        return self._health(channel).dead

    def get_retrying(self, channel: Channel) -> int:
        return self._health(channel).retrying

    def get_problem(self, channel: Channel) -> str:
        return self._health(channel).problem

    def _health(self, channel: Channel) -> Health:
        known: dict[int, Health] = self.context["health"]
        return known[channel.pk]


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """A message on its way, or what became of it; what it says is for its receiver."""

    channel = serializers.CharField(source="channel.name", read_only=True)

    class Meta:
        model = Delivery
        fields: ClassVar[list[str]] = [
            "id", "channel", "event", "about", "state", "attempts", "answer", "problem", "created_at", "next_at",
            "delivered_at",
        ]  # fmt: skip


class ForOperators(ForPeople):
    """404 for everybody who may not see channels in the console."""

    def must(self, permission: str) -> None:
        if not self.person().has_perm(f"approvals.{permission}"):
            raise Http404


class ChannelsView(ForOperators):
    serializer_class = ChannelSerializer

    @extend_schema(operation_id="channels_list", responses={200: ChannelSerializer(many=True)})
    def get(self, request: Request) -> Response:
        """Every channel with its health. Changing them is `apply`'s, and the console's."""
        self.must("view_channel")
        context = {"health": channel_health()}
        return Response(ChannelSerializer(Channel.objects.all(), many=True, context=context).data)


class ChannelTestView(ForOperators):
    serializer_class = DeliverySerializer

    @extend_schema(
        operation_id="channels_test", parameters=[IDEMPOTENCY_KEY], request=None, responses={202: DeliverySerializer}
    )
    @idempotent
    def post(self, request: Request, name: str) -> Response:
        """Send a message that says only that it is one; the delivery shows what becomes of it."""
        self.must("change_channel")
        channel = Channel.objects.filter(name=name).first()
        if channel is None:
            raise Http404
        delivery = tell_test(channel=channel, by=self.person().get_username())
        return Response(DeliverySerializer(delivery).data, status=HTTPStatus.ACCEPTED)

    def check_replay(self, _request: Request, name: str) -> None:
        self.must("change_channel")


class DeliveriesView(ForOperators):
    serializer_class = DeliverySerializer
    pagination_class = Pages

    @extend_schema(
        operation_id="deliveries_list",
        parameters=[OpenApiParameter("state", str, enum=Delivery.State.values), OpenApiParameter("channel", str)],
        responses={200: DeliverySerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        """Messages, newest first; `state=dead`: those that were given up."""
        self.must("view_delivery")
        asked = request.query_params
        rows = Delivery.objects.select_related("channel")
        if asked.get("state"):
            rows = rows.filter(state=asked["state"])
        if asked.get("channel"):
            rows = rows.filter(channel__name=asked["channel"])
        return page_of(rows, self, request, DeliverySerializer)


class DeliveryAgainView(ForOperators):
    serializer_class = DeliverySerializer

    @extend_schema(
        operation_id="deliveries_send_again",
        parameters=[IDEMPOTENCY_KEY],
        request=None,
        responses={202: DeliverySerializer},
    )
    @idempotent
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Give a message that was given up a new set of attempts; nothing happens to any other."""
        self.must("change_delivery")
        delivery = Delivery.objects.select_related("channel").filter(pk=delivery_id).first()
        if delivery is None:
            raise Http404
        send_again(delivery=delivery)
        delivery.refresh_from_db()
        return Response(DeliverySerializer(delivery).data, status=HTTPStatus.ACCEPTED)

    def check_replay(self, _request: Request, delivery_id: UUID) -> None:
        self.must("change_delivery")
