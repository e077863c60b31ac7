"""The console as one site: accounts and groups, recorded like everything else, and the navigation."""

from __future__ import annotations

import json
from http import HTTPStatus
from importlib import import_module
from typing import Any, cast

import unfold.fields
from django import forms
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import AbstractUser, Group, User
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.module_loading import module_has_submodule
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from oidc_provider import models as oidc
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

import approvals
import audit
import masking
from approvals.domain.reviewers import readable_reviews
from approvals.domain.role_conflicts import RoleConflict, must_be_separate
from approvals.models import Channel, EmergencyRoster, Policy, Review
from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.marks import hidden_in
from audit.models import Anchor, RetentionPolicy, Sink
from gateway.admin import RecordedChanges
from gateway.domain.agents import owned_agents
from gateway.domain.people import end_all_of
from gateway.models import AccessRule, Agent, Connection
from hoopweb.console.consequences import SaysWhatItComesTo
from hoopweb.console.empty import teach
from hoopweb.console.one_error import say_once
from masking.models import ColumnTag, DataClass, MaskingRule

# This site lists before the apps whose pages it changes, so they register now.
for app in (approvals, masking, audit):
    if module_has_submodule(app, "admin"):
        import_module(f"{app.__name__}.admin")
admin.site.unregister(User)
admin.site.unregister(Group)


class AccountForm(UserChangeForm):  # type: ignore[misc]  # the theme's packages carry no types
    """Refuses two roles that nobody has together before anything is written."""

    def clean(self) -> dict[str, Any]:
        answers = super().clean() or {}
        if {"groups", "is_active"} <= set(answers) and answers["is_active"]:
            names = {group.name for group in answers["groups"]}
            is_superuser = answers.get("is_superuser", self.instance.is_superuser)
            try:
                must_be_separate(self.instance.get_username(), names, is_superuser=is_superuser)
            except RoleConflict as conflict:
                self.add_error("groups", conflict.messages[0])
        return answers


@admin.register(User)
class UserAdmin(RecordedChanges, DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    form = AccountForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "is_active", "is_staff", "is_superuser", "last_login"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """An administrator who is no superuser cannot become one, nor grant rights beside the groups."""
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, "is_superuser", "user_permissions")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        protected = obj is not None and obj.is_superuser and not request.user.is_superuser
        return not protected and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        protected = obj is not None and obj.is_superuser and not request.user.is_superuser
        return not protected and bool(super().has_delete_permission(request, obj))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Switching an account off ends what it holds, as it does when the identity provider says so."""
        super().save_related(request, form, formsets, change)
        if change and "is_active" in form.changed_data and not form.instance.is_active:
            end_all_of(user=form.instance, by=request.user.get_username())

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:
        """The package's own page, which saves past `save_model`."""
        with transaction.atomic():
            response = super().user_change_password(request, id, form_url)
            if request.method == "POST" and response.status_code == HTTPStatus.FOUND:
                body = {"subject": request.user.get_username(), "account": User.objects.get(pk=id).get_username()}
                append_entries([Entry(kind="person.password_changed", body=body)])
        return response


class GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    """Rules name groups by their letters: one that is not seen makes another group, which looks like the first."""

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if hidden := hidden_in(name):
            raise forms.ValidationError(f"expected letters that can be seen; this has {hidden}")
        return name


