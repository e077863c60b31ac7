"""The sections of the document against the database: what is there, how one item is written, how one is removed.

An item is a plain mapping of the schema's field names, so that comparing what is with what is asked is `==`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import models

from approvals.domain.channels import SECRET, URL, set_channel_secrets
from approvals.domain.policies import FIELDS as POLICY_FIELDS
from approvals.domain.policies import delete_policy, policy_document, save_policy
from approvals.models import Channel, EmergencyRoster, Policy
from audit.models import Anchor, Sink
from audit.models_delivery import Delivery
from audit.sinks.secret import store_secret
from gateway.domain.clients import holds_secret, set_client_secret
from gateway.domain.configuration import schema
from gateway.domain.configuration.reading import DocumentProblem, resolve_cloud_credentials, resolve_secret
from gateway.domain.credentials import store_credential
from gateway.domain.provisioning import MIN_TOKEN_CHARS, PREFIX, scim_digest
from gateway.domain.quotas import LIMITS
from gateway.models import AccessRule, Agent, Connection, Issuer, Quota, ScimToken
from masking.models import MaskingRule

Item = dict[str, Any]
M = TypeVar("M", bound=models.Model)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the file an item stands, where its relative files are found, and who applies it."""

    path: str
    base: Path
    actor: str = ""
    author: str = ""  # the person whose work it is; without one, `actor`


@dataclass(frozen=True, slots=True)
class Section:
    """`secret` stores the item's secret when it is another than the stored one, and names its field then."""

    key: str
    title: str
    load: Callable[[], dict[str, Item]]
    save: Callable[[Item, Place], None]
    remove: Callable[[str, str], None]  # name, who removes it
    secret: Callable[[str, Any, Place], str | None] | None = None


def comparable(item: schema.Part) -> Item:
    """An item of the document as it would be loaded: defaults filled in, secrets left out."""
    values = item.model_dump(exclude=SECRETS)
    if isinstance(item, schema.BigQueryConnection):
        values["credentials"] = _open_credentials(item.credentials)
    return values


SECRETS = {"password", "credentials", "client_secret", "secret_overlap_s"} | {
    *("secret", "webhook_url", "signing_secret", "token"),
}

# Lists whose order means nothing: another order is no change.
UNORDERED = frozenset(
    {"groups", "operations", "exempt_groups", "members", "federated_subjects", "algorithms", "skip_groups", "grants"}
    | {"events", "escalate_to"}
)
CLOUD_SETTINGS = ("project", "location", "api_endpoint")


def _row_section(key: str, title: str, model: type[models.Model], fields: tuple[str, ...]) -> Section:
    """A section whose items are the rows of one model, field by field."""
    manager = model._default_manager

    def load() -> dict[str, Item]:
        rows = manager.order_by("name")
        return {row.name: ordered({field: getattr(row, field) for field in fields}) for row in rows}  # type: ignore[attr-defined]

    def save(item: Item, place: Place) -> None:
        row = manager.filter(name=item["name"]).first() or model()
        for field in fields:
            setattr(row, field, item[field])
        save_checked(row, place)

    def remove(name: str, actor: str) -> None:
        manager.filter(name=name).delete()

    return Section(key=key, title=title, load=load, save=save, remove=remove)


def save_checked(row: models.Model, place: Place) -> None:
    checked(row, place).save()


def checked(row: M, place: Place) -> M:
    """Validate as the console would, and name a mistake by its path in the file."""
    try:
        row.full_clean()
    except ValidationError as error:
        found = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
        raise DocumentProblem(
            [_placed(place, field, message) for field, messages in found.items() for message in messages]
        ) from None
    return row


def _placed(place: Place, field: str, message: str) -> tuple[str, str]:
    """A model's message with its path; a condition's message already begins with its own (`when.any[1]: …`)."""
    if message.startswith((f"{field}.", f"{field}[", f"{field}:")):
        inner, _, message = message.partition(": ")
        return f"{place.path}.{inner}", message
    return (f"{place.path}.{field}" if field and field != "__all__" else place.path), message


def ordered(item: Item) -> Item:
    """The item with lists whose order means nothing in one order, for comparing."""
    return {key: sorted(value) if key in UNORDERED else value for key, value in item.items()}


# --- connections -----------------------------------------------------------------------------------------------------

_COMMON = ("name", "kind", "phi", "recording", "durability", "scan_text", "subjects", "enabled")
_SQL = ("host", "port", "database", "username", "tls")


def _load_connections() -> dict[str, Item]:
    return {row.name: connection_item(row) for row in Connection.objects.order_by("name")}


