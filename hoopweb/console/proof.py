"""How an agent proves itself, on one page: its platform's tokens, keys of its own, and secrets as the fallback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from gateway.domain.agents import may_renew
from gateway.domain.clients import end_older_secrets, live_secrets, set_client_secret
from gateway.domain.federation import PRESETS, Preset
from gateway.domain.recorded import record_change, state_of
from gateway.models import Agent, Issuer
from hoopweb.console.pages import context_of, readable_agent

OVERLAPS = ((0, "at once"), (3600, "in an hour"), (86_400, "in a day"), (7 * 86_400, "in a week"))
LIVES = (("", "never"), ("2592000", "in 30 days"), ("7776000", "in 90 days"), ("31536000", "in a year"))


class SecretForm(forms.Form):
    overlap_s = forms.TypedChoiceField(label="The present one ends", coerce=int, choices=OVERLAPS)
    lasts_s = forms.TypedChoiceField(
        label="The new one ends", coerce=int, choices=LIVES, required=False, empty_value=None
    )


class BlankJSONField(forms.JSONField):
    """Nothing is shown as nothing; Django's own field shows `null`."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class KeysForm(forms.Form):
    """Registered keys, or where they are published."""

    jwks = BlankJSONField(
        label="Public keys",
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
        help_text='a JWK set, {"keys": [...]}, public halves alone; two while one replaces the other',
    )
    jwks_uri = forms.URLField(
        label="or their address",
        required=False,
        assume_scheme="https",
        help_text="asked every five minutes; redirects are not followed",
    )