@admin.register(Group)
class GroupAdmin(RecordedChanges, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    form = GroupForm
    list_display = ["name"]


def mix_in(mixin: type, *models: type[Model]) -> None:
    """Register models of lower apps again, with a mixin they cannot import."""
    for model in models:
        registered = admin.site._registry.get(model)
        base = type(registered) if registered is not None else ModelAdmin
        if registered is not None:
            admin.site.unregister(model)
        admin.site.register(model, type(f"{mixin.__name__}{base.__name__}", (mixin, base), {}))


RECORDED = (MaskingRule, DataClass, ColumnTag, Policy, Channel, EmergencyRoster, Sink, Anchor, RetentionPolicy)
mix_in(RecordedChanges, *RECORDED)
mix_in(SaysWhatItComesTo, AccessRule, Agent, Connection, Policy, MaskingRule)

# The embedded provider is configured by code alone (hoopweb.identity_provider): its own pages show keys and secrets.
for model in (oidc.Client, oidc.Code, oidc.Token, oidc.UserConsent, oidc.RSAKey):
    if admin.site.is_registered(model):
        admin.site.unregister(model)
teach(admin.site)
say_once(admin.site)


# Django's own "Authentication and Authorization" leaves no room for the page's title on a phone.
apps.get_app_config("auth").verbose_name = "People"

# The sidebar in the order of a statement's journey. A model of an app that is not named here comes last in its group.
NAVIGATION = (
    ("Decisions", "approvals", ("review", "policy", "grant", "emergencyroster", "channel", "delivery")),
    (
        "Evidence",
        "audit",
        (
            "sessionrecord",
            "statementrecord",
            "logentry",
            "reportrun",
            "checkpoint",
            "anchor",
            "retentionpolicy",
            "legalhold",
            "sink",
        ),
    ),
    ("Masking", "masking", ("maskingrule", "columntag", "dataclass")),
    ("Data path", "gateway", ("connection", "agent", "accessrule", "quota", "issuer", "scimtoken")),
    ("People", "auth", ("user", "group")),
)


def plain_json(data: Any, encoder: Any) -> SafeString:
    """JSON as text. The theme colours it with style attributes where Pygments happens to be installed."""
    return format_html("<pre>{}</pre>", json.dumps(data, sort_keys=True, indent=2, cls=encoder, ensure_ascii=False))


unfold.fields.prettify_json = plain_json


def no_colours(request: HttpRequest) -> dict[str, Any]:
    """Keeps the theme from writing a style element into each page; colors.css holds the colours."""
    return {}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: what the signed-in person may view."""
    overview = [
        {"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")},
        {"title": "Reviewer's inbox", "icon": "inbox", "link": reverse("approvals:inbox"), **_waiting(request)},
        {"title": "Emergency access", "icon": "e911_emergency", "link": reverse("approvals:emergencies")},
        {"title": "Why was this denied?", "icon": "help", "link": reverse("console:why")},
    ]
    if request.user.has_perm("audit.read_subjectsighting"):
        overview.append(
            {"title": "Who saw a patient?", "icon": "person_search", "link": reverse("admin:audit_subjects")}
        )
    if request.user.has_perm("approvals.view_policy"):
        overview.append({"title": "Policy simulator", "icon": "science", "link": reverse("approvals:simulator")})
    overview += _about_agents(request)
    if request.user.has_perm("gateway.add_connection"):
        overview.append({"title": "Connect a database", "icon": "add_link", "link": reverse("console:connect")})
    groups = [(title, _links(request, app, first)) for title, app, first in NAVIGATION]
    shown = [{"title": title, "separator": True, "items": links} for title, links in groups if links]
    return [{"items": overview}, *shown]


def _about_agents(request: HttpRequest) -> list[dict[str, Any]]:
    """One's own agents for who answers for some; rights and roles for who reads the configuration."""
    found = []
    if owned_agents(request.user).exists():
        found.append({"title": "My agents", "icon": "smart_toy", "link": reverse("console:owned")})
    if request.user.has_perm("gateway.view_agent"):
        found.append({"title": "Unused rights", "icon": "content_cut", "link": reverse("console:rights")})
    if request.user.has_perm("auth.view_user"):
        found.append({"title": "Who has which role?", "icon": "diversity_3", "link": reverse("console:roles")})
    return found


def _waiting(request: HttpRequest) -> dict[str, Any]:
    """A badge with how many statements wait that this person may look at; none when nothing does."""
    readable = readable_reviews(cast(AbstractUser, request.user))
    waiting = readable.filter(status=Review.Status.PENDING, decide_by__gt=timezone.now()).count()
    return {"badge": waiting, "badge_variant": "warning"} if waiting else {}


def _links(request: HttpRequest, app: str, first: tuple[str, ...]) -> list[dict[str, Any]]:
    models = {str(m._meta.model_name): m for m in admin.site._registry if m._meta.app_label == app}
    names = [name for name in first if name in models] + sorted(set(models) - set(first))
    links = [
        {
            "title": TITLES.get(name) or capfirst(models[name]._meta.verbose_name_plural),
            "icon": ICONS.get(name, "folder"),
            "link": reverse(f"admin:{app}_{name}_changelist"),
        }
        for name in names
        if admin.site._registry[models[name]].has_view_permission(request)
    ]
    return _with_reports(request, links)


def _with_reports(request: HttpRequest, links: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """*Reports* leads to where they are asked for, which lists those that were made; its address is below the log's."""
    runs, entries, asked = (
        reverse(f"admin:audit_{name}") for name in ("reportrun_changelist", "logentry_changelist", "reports")
    )
    for link in links:
        if link["link"] == runs:
            link |= {"link": asked, "active": request.path.startswith((asked, runs))}
        elif link["link"] == entries:
            link["active"] = request.path.startswith(entries) and not request.path.startswith(asked)
    return links


TITLES = {"reststatement": "REST statements"}
ICONS = {
    "sessionrecord": "terminal",
    "statementrecord": "receipt_long",
    "logentry": "link",
    "checkpoint": "verified",
    "logdamage": "broken_image",
    "retentionpolicy": "auto_delete",
    "legalhold": "balance",
    "export": "archive",
    "reportrun": "summarize",
    "sink": "output",
    "anchor": "anchor",
    "anchorproof": "anchor",
    "policyversion": "history",
    "review": "how_to_reg",
    "policy": "gavel",
    "grant": "key",
    "quota": "speed",
    "channel": "campaign",
    "emergencyroster": "crisis_alert",
    "delivery": "outgoing_mail",
    "maskingrule": "visibility_off",
    "columntag": "sell",
    "dataclass": "category",
    "connection": "database",
    "accessrule": "door_open",
    "agent": "smart_toy",
    "issuer": "verified_user",
    "scimtoken": "sync_lock",
    "ticket": "confirmation_number",
    "reststatement": "http",
    "revokedtoken": "block",
    "user": "person",
    "group": "group",
}
