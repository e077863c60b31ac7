"""SCIM 2.0 over HTTP, for the identity provider: it alone, with a bearer token of its own that opens nothing else.

Every change is in the log under the token's name. Switching a person off (`active: false`, or DELETE) ends everything
they hold within seconds; see `gateway.domain.people`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from approvals.domain.role_conflicts import RoleConflict
from gateway.domain import scim
from gateway.domain.people import deactivate_person, managed_people, save_person, set_members
from gateway.domain.provisioning import live_scim_token
from gateway.domain.recorded import record_change, state_of
from gateway.domain.roles import ROLE_GROUPS
from gateway.domain.scim import ScimError
from gateway.domain.throttle import count_failure, wait_s
from gateway.models import PersonStatus

MAX_BODY = 512 * 1024
PAGE_SIZE = 100
DOOR = "scim"

View = Callable[..., dict[str, Any] | HttpResponse]


def scim_view(**methods: View) -> Callable[..., HttpResponse]:
    """One address: authenticate, choose by method, answer with SCIM's own media type and errors."""

    @csrf_exempt  # no cookie is read here
    @never_cache
    @wraps(next(iter(methods.values())))
    def answer(request: HttpRequest, **path: Any) -> HttpResponse:
        try:
            by = _authenticated(request)
            method = methods.get(str(request.method).lower())
            if method is None:
                raise ScimError(405, "this method is not served here")
            found = method(request, by=by, **path)
        except ScimError as error:
            return _json(error.as_json(), error.status)
        except RoleConflict as conflict:  # the provider tries again, and by then may have taken the other role away
            return _json(ScimError(409, conflict.messages[0], "mutability").as_json(), 409)
        return found if isinstance(found, HttpResponse) else _json(found)

    return answer


# --- Users -----------------------------------------------------------------------------------------------------------


def list_users(request: HttpRequest, *, by: str) -> dict[str, Any]:
    rows = scim.filtered_users(request.GET.get("filter", ""))
    return _listed(request, rows.prefetch_related("groups"), lambda user: scim.user_resource(user, _base()))


def create_user(request: HttpRequest, *, by: str) -> HttpResponse:
    changes = scim.user_changes(_document(request))
    name = changes.get("username", "")
    if not name:
        raise ScimError(400, "userName is missing", "invalidValue")
    with transaction.atomic():
        user = _returning(changes) or User(username=name, is_active=True)
        if user.pk is None and User.objects.filter(username__iexact=name).exists():
            raise ScimError(409, "there is an account of this name", "uniqueness")
        if user.pk is None:
            user.set_unusable_password()
        status = getattr(user, "hoopweb_status", None) or PersonStatus()
        status.managed = True
        before = state_of(user) if user.pk else None
        user.is_active = True
        _apply(user, status, {"active": True, **changes}, before=before, by=by)
    response = _json(scim.user_resource(user, _base()), 201)
    response["Location"] = f"{_base()}/Users/{user.pk}"
    return response


def get_user(request: HttpRequest, *, by: str, pk: str) -> dict[str, Any]:
    return scim.user_resource(_user(pk), _base())


def replace_user(request: HttpRequest, *, by: str, pk: str) -> dict[str, Any]:
    """PUT. What is left out of `active` is not switched: providers leave out what did not change."""
    changes = scim.user_changes(_document(request))
    if not changes.get("username"):
        raise ScimError(400, "userName is missing", "invalidValue")
    return _changed(pk, {"first_name": "", "last_name": "", "email": "", **changes}, by)


def patch_user(request: HttpRequest, *, by: str, pk: str) -> dict[str, Any]:
    return _changed(pk, scim.patched_user(_document(request)), by)


def delete_user(request: HttpRequest, *, by: str, pk: str) -> HttpResponse:
    """The account stays, switched off: evidence and agents name it. The provider no longer sees it."""
    with transaction.atomic():
        user = _user(pk, lock=True)
        deactivate_person(user=user, by=by)
        PersonStatus.objects.filter(user=user).update(managed=False)
    return HttpResponse(status=204)


def _changed(pk: str, changes: dict[str, Any], by: str) -> dict[str, Any]:
    with transaction.atomic():
        user = _user(pk, lock=True)
        name = changes.get("username", user.username)
        if User.objects.filter(username__iexact=name).exclude(pk=user.pk).exists():
            raise ScimError(409, "there is an account of this name", "uniqueness")
        if name != user.username and user.agents.exists():
            raise ScimError(400, "userName of somebody who answers for agents stays as it is", "mutability")
        _apply(user, user.hoopweb_status, changes, before=state_of(user), by=by)
        user = _user(pk)
    return scim.user_resource(user, _base())


