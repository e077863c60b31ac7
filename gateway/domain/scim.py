"""SCIM 2.0 (RFC 7643, RFC 7644) over people and groups: resources, filters and patches, free of HTTP.

What is understood of a person: userName, externalId, name, displayName, emails, active. What providers send beside
that is let pass and not kept, so nothing they send can make somebody a superuser or give a permission. Two dialects
of PATCH beside the RFC's are spoken: Entra ID's (`"op": "Replace"`, `"active": "False"`, dotted keys in a value) and
Okta's (no path, a value that is an object).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group, User
from django.db.models import Q, QuerySet

from audit.domain.marks import hidden_in
from gateway.domain.people import managed_people
from gateway.models import PersonStatus

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
MAX_MEMBERS = 5000
MAX_OPERATIONS = 200
_FILTER = re.compile(r'\s*([A-Za-z]+(?:\.[A-Za-z]+)?)\s+eq\s+("(?:[^"\\]|\\.)*")\s*', re.IGNORECASE)
_MEMBER = re.compile(r'members\[\s*value\s+eq\s+("(?:[^"\\]|\\.)*")\s*\]', re.IGNORECASE)
_MAIL = re.compile(r"emails\[.*\]\.value", re.IGNORECASE)
_USERNAME = re.compile(r"^[\w.@+-]{1,150}$")


@dataclass(frozen=True)
class ScimError(Exception):
    """An answer of RFC 7644 §3.12."""

    status: int
    detail: str
    kind: str = ""

    def as_json(self) -> dict[str, Any]:
        kind = {"scimType": self.kind} if self.kind else {}
        return {"schemas": [ERROR], "status": str(self.status), "detail": self.detail, **kind}


# --- Resources -------------------------------------------------------------------------------------------------------


def user_resource(user: User, base: str) -> dict[str, Any]:
    status: PersonStatus = user.hoopweb_status
    external = {"externalId": status.external_id} if status.external_id else {}
    return {
        "schemas": [USER],
        "id": str(user.pk),
        **external,
        "userName": user.username,
        "name": {"givenName": user.first_name, "familyName": user.last_name},
        "displayName": user.get_full_name() or user.username,
        "emails": [{"value": user.email, "primary": True, "type": "work"}] if user.email else [],
        "active": user.is_active,
        "groups": [{"value": str(group.pk), "display": group.name} for group in user.groups.order_by("name")],
        "meta": {"resourceType": "User", "location": f"{base}/Users/{user.pk}"},
    }


def group_resource(group: Group, base: str, *, with_members: bool = True) -> dict[str, Any]:
    """Members are those the provider manages; local accounts are none of its business."""
    members = managed_people().filter(groups=group).order_by("username") if with_members else []
    listed = [
        {"value": str(user.pk), "display": user.username, "$ref": f"{base}/Users/{user.pk}", "type": "User"}
        for user in members
    ]
    return {
        "schemas": [GROUP],
        "id": str(group.pk),
        "displayName": group.name,
        **({"members": listed} if with_members else {}),
        "meta": {"resourceType": "Group", "location": f"{base}/Groups/{group.pk}"},
    }


# --- Filters (RFC 7644 §3.4.2.2): equality alone, which is what providers ask ----------------------------------------


def filtered_users(text: str) -> QuerySet[User]:
    """The people a SCIM filter means (RFC 7644, 3.4.2.2; equality alone), all of them without one. Raises ScimError."""
    rows = managed_people().order_by("pk")
    if not text:
        return rows
    name, value = _equality(text)
    conditions = {
        "username": Q(username__iexact=value),
        "externalid": Q(hoopweb_status__external_id=value),
        "emails.value": Q(email__iexact=value),
        "emails": Q(email__iexact=value),
        "id": Q(pk=int(value)) if value.isascii() and value.isdecimal() and len(value) < 18 else Q(pk=None),
    }
    if name not in conditions:
        raise ScimError(400, 'expected a filter such as userName eq "ada"', "invalidFilter")
    return rows.filter(conditions[name])


def filtered_groups(text: str) -> QuerySet[Group]:
    rows = Group.objects.order_by("pk")
    if not text:
        return rows
    name, value = _equality(text)
    if name == "displayname":
        return rows.filter(name=value)
    if name == "externalid":
        return rows.none()  # groups are found by their names
    raise ScimError(400, 'expected a filter such as displayName eq "auditors"', "invalidFilter")


def _equality(text: str) -> tuple[str, str]:
    found = _FILTER.fullmatch(text) if len(text) <= 1000 else None
    try:
        value = json.loads(found[2]) if found else None
    except ValueError:
        value = None
    if found is None or not isinstance(value, str) or "\0" in value:
        raise ScimError(400, 'expected attribute eq "value"', "invalidFilter")
    return found[1].lower(), value


# --- Patches as plain attributes -------------------------------------------------------------------------------------


def user_changes(document: Any) -> dict[str, Any]:
    """What a whole resource says of a person, as `apply_to_user` takes it. Raises ScimError."""
    if not isinstance(document, dict):
        raise ScimError(400, "expected a user", "invalidSyntax")
    changes: dict[str, Any] = {}
    for name, value in document.items():
        _note(changes, name, value)
    return changes


def patched_user(document: Any) -> dict[str, Any]:
    """The same of a PATCH (RFC 7644 §3.5.2)."""
    changes: dict[str, Any] = {}
    for op, path, value in _operations(document):
        if op == "remove":
            if path.lower() in {"username", "active", ""}:
                raise ScimError(400, f"{path or 'the whole user'} cannot be removed", "mutability")
            _note(changes, path, "")
        elif path:
            _note(changes, path, value)
        elif isinstance(value, dict):
            for name, item in value.items():
                _note(changes, name, item)
        else:
            raise ScimError(400, "expected an object of attributes", "invalidValue")
    return changes


def _note(changes: dict[str, Any], name: str, value: Any) -> None:
    """Keep what is understood; everything else passes without a trace."""
    path = name.lower().removeprefix(f"{USER.lower()}:")
    if path == "name" and isinstance(value, dict):
        for inner, item in value.items():
            _note(changes, f"name.{inner}", item)
    elif path == "emails" or _MAIL.fullmatch(path):
        changes["email"] = _text(_mail_of(value), path, 254)
    elif path == "active":
        changes["active"] = _truth(value)
    elif path in _TEXTS:
        attribute, limit = _TEXTS[path]
        changes[attribute] = _text(value, path, limit)
        if attribute == "username" and not _USERNAME.fullmatch(changes["username"]):
            raise ScimError(400, "userName: expected letters, digits and @ . + - _", "invalidValue")


_TEXTS = {
    "username": ("username", 150),
    "externalid": ("external_id", 255),
    "name.givenname": ("first_name", 150),
    "name.familyname": ("last_name", 150),
}


def _mail_of(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    listed = [item for item in value if isinstance(item, dict)]
    primary = [item for item in listed if item.get("primary") in (True, "true", "True")]
    return (primary or listed or [{}])[0].get("value", "")


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:  # Entra ID
        return value.lower() == "true"
    raise ScimError(400, "active: expected true or false", "invalidValue")


def _text(value: Any, name: str, limit: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit or "\0" in value:
        raise ScimError(400, f"{name[:40]}: expected a text of at most {limit} characters", "invalidValue")
    return value


@dataclass(frozen=True, slots=True)
class GroupChange:
    """One step on a group: `members` are ids; None leaves them."""

    op: str
    name: str | None = None
    members: frozenset[int] | None = None


def patched_group(document: Any) -> list[GroupChange]:
    """The steps of a PATCH of a group (RFC 7644, 3.5.2), in their order. Raises ScimError."""
    steps = []
    for op, path, value in _operations(document):
        picked = _MEMBER.fullmatch(path)
        if picked and op == "remove":
            steps.append(GroupChange("remove", members=frozenset({_id(json.loads(picked[1]))})))
        elif path.lower() == "members":
            members = None if op == "remove" and value is None else member_ids(value)
            steps.append(GroupChange(op, members=frozenset() if members is None else members))
            if op == "remove" and members is None:
                steps[-1] = GroupChange("replace", members=frozenset())
        elif path.lower() in {"displayname", "externalid", "id"}:
            steps.append(GroupChange(op, name=_group_name(value) if path.lower() == "displayname" else None))
        elif not path and isinstance(value, dict):
            steps.append(group_change(value, op))
        else:
            raise ScimError(400, "expected members or displayName", "invalidPath")
    return steps


def group_change(document: Any, op: str = "replace") -> GroupChange:
    if not isinstance(document, dict):
        raise ScimError(400, "expected a group", "invalidSyntax")
    known = {name.lower(): value for name, value in document.items()}
    name = _group_name(known["displayname"]) if "displayname" in known else None
    return GroupChange(op, name=name, members=member_ids(known["members"]) if "members" in known else None)


def _group_name(value: Any) -> str:
    """Rules name groups by their letters: one that is not seen makes another group, which looks like the first."""
    name = _text(value, "displayName", 150)
    if hidden := hidden_in(name):
        raise ScimError(400, f"displayName: expected letters that can be seen; this has {hidden}", "invalidValue")
    return name


def member_ids(value: Any) -> frozenset[int]:
    listed = [value] if isinstance(value, dict) else value
    if not isinstance(listed, list) or len(listed) > MAX_MEMBERS:
        raise ScimError(400, f"members: expected a list of at most {MAX_MEMBERS}", "invalidValue")
    return frozenset(_id(item.get("value") if isinstance(item, dict) else item) for item in listed)


def _id(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 18:
        return int(value)
    raise ScimError(400, "members: expected the ids of users", "invalidValue")


def _operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    known = {name.lower(): value for name, value in document.items()} if isinstance(document, dict) else {}
    operations = known.get("operations")
    if not isinstance(operations, list) or not 1 <= len(operations) <= MAX_OPERATIONS:
        raise ScimError(400, f"expected 1 to {MAX_OPERATIONS} Operations", "invalidSyntax")
    for operation in operations:
        op = str(operation.get("op", "")).lower() if isinstance(operation, dict) else ""
        path = operation.get("path") or "" if op else ""
        if op not in {"add", "replace", "remove"} or not isinstance(path, str) or len(path) > 300:
            raise ScimError(400, "expected op add, replace or remove", "invalidSyntax")
        yield op, path, operation.get("value")
