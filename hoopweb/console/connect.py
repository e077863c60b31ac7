"""The guided set-up: from a database nobody knows to an agent that queries it, one page a step.

Every step writes through the same documents `manage.py apply` takes, so what is made here is validated, recorded and
exported like any other configuration; leaving in the middle loses nothing, and doing a step again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from django.core.exceptions import PermissionDenied
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse

from gateway.api import dataplane
from gateway.domain.configuration.change import apply_document
from gateway.domain.configuration.reading import DocumentProblem, parse_document
from gateway.domain.configuration.schema import API_VERSION
from gateway.domain.connections import usable_connections
from gateway.models import Agent, Connection
from hoopweb.console import classification, snippets
from hoopweb.console.catalogue import tables_of
from hoopweb.console.forms import FORMS, AgentForm, ConnectionForm, RulesForm
from hoopweb.console.pages import context_of
from hoopweb.console.sight import NO_GATEWAY

# A step's path, once there is a connection.
STEPS = (
    ("connect-change", "Database"),
    ("connect-test", "Test"),
    ("connect-classify", "Classify"),
    ("connect-rules", "Rules"),
    ("connect-agent", "Agent"),
    ("connect-use", "Use"),
)
NEEDED = (
    "gateway.add_connection", "gateway.change_connection", "gateway.add_accessrule", "gateway.add_agent",
    "masking.add_maskingrule", "approvals.add_policy", "auth.add_group",
)  # fmt: skip
# PostgreSQL, appendix A: what a new connection usually fails with.
MEANINGS = {
    "28P01": "the user name or the password is wrong",
    "28000": "this user may not sign in from here; look at pg_hba.conf",
    "no access token": "Google did not take the service-account key, or this machine has no identity",
    "3D000": "there is no database of this name",
    "42501": "this user has no right to connect to the database",
    "53300": "the database has no connection left",
}

Step = Callable[..., HttpResponse]


def for_configurers(view: Step) -> Step:
    """The set-up writes connections, rules, groups and agents: for who may write all of them."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.has_perms(NEEDED):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


@for_configurers
def start(request: HttpRequest) -> HttpResponse:
    kind = request.GET.get("kind", "postgres")
    if kind not in FORMS:
        raise Http404("no such kind of connection")
    form = FORMS[kind][1](request.POST or None)
    if request.method == "POST" and _saved(request, form):
        return redirect("console:connect-test", name=form.cleaned_data["name"])
    existing = Connection.objects.order_by("name")
    return _page(
        request, "connect", "Connect a database", {"form": form, "existing": existing, "kind": kind, "kinds": FORMS}
    )


@for_configurers
def change(request: HttpRequest, name: str) -> HttpResponse:
    """The first step once more, with what was given: to mend it, without the secret."""
    connection = _connection(name)
    if connection.kind not in FORMS:
        raise Http404("no such kind of connection")
    form = FORMS[connection.kind][1](request.POST or None, existing=connection)
    if request.method == "POST" and _saved(request, form):
        return redirect("console:connect-test", name=name)
    return _page(request, "connect", f"Change {name}", {"form": form, "connection": connection})


@for_configurers
def test(request: HttpRequest, name: str) -> HttpResponse:
    connection = _connection(name)
    try:
        tables = tables_of(request, name, test=True)
    except dataplane.DataPlaneRefused as refused:
        problem = in_words(refused.reason)
        return _page(request, "connect-test", f"Test {name}", {"connection": connection, "problem": problem})
    except dataplane.DataPlaneUnavailable:
        return _page(request, "connect-test", f"Test {name}", {"connection": connection, "problem": NO_GATEWAY})
    return _page(request, "connect-test", f"Test {name}", {"connection": connection, "tables": tables})


@for_configurers
def classify(request: HttpRequest, name: str) -> HttpResponse:
    connection = _connection(name)
    try:
        tables = tables_of(request, name)
    except (dataplane.DataPlaneRefused, dataplane.DataPlaneUnavailable):
        return redirect("console:connect-test", name=name)
    profile = request.GET.get("profile", "")
    found = classification.proposals(connection=name, tables=tables, profile=profile)
    others = classification.others(connection=name, tables=tables, proposed=found)
    context: dict[str, Any] = {
        "connection": connection,
        "proposals": found,
        "others": others,
        "techniques": classification.TECHNIQUES,
        "profile": profile,
    }
    if request.method == "POST":
        chosen = classification.chosen([*found, *others], request.POST)
        if not chosen or _write(request, context, {"masking": classification.masking_rules(name, chosen)}):
            return redirect("console:connect-rules", name=name)
    return _page(request, "connect-classify", f"Classify {name}", context)


