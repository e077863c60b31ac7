"""Sinks and anchors in the console: where evidence goes, how far it is, what hinders it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminPasswordWidget

from audit.domain.head import stated_size
from audit.models import Anchor, AnchorProof, Sink
from audit.models_delivery import Delivery
from audit.pages import ReadOnlyAdmin
from audit.sinks.lag import lag_of
from audit.sinks.secret import store_secret


class DeliveryForm(forms.ModelForm):  # type: ignore[type-arg]  # Django's is not subscriptable
    """The secret is written and never shown."""

    secret = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="a token, a whole Authorization header, or a Google service-account key; sealed with the URL's host, "
        "so a changed host needs it again; empty leaves it as it is",
    )


class SinkForm(DeliveryForm):
    class Meta:
        model = Sink
        fields = ["name", "enabled", "format", "url", "ca", "kinds", "history"]
        labels = {"url": "URL"}
        help_texts = {
            "url": "https://host/path, syslog+tls://host:6514, file:///NAME; http:// and syslog+tcp:// on loopback only"
        }


class AnchorForm(DeliveryForm):
    class Meta:
        model = Anchor
        fields = ["name", "enabled", "kind", "url", "certificate", "ca", "recipients", "every_s"]
        labels = {"url": "URL"}
        help_texts = {"url": "rfc3161, witness: https://host/path; directory: file:///NAME; mail: empty"}


class DeliveryAdmin(ModelAdmin):  # type: ignore[misc]
    list_per_page = 50
    list_disable_select_all = True

    @admin.display(description="URL")
    def where(self, row: Delivery) -> str:
        return row.url

    @admin.display(description="state")
    def state(self, row: Delivery) -> str:
        if not row.enabled:
            return "off"
        if row.failing_since is not None:
            return format_html(
                '<span title="since {}">failing: {}</span>', f"{row.failing_since:%Y-%m-%d %H:%M} UTC", row.problem
            )
        return "delivering" if row.delivered_at else "nothing yet"

    @admin.display(description="last delivered", ordering="delivered_at")
    def delivered(self, row: Delivery) -> str:
        return f"{row.delivered_at:%Y-%m-%d %H:%M:%S}" if row.delivered_at else ""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        secret = form.cleaned_data.get("secret")
        if secret:
            store_secret(form.instance, secret)
        super().save_related(request, form, formsets, change)


@admin.register(Sink)
class SinkAdmin(DeliveryAdmin):
    form = SinkForm
    list_display = ["name", "format", "where", "state", "behind", "delivered"]
    list_filter = ["format", "enabled"]
    readonly_fields = ["state", "behind", "delivered"]
    fieldsets = [
        (None, {"fields": ["name", "enabled", "format", "url", "secret", "ca", "kinds", "history"]}),
        ("Delivery", {"fields": ["state", "behind", "delivered"]}),
    ]

    @admin.display(description="behind")
    def behind(self, sink: Sink) -> str:
        if sink.pk is None:
            return ""
        lag = lag_of(sink, size=stated_size())
        return f"{lag.entries} entries, {lag.seconds:.0f} s" if lag.entries else "nothing"


@admin.register(Anchor)
class AnchorAdmin(DeliveryAdmin):
    form = AnchorForm
    list_display = ["name", "kind", "where", "state", "delivered"]
    list_filter = ["kind", "enabled"]
    readonly_fields = ["state", "delivered"]
    fieldsets = [
        (None, {"fields": ["name", "enabled", "kind", "url", "secret", "certificate", "ca", "recipients", "every_s"]}),
        ("Delivery", {"fields": ["state", "delivered"]}),
    ]


@admin.register(AnchorProof)
class AnchorProofAdmin(ReadOnlyAdmin):
    list_display = ["at", "anchor", "shown_kind", "size"]
    list_filter = ["kind", "anchor"]
    fields = ["at", "anchor", "shown_kind", "size", "shown_note"]
    readonly_fields = fields

    @admin.display(description="kind", ordering="kind")
    def shown_kind(self, proof: AnchorProof) -> str:
        return dict(Anchor.Kind.choices).get(proof.kind, proof.kind)

    @admin.display(description="note")
    def shown_note(self, proof: AnchorProof) -> str:
        """Line by line: who compares it with a note of theirs copies it from here."""
        return format_html("<pre>{}</pre>", proof.note)
