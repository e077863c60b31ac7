"""How people sign in: local accounts, and OpenID Connect through mozilla-django-oidc, with the checks it leaves out."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import SuspiciousOperation
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.signals import m2m_changed, post_save
from django.dispatch import receiver
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from approvals.domain.role_conflicts import RoleConflict, watch_memberships
from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.marks import is_hidden
from gateway.domain.identity import groups_left_out
from gateway.domain.recorded import record_change, state_of
from gateway.domain.roles import ADMINISTRATORS, AGENT_OWNERS, AUDITORS, POLICY_AUTHORS
from gateway.domain.throttle import count_failure
from gateway.domain.version import bump_version
from gateway.models import PersonStatus
from hoopweb.signing_in import DOOR, SignInRefused

logger = logging.getLogger(__name__)

LEEWAY_S = 10
# What a policy author may change; administrators may change all of it, auditors nothing.
POLICY_MODELS = (
    ("approvals", "policy"),
    ("masking", "maskingrule"),
    ("masking", "columntag"),
    ("masking", "dataclass"),
)
CONSOLE_APPS = ("gateway", "approvals", "masking", "audit")


class PeopleBackend(OIDCAuthenticationBackend):  # type: ignore[misc]
    """Finds people by issuer and subject, never by e-mail: an address can be reassigned, and claimed elsewhere."""

    def verify_token(self, token: str, **kwargs: Any) -> dict[str, Any]:
        """The package checks signature, algorithm and nonce; OpenID Connect Core §3.1.3.7 asks for more."""
        payload: dict[str, Any] = super().verify_token(token, **kwargs)
        audience = payload.get("aud")
        listed = audience if isinstance(audience, list) else [audience]
        _must_list_groups(payload)
        if payload.get("iss") != settings.OIDC_OP_ISSUER or settings.OIDC_RP_CLIENT_ID not in listed:
            raise SuspiciousOperation("the ID token is of another issuer or for another client")
        if len(listed) > 1 and payload.get("azp") != settings.OIDC_RP_CLIENT_ID:
            raise SuspiciousOperation("the ID token was given to another client")
        if not isinstance(payload.get("exp"), int | float) or payload["exp"] + LEEWAY_S < time.time():
            raise SuspiciousOperation("the ID token has expired")
        return payload

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The verified ID token is enough; the user-info endpoint would add an unsigned second opinion."""
        return payload

    def verify_claims(self, claims: dict[str, Any]) -> bool:
        return isinstance(claims.get("sub"), str) and 0 < len(claims["sub"]) <= 255

    def filter_users_by_claims(self, claims: dict[str, Any]) -> QuerySet[User] | list[User]:
        if settings.HOOPWEB_OIDC_EMBEDDED:
            return User.objects.filter(username=claims["sub"], is_active=True)
        _link_provisioned(claims)
        return User.objects.filter(hoopweb_status__oidc_subject=oidc_subject(claims), is_active=True)

    def get_user(self, user_id: int) -> User | None:
        """The package's own would keep somebody signed in who was switched off meanwhile."""
        user: User | None = User.objects.filter(pk=user_id, is_active=True).first()
        return user

    def create_user(self, claims: dict[str, Any]) -> User | None:
        """A first sign-in. Never takes an existing account over, whatever name the provider claims."""
        username = str(claims.get("preferred_username") or claims["sub"])[:150]
        if any(is_hidden(letter) for letter in username):
            raise SignInRefused("Your name at your provider has letters that cannot be seen. Have it changed there.")
        if PersonStatus.objects.filter(oidc_subject=oidc_subject(claims)).exists():
            raise SignInRefused("Your account here is switched off. Ask an administrator.")
        if settings.HOOPWEB_OIDC_EMBEDDED or User.objects.filter(username__iexact=username).exists():
            raise SignInRefused(
                "There is an account of your name that is not linked to this sign-in. An administrator can link it: "
                "with provisioning (SCIM) by sending the id of the sign-in as externalId."
            )
        with transaction.atomic():
            user = User.objects.create_user(username, email=str(claims.get("email", ""))[:254])
            PersonStatus.objects.create(user=user, oidc_subject=oidc_subject(claims), managed=True)
            self._take_groups(user, claims)
            bump_version()
        return user

    def get_or_create_user(self, access_token: str, id_token: str, payload: dict[str, Any]) -> User | None:
        try:
            user: User | None = super().get_or_create_user(access_token, id_token, payload)
        except RoleConflict as conflict:
            # Which of the two to give would be a guess: the provider's groups have to say.
            raise SignInRefused(f"{conflict.messages[0]}. Ask whoever keeps the groups at your provider.") from None
        if user is not None:
            user.hoopweb_auth_time = payload.get("auth_time")  # type: ignore[attr-defined]  # hoopweb.step_up reads it
        return user

    def update_user(self, user: User, claims: dict[str, Any]) -> User:
        if not settings.HOOPWEB_OIDC_EMBEDDED:
            self._take_groups(user, claims)
        return user

    def _take_groups(self, user: User, claims: dict[str, Any]) -> None:
        """Membership follows the provider's claim, among the groups that exist here; without a claim, it is kept.

        Whoever is in a group, or answers for agents, finds something in the console and may enter it.
        """
        claim = settings.HOOPWEB_OIDC_GROUPS_CLAIM
        named = claims.get(claim, []) if claim else list(user.groups.values_list("name", flat=True))
        listed = [named] if isinstance(named, str) else named if isinstance(named, list) else []
        groups = set(Group.objects.filter(name__in=[name for name in listed if isinstance(name, str)]))
        enters = user.is_superuser or bool(groups) or user.agents.exists()
        if groups == set(user.groups.all()) and enters == user.is_staff:
            return
        with transaction.atomic():
            before = state_of(user)
            user.groups.set(groups)
            user.is_staff = enters
            user.save(update_fields=["is_staff"])
            record_change(row=user, before=before, after=state_of(user), subject=user.get_username())