@for_configurers
def rules(request: HttpRequest, name: str) -> HttpResponse:
    connection = _connection(name)
    form = RulesForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and _written(request, form, form.document(name)):
        return _to_agent(name, form.cleaned_data["agents"])
    return _page(request, "connect-rules", f"Rules for {name}", {"connection": connection, "form": form})


@for_configurers
def agent(request: HttpRequest, name: str) -> HttpResponse:
    connection = _connection(name)
    group = request.GET.get("group", "")
    form = AgentForm(request.POST or None, initial={"groups": group, "owner": request.user.get_username()})
    if request.method == "POST" and form.is_valid() and _written(request, form, {"agents": [form.document()]}):
        return redirect("console:connect-use", name=name, agent_name=form.cleaned_data["name"])
    able = [known for known in Agent.objects.order_by("name") if name in usable_connections(frozenset(known.groups))]
    return _page(
        request, "connect-agent", f"An agent for {name}", {"connection": connection, "form": form, "able": able}
    )


@for_configurers
def use(request: HttpRequest, name: str, agent_name: str) -> HttpResponse:
    connection = _connection(name)
    chosen = Agent.objects.filter(name=agent_name).first()
    if chosen is None:
        raise Http404("no such agent")
    context = {
        "connection": connection,
        "agent": chosen,
        "snippets": snippets.for_agent(connection=connection, agent=chosen.name),
        "usable": name in usable_connections(frozenset(chosen.groups)),
    }
    return _page(request, "connect-use", f"Use {name}", context)


def in_words(reason: str) -> str:
    """The upstream's refusal with what it usually means; PostgreSQL's own message may name what nobody should learn."""
    meaning = next((words for sqlstate, words in MEANINGS.items() if sqlstate in reason), "")
    return f"{reason}: {meaning}" if meaning else reason


def _page(request: HttpRequest, step: str, title: str, more: dict[str, Any]) -> HttpResponse:
    steps = [(label, step in (key, key.removesuffix("-change")), _place(key, more)) for key, label in STEPS]
    context = context_of(request, title=title) | {"steps": steps, "step": step} | more
    return TemplateResponse(request, f"console/{step.replace('-', '_')}.html", context)


def _place(step: str, context: dict[str, Any]) -> str:
    """Where a step is; the last one needs an agent, and none has a place before there is a connection."""
    if "connection" not in context or step == "connect-use":
        return ""
    return reverse(f"console:{step}", args=[context["connection"].name])


def _to_agent(name: str, group: str) -> HttpResponseRedirect:
    answer: HttpResponseRedirect = redirect("console:connect-agent", name=name)
    answer["Location"] += f"?group={group}"
    return answer


def _connection(name: str) -> Connection:
    found = Connection.objects.filter(name=name).first()
    if found is None:
        raise Http404("no such connection")
    return found


def _saved(request: HttpRequest, form: ConnectionForm) -> bool:
    """Save what the form says of the connection; what goes back for a mistake says that its secret does not."""
    saved = form.is_valid() and _written(request, form, {"connections": [form.document()]})
    if not saved:
        form.ask_secret_again()
    return saved


def _written(request: HttpRequest, form: Form, sections: dict[str, Any]) -> bool:
    """Apply the sections; what is wrong with them becomes an error of the field it is about, or of the form."""
    problems = _problems_of(request, sections)
    for path, message in problems:
        field = path.rpartition(".")[2]
        if field in form.fields:
            form.add_error(field, message)
        else:
            form.add_error(None, f"{path}: {message}" if path else message)
    return not problems


def _write(request: HttpRequest, context: dict[str, Any], sections: dict[str, Any]) -> bool:
    problems = _problems_of(request, sections)
    context["problem"] = str(DocumentProblem(problems)) if problems else ""
    return not problems


def _problems_of(request: HttpRequest, sections: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        document = parse_document({"apiVersion": API_VERSION, **sections})
        apply_document(document, base=Path("/nonexistent"), actor=request.user.get_username())
    except DocumentProblem as problem:
        return problem.problems
    return []
