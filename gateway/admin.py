"""The data path's configuration in the console. Every change raises the version and is recorded, before and after."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Model, OuterRef, QuerySet, Subquery, URLField
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextareaWidget,
)

from audit.domain.entry import Json
from audit.models import StatementRecord
from gateway.domain.agents import revoke_agents_tokens
from gateway.domain.clients import set_client_secret
from gateway.domain.credentials import store_credential
from gateway.domain.provisioning import new_scim_token
from gateway.domain.quotas import LIMITS
from gateway.domain.recorded import record_change, state_of
from gateway.domain.secret_uris import uri_problem
from gateway.domain.sockets import is_socket
from gateway.models import (
    AccessRule,
    Agent,
    Connection,
    Issuer,
    Quota,
    RestStatement,
    RevokedToken,
    ScimToken,
    Ticket,
    subjects_problem,
)

UNUSED_AFTER = timedelta(days=90)
OPERATIONS_SAY = {
    "read": "SELECT and what reads like it",
    "write": "INSERT, UPDATE, DELETE, MERGE, COPY FROM",
    "temp": "temporary tables: CREATE, fill and DROP them (part of ddl)",
    "listen": "LISTEN: what others send, as a masking rule over notifications.<channel>.payload shows it",
    "ddl": "CREATE, ALTER, DROP",
    "admin": "GRANT, SET ROLE, VACUUM and other maintenance",
}


class RecordedChanges:
    """A mixin for `ModelAdmin`: nothing of configuration changes in the console without a record of it."""

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        known = type(obj)._default_manager.filter(pk=obj.pk).first() if change else None
        request._before = state_of(known) if known is not None else None  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)  # type: ignore[misc]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Memberships are written here, after the row: only now is its state complete."""
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        before: dict[str, Json] | None = request._before  # type: ignore[attr-defined]
        record_change(row=form.instance, before=before, after=state_of(form.instance), subject=_subject(request))

    def save_by_action(self, request: HttpRequest, obj: Model) -> None:
        """What an action of a list changed in one row."""
        before = state_of(type(obj)._default_manager.get(pk=obj.pk))
        super().save_by_action(request, obj)  # type: ignore[misc]
        record_change(row=obj, before=before, after=state_of(obj), subject=_subject(request))

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        before = state_of(obj)
        super().delete_model(request, obj)  # type: ignore[misc]
        record_change(row=obj, before=before, after=None, subject=_subject(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            rows = [(row, state_of(row)) for row in queryset]
            super().delete_queryset(request, queryset)  # type: ignore[misc]
            for row, before in rows:
                record_change(row=row, before=before, after=None, subject=_subject(request))


def _subject(request: HttpRequest) -> str:
    return request.user.get_username()


class ConnectionForm(forms.ModelForm):  # type: ignore[type-arg]  # Django's is not subscriptable
    """The secret is written and never shown: this process could not open it if it wanted to."""

    secret = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="password, or a cloud service-account key; sealed for the data plane, empty leaves it as it is",
    )

    secret_uri = forms.CharField(
        required=False,
        label="Or where the secret lies",
        help_text="read there by the data plane: file:/path, vault://MOUNT/PATH#FIELD, aws-secret://NAME#FIELD, "
        "gcp-secret://PROJECT/NAME; replaces a stored secret",
    )

    subjects_text = forms.CharField(
        required=False,
        label="Subjects",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "patient: public.patients.id"}),
        help_text="whose records are here, a kind a line: its name, then the stored columns that hold its number, such "
        "as “patient: public.patients.id, public.encounters.patient_id”. Makes “who saw this patient?” answerable.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("subjects_text", _subject_lines(self.instance.subjects))
        if "kind" in self.fields:  # not where the page only shows
            offered = [kind for kind in Connection.Kind if kind.is_served or kind == self.instance.kind]
            cast(forms.ChoiceField, self.fields["kind"]).choices = [(kind.value, kind.label) for kind in offered]

    def clean_secret_uri(self) -> str:
        uri = str(self.cleaned_data["secret_uri"]).strip()
        if uri and (problem := uri_problem(uri)):
            raise forms.ValidationError(problem)
        return uri

    def clean(self) -> dict[str, Any]:
        answers = super().clean() or {}
        if answers.get("secret") and answers.get("secret_uri"):
            self.add_error("secret_uri", "a secret is given already, expected either that or where it lies")
        if answers.get("secret_uri") and answers.get("kind") == Connection.Kind.BIGQUERY:
            self.add_error("secret_uri", "BigQuery takes a key, or the machine's own account")
        return answers

    def clean_subjects_text(self) -> str:
        subjects = _read_subject_lines(self.cleaned_data["subjects_text"])
        if problem := subjects_problem(subjects):
            raise forms.ValidationError(problem)
        self.instance.subjects = subjects
        return str(self.cleaned_data["subjects_text"])

    class Meta:
        model = Connection
        fields = [
            "name",
            "kind",
            "host",
            "port",
            "database",
            "username",
            "tls",
            "phi",
            "recording",
            "durability",
            "scan_text",
            "enabled",
            "settings",
        ]
        labels = {"tls": "TLS"}
        help_texts = {
            "name": "what clients give as the database name",
            "host": "a name or an address; or the directory of its Unix socket (/cloudsql/PROJECT:REGION:INSTANCE, "
            "/run/postgresql), without TLS",
            "username": "the gateway's role: no more rights than an agent may ever have, and TEMP on the database",
            "recording": "masked results: answers are kept as the client saw them",
            "durability": "what an entry of the log must survive before its statement runs",
            "settings": "options of this kind of connection, mostly empty; over a Unix socket "
            '{"requirepeer": "postgres"} names the user its server must run as',
        }


