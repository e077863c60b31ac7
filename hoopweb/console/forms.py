"""The set-up's questions. Each form turns its answers into sections of a configuration document."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib.auth.models import Group, User
from django.urls import reverse
from django.utils.html import format_html

from gateway.domain.configuration.sections import connection_item
from gateway.models import Agent, Connection, validate_name

_SQL = ("host", "port", "database", "username")
_MAX_KEY_CHARS = 16 * 1024
_SEALED = "sealed for the data plane, and never shown again; leave it empty to keep what is there"


class SecretTextarea(forms.Textarea):
    """A text nobody is shown again, not even with the form that was refused: as `PasswordInput` has it."""

    def format_value(self, value: Any) -> str:
        return ""


class ConnectionForm(forms.Form):
    """What every kind is asked. What an `existing` connection has stays, where it is not asked or left empty."""

    sealed_field = ""
    name = forms.CharField(
        max_length=63, validators=[validate_name], help_text="what clients give as the database name"
    )
    phi = forms.BooleanField(
        label="holds PHI",
        required=False,
        initial=True,
        help_text="statements that cannot be fully read never pass plainly",
    )
    field_order: Iterable[str] | None = ("name",)

    def __init__(self, data: Any = None, *, existing: Connection | None = None) -> None:
        item = connection_item(existing) if existing else {}
        self.kept = {key: value for key, value in item.items() if value is not None}
        super().__init__(data, initial={**self.kept, **self.kept.get("settings", {})})
        if existing:
            self.fields["name"].disabled = True
            self.fields[self.sealed_field].help_text = _SEALED

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not self.kept and Connection.objects.filter(name=name).exists():
            place = reverse("console:connect-change", args=[name])
            raise forms.ValidationError(
                format_html('there is a connection of this name: <a href="{}">change it</a>, or choose another', place)
            )
        return name

    def ask_secret_again(self) -> None:
        """For a form that goes back: its secret does not go with it, and must not be lost without a word."""
        if self.data.get(self.sealed_field) and self.sealed_field not in self.errors:
            self.add_error(self.sealed_field, "give it again: no page repeats it")

    def document(self) -> dict[str, Any]:
        return {**self.kept, "name": self.cleaned_data["name"], "phi": self.cleaned_data["phi"]}


class PostgresForm(ConnectionForm):
    """Where the database is, and as whom the gateway signs in there."""

    host = forms.CharField(
        max_length=255,
        help_text="a name or an address; or the directory of its Unix socket (/cloudsql/PROJECT:REGION:INSTANCE)",
    )
    port = forms.IntegerField(min_value=1, max_value=65535, initial=5432)
    database = forms.CharField(max_length=255)
    username = forms.CharField(
        max_length=255, help_text="no more rights than any agent may ever have, and TEMP on the database"
    )
    password = forms.CharField(
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="sealed for the data plane; nobody reads it here again",
    )
    tls = forms.ChoiceField(
        label="TLS",
        choices=Connection.Tls.choices[::-1],
        help_text="there is none over a Unix socket: disable",
    )
    requirepeer = forms.CharField(
        max_length=63,
        required=False,
        label="Socket's server runs as",
        help_text="user name; only for a Unix socket, which anybody may serve who can write its directory",
    )
    field_order = ("name", *_SQL, "password", "tls", "requirepeer", "phi")
    sealed_field = "password"

    def document(self) -> dict[str, Any]:
        answers = self.cleaned_data
        secret = {"password": {"value": answers["password"]}} if answers["password"] else {}
        where = {field: answers[field] for field in _SQL}
        settings = {key: value for key, value in self.kept.get("settings", {}).items() if key != "requirepeer"}
        settings |= {"requirepeer": answers["requirepeer"]} if answers["requirepeer"] else {}
        return {
            **super().document(),
            "kind": "postgres",
            **where,
            "tls": answers["tls"],
            **secret,
            "settings": settings,
        }


class BigQueryForm(ConnectionForm):
    """Which project, and as whom the gateway asks there."""

    project = forms.CharField(max_length=255)
    location = forms.CharField(max_length=63, required=False, help_text="where its data is, such as US")
    key = forms.CharField(
        max_length=_MAX_KEY_CHARS,
        required=False,
        label="Service-account key",
        widget=SecretTextarea(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"}),
        help_text="its JSON file, sealed for the data plane; empty for the identity of the machine itself",
    )
    api_endpoint = forms.CharField(
        max_length=255, required=False, label="API endpoint", help_text="empty for Google's own; or a regional one"
    )
    field_order = ("name", "project", "location", "key", "api_endpoint", "phi")
    sealed_field = "key"

    def clean_key(self) -> str:
        """What is no key is told here, without a word of what was pasted."""
        key: str = self.cleaned_data["key"]
        try:
            found = json.loads(key) if key else {"type": "service_account", "private_key": "", "client_email": ""}
        except ValueError:
            found = None
        needed = ("private_key", "client_email")
        if not isinstance(found, dict) or found.get("type") != "service_account" or any(n not in found for n in needed):
            raise forms.ValidationError("this is not the JSON file of a service-account key")
        return key

    def document(self) -> dict[str, Any]:
        answers = self.cleaned_data
        where = {field: answers[field] for field in ("project", "location", "api_endpoint")}
        document = {**super().document(), "kind": "bigquery", **where}
        if answers["key"]:
            document["credentials"] = {"value": answers["key"]}
        elif not self.kept:
            document["credentials"] = {"metadata": True}
        return document


FORMS: dict[str, tuple[str, type[ConnectionForm]]] = {
    "postgres": ("PostgreSQL", PostgresForm),
    "bigquery": ("BigQuery", BigQueryForm),
}


class RulesForm(forms.Form):
    """Who may do what, and what waits for a person."""

    agents = forms.CharField(max_length=150, initial="ai-agents", label="Group of agents")
    operations = forms.MultipleChoiceField(
        choices=[("read", "read"), ("write", "write")],
        initial=["read"],
        widget=forms.CheckboxSelectMultiple,
        help_text="definitions and rights stay closed to agents",
    )
    reviewers = forms.CharField(max_length=150, initial="privacy-officers", label="Group of reviewers")
    reviewer = forms.ModelChoiceField(
        queryset=User.objects.filter(is_active=True).order_by("username"),
        to_field_name="username",
        required=False,
        label="First member, when the group is new",
    )
    hold_writes = forms.BooleanField(required=False, initial=True, label="Hold changes of protected data")
    hold_inference = forms.BooleanField(
        required=False, initial=True, label="Hold conditions that test protected values"
    )
    hold_exports = forms.BooleanField(required=False, initial=True, label="Hold exports")
    rows_over = forms.IntegerField(
        min_value=1, required=False, initial=1000, label="Hold reads of protected data with more rows than"
    )

    def clean(self) -> dict[str, Any]:
        answers = super().clean() or {}
        name = answers.get("reviewers", "")
        if name and not answers.get("reviewer") and not User.objects.filter(groups__name=name).exists():
            self.add_error("reviewer", "nobody is in this group: a held statement would wait for no one")
        return answers

    def document(self, connection: str) -> dict[str, Any]:
        answers = self.cleaned_data
        sections: dict[str, Any] = {
            "access": [
                {
                    "name": f"{connection}-{answers['agents']}"[:120],
                    "groups": [answers["agents"]],
                    "connections": [connection],
                    "operations": list(answers["operations"]),
                }
            ],
            "policies": [self._policy(connection, *asked) for asked in self._holds()],
        }
        if not Group.objects.filter(name=answers["reviewers"], user__isnull=False).exists():
            sections["groups"] = [{"name": answers["reviewers"], "members": [answers["reviewer"].username]}]
        return sections

    def _holds(self) -> list[tuple[str, dict[str, Any]]]:
        answers = self.cleaned_data
        asked: list[tuple[bool, str, dict[str, Any]]] = [
            (answers["hold_writes"], "phi-writes", {"operation": ["write"], "touches_phi": True}),
            (answers["hold_inference"], "inference", {"inference": True}),
            (answers["hold_exports"], "exports", {"export": True}),
            (
                bool(answers["rows_over"]),
                "bulk-reads",
                {"operation": ["read"], "touches_phi": True, "rows_over": answers["rows_over"]},
            ),
        ]
        return [(name, when) for wanted, name, when in asked if wanted]

    def _policy(self, connection: str, name: str, when: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": f"{connection}-{name}",
            "connections": [connection],
            "when": when,
            "action": "require_approval",
            "reviewers": [self.cleaned_data["reviewers"]],
        }


class AgentForm(forms.Form):
    """A new software principal, and the person who answers for it."""

    name = forms.CharField(max_length=63, validators=[validate_name])
    groups = forms.CharField(max_length=150, label="Group")
    owner = forms.ModelChoiceField(
        queryset=User.objects.filter(is_active=True).order_by("username"),
        to_field_name="username",
        help_text="answers for it, and never approves for it",
    )
    purpose = forms.CharField(max_length=500, help_text="what it is for, in an auditor's words")

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if Agent.objects.filter(name=name).exists():
            raise forms.ValidationError("there is an agent of this name")
        return name

    def document(self) -> dict[str, Any]:
        answers = self.cleaned_data
        return {
            "name": answers["name"],
            "groups": [answers["groups"]],
            "owner": answers["owner"].username,
            "purpose": answers["purpose"],
        }