def _apply(user: User, status: PersonStatus, changes: dict[str, Any], *, before: Any, by: str) -> None:
    external = changes.get("external_id")
    if external and PersonStatus.objects.filter(external_id=external).exclude(pk=status.pk).exists():
        raise ScimError(409, "another account has this externalId", "uniqueness")
    if external is not None:
        status.external_id = external or None
    for name in ("username", "first_name", "last_name", "email"):
        if name in changes:
            setattr(user, name, changes[name])
    if changes.get("active") is False:
        save_person(user=user, status=status, before=before, by=by)
        deactivate_person(user=user, by=by)
        return
    user.is_active = changes.get("active", user.is_active)
    save_person(user=user, status=status, before=before, by=by)


def _returning(changes: dict[str, Any]) -> User | None:
    """Somebody the provider removed before and brings back: the same name and the same id of its own."""
    external = changes.get("external_id")
    known = User.objects.filter(
        username__iexact=changes["username"],
        is_superuser=False,
        hoopweb_status__external_id=external,
        hoopweb_status__managed=False,
    )
    return known.select_for_update(of=("self",)).first() if external else None


def _user(pk: str, *, lock: bool = False) -> User:
    rows = managed_people()
    found = (rows.select_for_update(of=("self",)) if lock else rows).filter(pk=_number(pk)).first()
    if found is None:
        raise ScimError(404, "there is no such user")
    return found


# --- Groups ----------------------------------------------------------------------------------------------------------


def list_groups(request: HttpRequest, *, by: str) -> dict[str, Any]:
    brief = "members" in request.GET.get("excludedAttributes", "").lower()
    rows = scim.filtered_groups(request.GET.get("filter", ""))
    return _listed(request, rows, lambda group: scim.group_resource(group, _base(), with_members=not brief))


def create_group(request: HttpRequest, *, by: str) -> HttpResponse:
    change = scim.group_change(_document(request))
    if not change.name:
        raise ScimError(400, "displayName is missing", "invalidValue")
    with transaction.atomic():
        group, made = Group.objects.get_or_create(name=change.name)
        if not made:
            raise ScimError(409, "there is a group of this name; find it by displayName", "uniqueness")
        record_change(row=group, before=None, after=state_of(group), subject=by)
        _step(group, change, by)
    response = _json(scim.group_resource(group, _base()), 201)
    response["Location"] = f"{_base()}/Groups/{group.pk}"
    return response


def get_group(request: HttpRequest, *, by: str, pk: str) -> dict[str, Any]:
    brief = "members" in request.GET.get("excludedAttributes", "").lower()
    return scim.group_resource(_group(pk), _base(), with_members=not brief)


def replace_group(request: HttpRequest, *, by: str, pk: str) -> dict[str, Any]:
    change = scim.group_change(_document(request))
    if not change.name:
        raise ScimError(400, "displayName is missing", "invalidValue")
    whole = scim.GroupChange("replace", change.name, change.members or frozenset())
    return _stepped(pk, [whole], by)


def patch_group(request: HttpRequest, *, by: str, pk: str) -> dict[str, Any]:
    return _stepped(pk, scim.patched_group(_document(request)), by)


def delete_group(request: HttpRequest, *, by: str, pk: str) -> HttpResponse:
    """Its people leave it. A role, or a group local accounts are still in, stays."""
    with transaction.atomic():
        group = _group(pk, lock=True)
        set_members(group=group, members=(), by=by)
        if group.name not in ROLE_GROUPS and not group.user_set.exists():
            before = state_of(group)
            group.delete()
            record_change(row=group, before=before, after=None, subject=by)
    return HttpResponse(status=204)


def _stepped(pk: str, changes: list[scim.GroupChange], by: str) -> dict[str, Any]:
    with transaction.atomic():
        group = _group(pk, lock=True)
        for change in changes:
            _step(group, change, by)
    return scim.group_resource(group, _base())


def _step(group: Group, change: scim.GroupChange, by: str) -> None:
    if change.name and change.name != group.name:
        _rename(group, change.name, by)
    if change.members is None:
        return
    named = {user.pk: user for user in managed_people().filter(pk__in=change.members)}
    if change.op != "remove" and len(named) != len(change.members):
        raise ScimError(400, "a member is no user here", "invalidValue")
    present = {user.pk: user for user in managed_people().filter(groups=group)}
    wanted = {"add": present | named, "replace": named}.get(
        change.op, {pk: user for pk, user in present.items() if pk not in change.members}
    )
    switched_off = [user for pk, user in wanted.items() if pk not in present and not user.is_active]
    if switched_off:
        raise ScimError(400, "a member is switched off", "invalidValue")
    set_members(group=group, members=wanted.values(), by=by)


def _rename(group: Group, name: str, by: str) -> None:
    """Rules name groups: a group that took another's name would take its rights."""
    if group.name in ROLE_GROUPS or name in ROLE_GROUPS or Group.objects.filter(name=name).exists():
        raise ScimError(409, "a role keeps its name, and no group takes another's", "uniqueness")
    before = state_of(group)
    group.name = name
    group.save()
    record_change(row=group, before=before, after=state_of(group), subject=by)


def _group(pk: str, *, lock: bool = False) -> Group:
    rows = Group.objects.select_for_update() if lock else Group.objects.all()
    found = rows.filter(pk=_number(pk)).first()
    if found is None:
        raise ScimError(404, "there is no such group")
    return found