def _subject_lines(subjects: list[dict[str, Any]]) -> str:
    return "\n".join(f"{kind['name']}: {', '.join(kind['columns'])}" for kind in subjects)


def _read_subject_lines(text: str) -> list[dict[str, Any]]:
    split = [line.partition(":") for line in text.splitlines() if line.strip()]
    return [
        {"name": name.strip(), "columns": [column.strip() for column in columns.split(",") if column.strip()]}
        for name, _, columns in split
    ]


@admin.register(Connection)
class ConnectionAdmin(RecordedChanges, ModelAdmin):  # type: ignore[misc]
    form = ConnectionForm
    list_display = ["name", "kind", "where", "what", "transport", "phi", "recording", "enabled"]
    list_filter = ["kind", "phi", "tls", "enabled"]
    search_fields = ["name", "host", "database"]
    fieldsets = [
        (None, {"fields": ["name", "kind", "enabled"]}),
        ("Upstream", {"fields": ["host", "port", "database", "username", "secret", "secret_uri", "tls", "settings"]}),
        ("Protection", {"fields": ["phi", "scan_text", "subjects_text", "recording", "durability"]}),
    ]

    @admin.display(description="host", ordering="host")
    def where(self, connection: Connection) -> str:
        """BigQuery's is Google's own unless an endpoint is set."""
        return connection.host or urlsplit(str(connection.settings.get("api_endpoint", ""))).hostname or "Google's"

    @admin.display(description="database or project", ordering="database")
    def what(self, connection: Connection) -> str:
        return connection.database or str(connection.settings.get("project", ""))

    @admin.display(description="TLS", ordering="tls")
    def transport(self, connection: Connection) -> str:
        if is_socket(connection.host):
            return "none (Unix socket)"
        if connection.kind != Connection.Kind.BIGQUERY:
            return str(connection.get_tls_display())
        endpoint = str(connection.settings.get("api_endpoint") or "https:")
        return "verified" if endpoint.startswith("https:") else "none (loopback only)"

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        secret = form.cleaned_data.get("secret")
        if uri := form.cleaned_data.get("secret_uri"):
            store_credential(connection=form.instance, values={"password_uri": uri})
        if secret:
            field = "service_account" if form.instance.kind == Connection.Kind.BIGQUERY else "password"
            store_credential(connection=form.instance, values={field: secret})
        super().save_related(request, form, formsets, change)