def connection_item(row: Connection) -> Item:
    """The connection as a document has it, without its secret."""
    common = {field: getattr(row, field) for field in _COMMON}
    settings = dict(row.settings)
    if row.kind == Connection.Kind.BIGQUERY:
        cloud: Item = {field: settings.pop(field, "") for field in CLOUD_SETTINGS}
        named = settings.pop("credentials", "")
        cloud["credentials"] = {named: True} if named else None
        return {**common, **cloud, "settings": settings}
    return {**common, **{field: getattr(row, field) for field in _SQL}, "settings": settings}


def _save_connection(item: Item, place: Place) -> None:
    row = Connection.objects.filter(name=item["name"]).first() or Connection()
    settings = dict(item["settings"])
    for field in _COMMON:
        setattr(row, field, item[field])
    if item["kind"] == Connection.Kind.BIGQUERY:
        settings |= {field: item[field] for field in CLOUD_SETTINGS if item[field]}
        for name in item["credentials"] or ():
            settings["credentials"] = name
    else:
        for field in _SQL:
            setattr(row, field, item[field])
    row.settings = settings
    save_checked(row, place)


def _remove_connection(name: str, actor: str) -> None:
    Connection.objects.filter(name=name).delete()


def _connection_secret(name: str, item: Any, place: Place) -> str | None:
    if isinstance(item, schema.SqlConnection):
        if item.password is None:
            return None
        field = "password"
        if item.password.uri is not None:
            # The data plane reads it where it is, again and again: it may be rotated there.
            values = {"password_uri": item.password.uri}
        else:
            values = {"password": resolve_secret(item.password, path=f"{place.path}.password", base=place.base)}
    else:
        path = f"{place.path}.credentials"
        key = item.credentials and resolve_cloud_credentials(item.credentials, path=path, base=place.base)
        if key is None:
            return None
        field, values = "credentials", {"service_account": key}
    replaced = store_credential(connection=Connection.objects.get(name=name), values=values)
    return field if replaced else None


def _open_credentials(credentials: schema.CloudCredentials | None) -> Item | None:
    """What may be shown of cloud credentials: that there are none, or that they are the machine's own."""
    if credentials is None or not (credentials.anonymous or credentials.metadata):
        return None
    return {"anonymous": True} if credentials.anonymous else {"metadata": True}


# --- policies --------------------------------------------------------------------------------------------------------


def _load_policies() -> dict[str, Item]:
    return {row.name: ordered(policy_document(row)) for row in Policy.objects.order_by("name")}


def _save_policy(item: Item, place: Place) -> None:
    row = Policy.objects.filter(name=item["name"]).first() or Policy()
    for field in POLICY_FIELDS:
        setattr(row, field, item[field])
    save_policy(policy=checked(row, place), author=place.author or place.actor)


def _remove_policy(name: str, actor: str) -> None:
    for policy in Policy.objects.filter(name=name):
        delete_policy(policy=policy, author=actor)


# --- agents ----------------------------------------------------------------------------------------------------------

_AGENT = (
    *("name", "groups", "purpose", "enabled", "expires_at", "client_id", "federated_subjects"),
    *("federation", "jwks", "jwks_uri"),
)


def _load_agents() -> dict[str, Item]:
    rows = Agent.objects.select_related("owner").order_by("name")
    return {
        row.name: ordered({**{field: getattr(row, field) for field in _AGENT}, "owner": row.owner.get_username()})
        for row in rows
    }


def _save_agent(item: Item, place: Place) -> None:
    owner = User.objects.filter(username=item["owner"]).first()
    if owner is None:
        raise DocumentProblem([(f"{place.path}.owner", f"there is no account {item['owner']!r}")])
    row = Agent.objects.filter(name=item["name"]).first() or Agent()
    for field in _AGENT:
        setattr(row, field, item[field])
    row.owner = owner
    save_checked(row, place)


def _remove_agent(name: str, actor: str) -> None:
    Agent.objects.filter(name=name).delete()


def _agent_secret(name: str, item: Any, place: Place) -> str | None:
    if item.client_secret is None:
        return None
    secret = resolve_secret(item.client_secret, path=f"{place.path}.client_secret", base=place.base)
    row = Agent.objects.get(name=name)
    if holds_secret(row, secret):
        return None
    set_client_secret(agent=row, secret=secret, overlap_s=item.secret_overlap_s)
    return "client_secret"