# --- Discovery (RFC 7644 §4) -----------------------------------------------------------------------------------------


def service_provider(request: HttpRequest, *, by: str) -> dict[str, Any]:
    no = {"supported": False}
    return {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": True},
        "bulk": {**no, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": PAGE_SIZE},
        "changePassword": no,
        "sort": no,
        "etag": no,
        "authenticationSchemes": [
            {"type": "oauthbearertoken", "name": "Bearer token", "description": "made in the console", "primary": True}
        ],
    }


def resource_types(request: HttpRequest, *, by: str) -> dict[str, Any]:
    kinds = (("User", "/Users", scim.USER), ("Group", "/Groups", scim.GROUP))
    schema = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
    return _list_of(
        [
            {"schemas": [schema], "id": name, "name": name, "endpoint": place, "schema": kind}
            for name, place, kind in kinds
        ]
    )


def schemas(request: HttpRequest, *, by: str) -> dict[str, Any]:
    schema = "urn:ietf:params:scim:schemas:core:2.0:Schema"
    return _list_of(
        [
            {"schemas": [schema], "id": kind, "name": name, "attributes": [_attribute(*known) for known in attributes]}
            for kind, name, attributes in (
                (scim.USER, "User", _USER_ATTRIBUTES),
                (scim.GROUP, "Group", _GROUP_ATTRIBUTES),
            )
        ]
    )


_USER_ATTRIBUTES = (
    ("userName", "string", "readWrite", "server"),
    ("externalId", "string", "readWrite", "server"),
    ("name", "complex", "readWrite", "none"),
    ("displayName", "string", "readOnly", "none"),
    ("emails", "complex", "readWrite", "none"),
    ("active", "boolean", "readWrite", "none"),
    ("groups", "complex", "readOnly", "none"),
)
_GROUP_ATTRIBUTES = (("displayName", "string", "readWrite", "server"), ("members", "complex", "readWrite", "none"))


def _attribute(name: str, kind: str, mutability: str, uniqueness: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "multiValued": name in {"emails", "groups", "members"},
        "required": uniqueness == "server" and name != "externalId",
        "caseExact": False,
        "mutability": mutability,
        "returned": "default",
        "uniqueness": uniqueness,
    }


# --- HTTP ------------------------------------------------------------------------------------------------------------


def _authenticated(request: HttpRequest) -> str:
    """The token's name, as changes are recorded under it. Raises ScimError."""
    address = str(request.META.get("REMOTE_ADDR", ""))
    left = wait_s(door=DOOR, name="", address=address)
    if left:
        raise ScimError(429, f"too many failures; try again in {left} seconds")
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    token = live_scim_token(text.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        if text:
            count_failure(door=DOOR, name="", address=address)
        raise ScimError(401, "expected a provisioning token")
    return f"scim:{token.name}"


def _document(request: HttpRequest) -> Any:
    try:
        body = request.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise ScimError(413, "the document is too large")
        return json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ScimError(400, "expected JSON in which no name is given twice", "invalidSyntax") from None


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """SCIM's names know no case (RFC 7643 §2.1), so `active` beside `Active` is given twice."""
    if len({name.lower() for name, _ in members}) != len(members):
        raise ValueError("a name is given twice")
    return dict(members)


def _listed(request: HttpRequest, rows: QuerySet[Any], shown: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    start = max(1, _number(request.GET.get("startIndex", "1")))
    count = min(PAGE_SIZE, _number(request.GET.get("count", str(PAGE_SIZE))))
    page = [shown(row) for row in rows[start - 1 : start - 1 + count]]
    return _list_of(page, total=rows.count(), start=start)


def _list_of(resources: list[dict[str, Any]], *, total: int | None = None, start: int = 1) -> dict[str, Any]:
    return {
        "schemas": [scim.LIST],
        "totalResults": len(resources) if total is None else total,
        "startIndex": start,
        "itemsPerPage": len(resources),
        "Resources": resources,
    }


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _base() -> str:
    return f"{settings.HOOPWEB_WEB_URL}/scim/v2"


def _json(document: dict[str, Any], status: int = 200) -> HttpResponse:
    response = HttpResponse(json.dumps(document), status=status, content_type="application/scim+json")
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="scim"'
    if status == 429:
        response["Retry-After"] = "60"
    return response


def nowhere(request: HttpRequest, *, by: str, rest: str) -> HttpResponse:
    raise ScimError(404, "nothing is served at this address")


users = scim_view(get=list_users, post=create_user)
user = scim_view(get=get_user, put=replace_user, patch=patch_user, delete=delete_user)
groups = scim_view(get=list_groups, post=create_group)
group = scim_view(get=get_group, put=replace_group, patch=patch_group, delete=delete_group)
configuration = scim_view(get=service_provider)
types = scim_view(get=resource_types)
schema_list = scim_view(get=schemas)
elsewhere = scim_view(get=nowhere, post=nowhere, put=nowhere, patch=nowhere, delete=nowhere)