class AccessRuleForm(forms.ModelForm):  # type: ignore[type-arg]
    operations = forms.MultipleChoiceField(
        choices=[(name, f"{name}: {says}") for name, says in OPERATIONS_SAY.items()],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = AccessRule
        fields = ["name", "groups", "connections", "operations"]


@admin.register(AccessRule)
class AccessRuleAdmin(RecordedChanges, ModelAdmin):  # type: ignore[misc]
    form = AccessRuleForm
    list_display = ["name", "groups", "connections", "operations"]
    search_fields = ["name", "groups", "connections"]


@admin.register(Agent)
class AgentAdmin(RecordedChanges, ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "owner", "groups", "purpose", "enabled", "expires_at", "last_used", "sees", "proves"]
    list_filter = ["enabled"]
    list_select_related = ["owner"]
    exclude = ["federation", "jwks", "jwks_uri"]  # asked on a page of their own, field by field
    search_fields = ["name", "purpose", "owner__username"]
    autocomplete_fields = ["owner"]
    readonly_fields = ["sees", "proves", "uses", "revoked_before", "last_token_at", "created_at"]
    actions = ["revoke_tokens", "new_client_secret"]

    @admin.display(description="what it can see")
    def sees(self, agent: Agent) -> str:
        if agent.pk is None:
            return "shown once the agent is there"
        return format_html(
            '<a class="inner" href="{}">tables and columns</a>', reverse("console:sight", args=[agent.name])
        )

    @admin.display(description="how it proves itself")
    def proves(self, agent: Agent) -> str:
        if agent.pk is None:
            return "asked once the agent is there"
        return format_html(
            '<a class="inner" href="{}">platform, keys, secrets</a>', reverse("console:proof", args=[agent.name])
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        # By the moment alone, as the index of subjects has it: to tell ties apart all newer statements would be read.
        newest = StatementRecord.objects.filter(subject=OuterRef("name")).order_by("-at").values("at")[:1]
        rows: QuerySet[Agent] = super().get_queryset(request)
        return rows.annotate(statement_at=Subquery(newest))

    @admin.display(description="last statement", ordering="statement_at")
    def last_used(self, agent: Agent) -> str:
        """When it last asked for something; marked where that is long ago."""
        at = getattr(agent, "statement_at", None)
        said = "never" if at is None else f"{at:%Y-%m-%d %H:%M}"
        if not agent.enabled or max(at or agent.created_at, agent.created_at) > timezone.now() - UNUSED_AFTER:
            return said
        place = f"{reverse('console:rights')}?agent={agent.name}"
        return format_html('{} <a class="inner text-red-700 dark:text-red-400" href="{}">unused</a>', said, place)

    @admin.display(description="what it does not use")
    def uses(self, agent: Agent) -> str:
        if agent.pk is None:
            return "shown once the agent is there"
        return format_html(
            '<a class="inner" href="{}?agent={}">rights and their use</a>', reverse("console:rights"), agent.name
        )

    @admin.action(description="Revoke every token issued until now", permissions=["change"])
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        with transaction.atomic():
            for agent in queryset:
                revoke_agents_tokens(agent=agent, by=_subject(request))
        messages.success(request, "The tokens are revoked; live sessions end within seconds.")

    @admin.action(description="Make a new client secret (one agent)", permissions=["change"])
    def new_client_secret(self, request: HttpRequest, queryset: QuerySet[Agent]) -> HttpResponse | None:
        agent = queryset.first()
        if agent is None or queryset.count() != 1:
            messages.error(request, "Choose exactly one agent.")
            return None
        # Shown on this page alone: a message would travel in a cookie.
        context = {
            **self.admin_site.each_context(request),
            "title": "New client secret",
            "agent": agent,
            "secret": set_client_secret(agent=agent),
        }
        response = TemplateResponse(request, "gateway/agent_secret.html", context)
        response["Cache-Control"] = "no-store"
        return response


@admin.register(Quota)
class QuotaAdmin(RecordedChanges, ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "agents", "connections", "limits", "enabled"]
    list_filter = ["enabled"]
    search_fields = ["name", "agents", "connections"]
    fieldsets = [
        (None, {"fields": ["name", "agents", "connections", "enabled"]}),
        ("Each of them may have", {"fields": list(LIMITS)}),
    ]

    @admin.display(description="each of them may have")
    def limits(self, quota: Quota) -> str:
        """The limits that are set, in words: five columns of mostly nothing would not fit beside the names."""
        set_ones = ((name.replace("_per_", " a ").replace("_", " "), getattr(quota, name)) for name in LIMITS)
        return ", ".join(f"{value:,} {words}" for words, value in set_ones if value is not None)


@admin.register(Issuer)
class IssuerAdmin(RecordedChanges, ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "issuer", "kind", "audience", "algorithms", "enabled"]
    list_filter = ["kind", "enabled"]
    search_fields = ["name", "issuer"]
    formfield_overrides = {URLField: {"assume_scheme": "https"}}


@admin.register(ScimToken)
class ScimTokenAdmin(RecordedChanges, ModelAdmin):  # type: ignore[misc]
    """The identity provider's tokens. Two at once are how one replaces the other."""

    list_display = ["name", "enabled", "created_at", "last_used_at", "expires_at"]
    list_filter = ["enabled"]
    readonly_fields = ["created_at", "last_used_at"]

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        if not change and isinstance(obj, ScimToken):
            request._new_token, obj.digest = new_scim_token()  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: ScimToken, post_url_continue: str | None = None) -> HttpResponse:
        # Shown on this page alone: a message would travel in a cookie.
        token = request._new_token  # type: ignore[attr-defined]
        context = {**self.admin_site.each_context(request), "title": "New provisioning token", "row": obj}
        response = TemplateResponse(request, "gateway/scim_token.html", {**context, "token": token})
        response["Cache-Control"] = "no-store"
        return response


@admin.register(RevokedToken)
class RevokedTokenAdmin(RecordedChanges, ModelAdmin):  # type: ignore[misc]
    list_display = ["jti", "reason", "revoked_at", "expires_at"]
    search_fields = ["jti", "reason"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Ticket)
class TicketAdmin(ReadOnlyAdmin):
    fields = ["subject", "connection", "created_at", "expires_at", "used_at"]
    list_display = fields
    list_filter = ["connection"]
    search_fields = ["subject"]


@admin.register(RestStatement)
class RestStatementAdmin(ReadOnlyAdmin):
    """Ids and states; what was asked and answered is sealed and read in the evidence pages."""

    fields = ["id", "session_id", "subject", "connection", "status", "row_count", "created_at", "finished_at"]
    list_display = ["created_at", "subject", "connection", "status", "row_count", "finished_at"]
    list_filter = ["status", "connection"]
    search_fields = ["subject", "session_id", "id"]