def _must_list_groups(payload: dict[str, Any]) -> None:
    """Entra ID leaves groups out of a token when they are too many, and names an address instead."""
    claim = settings.HOOPWEB_OIDC_GROUPS_CLAIM
    if claim and groups_left_out(payload, claim):
        raise SignInRefused(
            "Your provider left your groups out of the sign-in because they are too many, so nobody here knows what "
            "you may do. Ask an administrator to have it send only the groups assigned to this application."
        )


def _link_provisioned(claims: dict[str, Any]) -> None:
    """The first sign-in of somebody whom provisioning made: found by the id both ends of the provider know them by."""
    external = claims.get(settings.HOOPWEB_OIDC_EXTERNAL_ID_CLAIM)
    if not isinstance(external, str) or not external:
        return
    unlinked = PersonStatus.objects.filter(managed=True, oidc_subject=None, user__is_active=True)
    if unlinked.filter(external_id=external).update(oidc_subject=oidc_subject(claims)):
        bump_version()


def sign_in_context(request: Any) -> dict[str, bool]:
    """Context processor: whether the login page leads to another provider; the embedded one would lead back to it."""
    return {"external_sign_in": not settings.HOOPWEB_OIDC_EMBEDDED}


def oidc_subject(claims: dict[str, Any]) -> str:
    return f"{settings.OIDC_OP_ISSUER}|{claims['sub']}"


def sync_role_permissions(**_: Any) -> None:
    """Give the role groups their permissions; runs after every migration, because those create permissions."""
    everything = Permission.objects.filter(content_type__app_label__in=CONSOLE_APPS)
    readable = everything.filter(codename__startswith="view_") | everything.filter(codename__startswith="read_")
    authored = Permission.objects.none()
    for app, model in POLICY_MODELS:
        authored |= Permission.objects.filter(content_type__app_label=app, content_type__model=model)
    accounts = Permission.objects.filter(content_type__app_label="auth", content_type__model__in=["user", "group"])
    for name, permissions in (
        (AUDITORS, readable | accounts.filter(codename__startswith="view_")),
        (POLICY_AUTHORS, readable | authored),
        (ADMINISTRATORS, everything | accounts),
        # What one's own agents are is no permission over a model (gateway.domain.agents).
        (AGENT_OWNERS, Permission.objects.none()),
    ):
        group = Group.objects.get_or_create(name=name)[0]
        group.permissions.set(permissions)


m2m_changed.connect(watch_memberships, sender=User.groups.through, dispatch_uid="hoopweb.role_conflicts")


@receiver(post_save, sender=User)
def end_what_is_live(instance: User, update_fields: Any = None, *, created: bool = False, **_: Any) -> None:
    """Whoever switches an account off, with whatever code, ends its live sessions: data planes hear of the version.

    QuerySet.update and plain SQL send no signal; they take effect with the next change of any rule.
    """
    if not instance.is_active and not created and (update_fields is None or "is_active" in update_fields):
        bump_version()


@receiver(m2m_changed, sender=User.groups.through)
def end_what_a_group_opened(action: str, **_: Any) -> None:
    if action in {"post_remove", "post_clear"}:
        bump_version()


@receiver(user_logged_in)
def record_login(request: Any, user: User, **_: Any) -> None:
    """Log-in monitoring, 45 CFR 164.308(a)(5)(ii)(C). No record, no session: this runs before the answer is sent."""
    body = {
        "subject": user.get_username(),
        "client_address": request.META.get("REMOTE_ADDR", "") if request else "",
        "auth_method": str(getattr(user, "backend", "")).rpartition(".")[2],
    }
    append_entries([Entry(kind="person.signed_in", body=body)])


@receiver(user_logged_out)
def record_logout(request: Any, user: User | None, **_: Any) -> None:
    if user is not None:
        body = {"subject": user.get_username(), "reason": getattr(request, "log_off_reason", "asked")}
        append_entries([Entry(kind="person.signed_out", body=body)])


@receiver(user_login_failed)
def record_failed_login(credentials: dict[str, Any], request: Any = None, **_: Any) -> None:
    address = request.META.get("REMOTE_ADDR", "") if request else ""
    count_failure(door=DOOR, name=str(credentials.get("username", ""))[:150], address=address)
    body = {
        "protocol": "web",
        "claimed_subject": str(credentials.get("username", ""))[:128],
        "client_address": address,
        "reason": "wrong credentials",
    }
    try:
        append_entries([Entry(kind="authentication.failed", body=body)])
    except Exception as error:  # the sign-in fails either way
        logger.error("failed sign-in not recorded: error=%s", type(error).__name__)
