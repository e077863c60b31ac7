"""Channels in the console: where people are told, whether it works, and what did not come through."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget

from approvals.channels.outbound import NotPermitted, NotReached, checked_target
from approvals.channels.webhook import SecretProblem, signing_key
from approvals.domain.channels import (
    FAILING,
    GOOD,
    SECRET,
    UNUSED,
    URL,
    WAITING,
    Health,
    channel_health,
    channel_secrets,
    set_channel_secrets,
)
from approvals.domain.deliveries import send_again, tell_test
from approvals.models import Channel, Delivery

_SECRET = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
_LIGHTS = {GOOD: "success", WAITING: "warning", FAILING: "danger", UNUSED: "info"}


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]  # Django's is not subscriptable
    """Secrets are written and never shown."""

    webhook_url = forms.CharField(
        required=False, widget=_SECRET, label="Slack webhook URL", help_text="of the incoming webhook; empty keeps it"
    )
    secret = forms.CharField(
        required=False,
        widget=_SECRET,
        label="Signing secret",
        help_text="a webhook's whsec_…, or the Slack app's signing secret; empty keeps the stored one",
    )

    class Meta:
        model = Channel
        fields = ["name", "kind", "url", "events", "connections", "groups", "people", "enabled"]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        kept = channel_secrets(self.instance) if self.instance.pk and not self._renamed() else {}
        is_slack = given.get("kind") == Channel.Kind.SLACK
        if is_slack or given.get("url"):  # what a webhook without an address lacks, the model says
            _check_address(self, given.get("webhook_url") or kept.get(URL, "") if is_slack else given.get("url", ""))
        if not is_slack:
            _check_secret(self, given.get("secret") or kept.get(SECRET, ""))
        return given

    def _renamed(self) -> bool:
        return "name" in self.changed_data and bool(self.instance.pk)

    def secrets(self) -> dict[str, str]:
        given = {URL: self.cleaned_data.get("webhook_url"), SECRET: self.cleaned_data.get("secret")}
        return {name: value for name, value in given.items() if value}


def _check_address(form: ChannelForm, address: str) -> None:
    """Say now what every message would run into. A name that does not resolve at the moment is no mistake."""
    field = "webhook_url" if form.cleaned_data.get("kind") == Channel.Kind.SLACK else "url"
    try:
        checked_target(address)
    except NotPermitted as problem:
        form.add_error(field, str(problem))
    except NotReached:
        return


def _check_secret(form: ChannelForm, secret: str) -> None:
    try:
        signing_key(secret)
    except SecretProblem as problem:
        form.add_error("secret", str(problem))


@admin.register(Channel)
class ChannelAdmin(ModelAdmin):  # type: ignore[misc]
    form = ChannelForm
    list_display = ["name", "kind", "light", "last_delivered", "dead_letters", "last_problem", "enabled"]
    list_filter = ["kind", "enabled"]
    actions = ["send_test"]
    fieldsets = [
        (None, {"fields": ["name", "kind", "enabled"]}),
        ("Where", {"fields": ["url", "webhook_url", "secret"]}),
        ("What it hears of", {"fields": ["events", "connections", "groups"]}),
        ("Who may decide from Slack", {"fields": ["people"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        self._health = channel_health()
        queryset: QuerySet[Channel] = super().get_queryset(request)
        return queryset

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["name"] if obj is not None else []  # the secrets are bound to it

    def save_model(self, request: HttpRequest, obj: Channel, form: ChannelForm, change: bool) -> None:
        set_channel_secrets(channel=obj, values=form.secrets())
        super().save_model(request, obj, form, change)

    @display(description="health", label=_LIGHTS)  # type: ignore[untyped-decorator]
    def light(self, channel: Channel) -> str:
        return self._of(channel).light

    @admin.display(description="last delivered")
    def last_delivered(self, channel: Channel) -> Any:
        return self._of(channel).last_delivered or "never"

    @admin.display(description="given up")
    def dead_letters(self, channel: Channel) -> str:
        link = "/admin/approvals/delivery/?state__exact=dead&channel__id__exact={}"
        return format_html(f'<a href="{link}">{{}}</a>', channel.pk, self._of(channel).dead)

    @admin.display(description="last problem")
    def last_problem(self, channel: Channel) -> str:
        return self._of(channel).problem

    @admin.action(description="Send a test message", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        for channel in queryset:
            tell_test(channel=channel, by=request.user.get_username())
        messages.success(request, "On its way; the light shows what became of it.")

    def _of(self, channel: Channel) -> Health:
        return self._health[channel.pk]


@admin.register(Delivery)
class DeliveryAdmin(ModelAdmin):  # type: ignore[misc]
    """Messages to channels. What was given up lies here until somebody sends it again."""

    list_display = ["created_at", "event", "channel", "shown_state", "attempts", "answer", "problem", "next_attempt"]
    list_filter = ["state", "channel", "event"]
    list_select_related = ["channel"]
    search_fields = ["about"]
    actions = ["send_again"]

    @display(  # type: ignore[untyped-decorator]
        description="state",
        ordering="state",
        label={"delivered": "success", "pending": "warning", "given up": "danger", "no longer needed": "info"},
    )
    def shown_state(self, delivery: Delivery) -> str:
        return str(delivery.get_state_display()).lower()

    @admin.display(description="next attempt", ordering="next_at")
    def next_attempt(self, delivery: Delivery) -> Any:
        """A message that came through, or was given up, is not tried again by itself."""
        return delivery.next_at if delivery.state == Delivery.State.PENDING else ""

    @admin.action(description="Send again", permissions=["change"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        sent = sum(send_again(delivery=delivery) for delivery in queryset)
        messages.success(request, f"{sent} on their way again.")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field.name for field in Delivery._meta.fields]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """There is nothing to type: to change a delivery is to send it again, which the list does."""
        nothing = {"show_save": False, "show_save_and_continue": False, "show_save_and_add_another": False}
        page: HttpResponse = super().change_view(request, object_id, form_url, {**(extra_context or {}), **nothing})
        return page

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