def _scim_secret(name: str, item: Any, place: Place) -> str | None:
    if item.token is None:
        return None
    text = resolve_secret(item.token, path=f"{place.path}.token", base=place.base)
    if not text.startswith(PREFIX) or len(text) < MIN_TOKEN_CHARS:
        problem = f"expected {PREFIX} and random characters, {MIN_TOKEN_CHARS} together"
        raise DocumentProblem([(f"{place.path}.token", problem)])
    changed = ScimToken.objects.filter(name=name).exclude(digest=scim_digest(text)).update(digest=scim_digest(text))
    return "token" if changed else None


# --- channels --------------------------------------------------------------------------------------------------------


def _channel_secret(name: str, item: Any, place: Place) -> str | None:
    """Keep the secrets the document gives; those it leaves out stay as they are."""
    given = {"webhook_url": URL, "secret": SECRET, "signing_secret": SECRET}
    values = {
        kept: resolve_secret(secret, path=f"{place.path}.{field}", base=place.base)
        for field, kept in given.items()
        if (secret := getattr(item, field)) is not None
    }
    channel = Channel.objects.get(name=name)
    replaced = set_channel_secrets(channel=channel, values=values)
    channel.save(update_fields=["sealed"])
    return ", ".join(replaced) or None


# --- groups ----------------------------------------------------------------------------------------------------------


def _load_groups() -> dict[str, Item]:
    rows = Group.objects.prefetch_related("user_set").order_by("name")
    return {row.name: {"name": row.name, "members": sorted(u.username for u in row.user_set.all())} for row in rows}


def _save_group(item: Item, place: Place) -> None:
    members = {user.username: user for user in User.objects.filter(username__in=item["members"])}
    for index, username in enumerate(item["members"]):
        if username not in members:
            raise DocumentProblem([(f"{place.path}.members[{index}]", f"there is no account {username!r}")])
    group, _ = Group.objects.get_or_create(name=item["name"])
    group.user_set.set(members.values())


def _remove_group(name: str, actor: str) -> None:
    Group.objects.filter(name=name).delete()


# --- sinks ----------------------------------------------------------------------------------------------------------


def _delivery_section(key: str, title: str, model: type[Delivery], fields: tuple[str, ...]) -> Section:
    def secret(name: str, item: Any, place: Place) -> str | None:
        if item.secret is None:
            return None
        value = resolve_secret(item.secret, path=f"{place.path}.secret", base=place.base)
        return "secret" if store_secret(model._default_manager.get(name=name), value) else None

    return replace(_row_section(key, title, model, ("name", "enabled", "url", *fields)), secret=secret)


# In the order of writing; removing goes the other way. Groups come first, because they grant nothing by themselves.
SECTIONS: tuple[Section, ...] = (
    Section("groups", "group", _load_groups, _save_group, _remove_group),
    _row_section(
        "issuers",
        "issuer",
        Issuer,
        (
            "name",
            "issuer",
            "jwks_uri",
            "audience",
            "algorithms",
            "kind",
            "subject_claim",
            "groups_claim",
            "groups_map",
            "enabled",
        ),
    ),
    replace(
        _row_section("scim_tokens", "provisioning token", ScimToken, ("name", "enabled", "expires_at")),
        secret=_scim_secret,
    ),
    Section("connections", "connection", _load_connections, _save_connection, _remove_connection, _connection_secret),
    _row_section(
        "masking",
        "masking rule",
        MaskingRule,
        (
            "name",
            "connections",
            "columns",
            "technique",
            "inference",
            "exempt_groups",
            "data_class",
            "keep",
            "priority",
        ),
    ),
    Section("policies", "policy", _load_policies, _save_policy, _remove_policy),
    _row_section("access", "access rule", AccessRule, ("name", "groups", "connections", "operations")),
    Section("agents", "agent", _load_agents, _save_agent, _remove_agent, _agent_secret),
    _row_section("quotas", "quota", Quota, ("name", "agents", "connections", *LIMITS, "enabled")),
    _delivery_section("sinks", "sink", Sink, ("format", "ca", "kinds", "history")),
    _row_section(
        "break_glass",
        "break-glass roster",
        EmergencyRoster,
        (
            "name",
            "connections",
            "members",
            "agents",
            "reviewers",
            "lasts_s",
            "max_statements",
            "review_within_s",
            "lifts_masks",
            "enabled",
        ),
    ),
    replace(
        _row_section(
            "channels",
            "channel",
            Channel,
            ("name", "kind", "url", "events", "connections", "groups", "people", "enabled"),
        ),
        secret=_channel_secret,
    ),
    _delivery_section("anchors", "anchor", Anchor, ("kind", "certificate", "ca", "recipients", "every_s")),
)