class PlatformForm(forms.Form):
    """What one platform's tokens must say, field by field."""

    def __init__(self, *args: Any, preset: Preset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._preset = preset
        if preset.place:
            self.fields["place"] = forms.CharField(max_length=400, label=preset.place)
        for index, (claim, example) in enumerate(preset.claims):
            help_text = f"such as {example}" if example else "left empty, it is not asked"
            self.fields[f"claim_{index}"] = forms.CharField(
                max_length=500, label=claim, required=index == 0, help_text=help_text
            )

    @property
    def issuer(self) -> dict[str, Any]:
        return self._preset.at(self.cleaned_data.get("place", ""))

    @property
    def claims(self) -> dict[str, str]:
        given = {claim: self.cleaned_data[f"claim_{index}"] for index, (claim, _) in enumerate(self._preset.claims)}
        return {claim: pattern for claim, pattern in given.items() if pattern}


def agent_proof(request: HttpRequest, name: str) -> HttpResponse:
    agent = readable_agent(request, name)
    if request.method == "POST":
        asked = request.POST.get("do", "")
        action = ACTIONS.get(asked)
        if action is None or not _may(request, agent, asked):
            raise PermissionDenied
        return action(request, agent)
    return _page(request, agent, {})


def _may(request: HttpRequest, agent: Agent, asked: str) -> bool:
    """An owner renews; another platform that may pass for the agent is an administrator's to allow."""
    return may_renew(request.user, agent) if asked in RENEWALS else request.user.has_perm("gateway.change_agent")


def _page(request: HttpRequest, agent: Agent, more: dict[str, Any]) -> HttpResponse:
    platform = request.GET.get("platform", "")
    context = context_of(request, title=f"How {agent.name} proves itself") | {
        "agent": agent,
        "secrets": list(live_secrets(agent)),
        "keys": [key.get("kid", "") for key in agent.jwks.get("keys", [])],
        "rules": [(rule, _key(rule)) for rule in agent.federation],
        "platforms": [(key, preset.title) for key, preset in PRESETS.items()],
        "platform": platform,
        "may_change": request.user.has_perm("gateway.change_agent"),
        "may_renew": may_renew(request.user, agent),
        "secret_form": SecretForm(),
        "keys_form": KeysForm(initial={"jwks_uri": agent.jwks_uri} | ({"jwks": agent.jwks} if agent.jwks else {})),
        "platform_form": PlatformForm(preset=PRESETS[platform]) if platform in PRESETS else None,
    }
    response = TemplateResponse(request, "console/proof.html", context | more)
    response["Cache-Control"] = "no-store"
    return response


def _new_secret(request: HttpRequest, agent: Agent) -> HttpResponse:
    form = SecretForm(request.POST)
    if not form.is_valid():
        return _page(request, agent, {"secret_form": form})
    # Shown on this answer alone: a message would travel in a cookie.
    secret = set_client_secret(agent=agent, **form.cleaned_data)
    return _page(request, agent, {"secret": secret})


def _end_secrets(request: HttpRequest, agent: Agent) -> HttpResponse:
    end_older_secrets(agent=agent)
    return redirect("console:proof", name=agent.name)


def _keys(request: HttpRequest, agent: Agent) -> HttpResponse:
    form = KeysForm(request.POST)
    if form.is_valid():
        changes = {"jwks": form.cleaned_data["jwks"] or {}, "jwks_uri": form.cleaned_data["jwks_uri"]}
        problem = _saved(request, agent, changes)
        if not problem:
            return redirect("console:proof", name=agent.name)
        form.add_error(None, problem)
    return _page(request, agent, {"keys_form": form})


def _federate(request: HttpRequest, agent: Agent) -> HttpResponse:
    preset = PRESETS.get(request.GET.get("platform", ""))
    if preset is None:
        raise Http404("no such platform")
    form = PlatformForm(request.POST, preset=preset)
    if form.is_valid():
        rule = {"issuer": form.issuer["issuer"], "claims": form.claims}
        rules = [*(known for known in agent.federation if known != rule), rule]
        with transaction.atomic():
            problem = _trusted(request, form.issuer) or _saved(request, agent, {"federation": rules})
            transaction.set_rollback(bool(problem))
        if not problem:
            return redirect("console:proof", name=agent.name)
        form.add_error(None, problem)
    return _page(request, agent, {"platform_form": form})


def _unfederate(request: HttpRequest, agent: Agent) -> HttpResponse:
    kept = [rule for rule in agent.federation if _key(rule) != request.POST.get("rule")]
    _saved(request, agent, {"federation": kept})
    return redirect("console:proof", name=agent.name)


def _key(rule: dict[str, Any]) -> str:
    """A rule as a form names it."""
    return json.dumps(rule, sort_keys=True)


def _trusted(request: HttpRequest, fields: dict[str, Any]) -> list[str]:
    """Trust the platform's issuer unless it is trusted already; what is wrong with it, in words."""
    known = Issuer.objects.filter(issuer=fields["issuer"]).first()
    if known is not None:
        return [] if known.enabled else ["this issuer is switched off; switch it on first"]
    if not request.user.has_perm("gateway.add_issuer"):
        return ["this issuer is not trusted yet, and you may not add issuers"]
    name = next(name for name in _names(request.GET["platform"]) if not Issuer.objects.filter(name=name).exists())
    return _checked_and_saved(request, Issuer(name=name, **fields), None)


def _names(platform: str) -> Iterator[str]:
    yield platform
    yield from (f"{platform}-{number}" for number in range(2, 1000))


def _saved(request: HttpRequest, agent: Agent, changes: dict[str, Any]) -> list[str]:
    before = state_of(agent)
    for name, value in changes.items():
        setattr(agent, name, value)
    return _checked_and_saved(request, agent, before)


def _checked_and_saved(request: HttpRequest, row: Agent | Issuer, before: Any) -> list[str]:
    try:
        row.full_clean()
    except ValidationError as error:
        return list(error.messages)
    with transaction.atomic():
        row.save()
        record_change(row=row, before=before, after=state_of(row), subject=request.user.get_username())
    return []


ACTIONS: dict[str, Callable[[HttpRequest, Agent], HttpResponse]] = {
    "secret": _new_secret,
    "end-secrets": _end_secrets,
    "keys": _keys,
    "federate": _federate,
    "unfederate": _unfederate,
}
RENEWALS = frozenset({"secret", "end-secrets", "keys", "unfederate"})
