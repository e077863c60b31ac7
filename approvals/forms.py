"""What a reviewer may send from the page."""

from __future__ import annotations

from typing import Any

from django import forms

from approvals.domain.reach import Reach
from approvals.domain.review import MAX_REASON_CHARS, MAX_STATEMENT_CHARS
from approvals.domain.scope import Scope
from approvals.models import MAX_WAIT_S, EmergencyAccess, EmergencyRoster, Review

PREVIEW = "preview"
USUAL_EMERGENCY_MIN = 15
DECISIONS = ("approve", "deny", "modify", PREVIEW)


class DecisionForm(forms.Form):
    """`decision` is the pressed button; `round` says which text the page showed."""

    decision = forms.ChoiceField(choices=[(name, name) for name in DECISIONS])
    reason = forms.CharField(required=False, max_length=MAX_REASON_CHARS)
    round = forms.IntegerField(min_value=1)
    statement = forms.CharField(required=False, max_length=MAX_STATEMENT_CHARS, strip=False)
    scope = forms.ChoiceField(choices=[(scope.value, scope.value) for scope in Scope], required=False)
    minutes = forms.IntegerField(required=False, min_value=1, max_value=MAX_WAIT_S // 60)

    def clean_statement(self) -> str:
        return line_feeds(self.cleaned_data["statement"])

    def reach(self) -> Reach:
        """How far the approval may go; anything not chosen is the narrowest."""
        scope = Scope(self.cleaned_data["scope"] or Scope.ONCE)
        return Reach(scope=scope, for_s=60 * (self.cleaned_data["minutes"] or 0) if scope is not Scope.ONCE else 0)


class EmergencyForm(forms.Form):
    """Breaking the glass: which roster and connection, how long, why. `choice` is what the domain takes."""

    place = forms.ChoiceField()
    agent = forms.ChoiceField(required=False)
    minutes = forms.IntegerField(min_value=1, max_value=MAX_WAIT_S // 60)
    reason = forms.CharField(max_length=4_000)

    def __init__(self, *args: Any, rosters: list[EmergencyRoster], agents: frozenset[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rosters = {str(roster.pk): roster for roster in rosters}
        self.fields["place"].choices = [  # type: ignore[attr-defined]
            (f"{roster.pk}:{name}", f"{name} ({roster.name}, at most {roster.lasts_s // 60} min)")
            for roster in rosters
            for name in roster.connections
        ]
        # Never more than what one of them lasts: what the form offers by itself must not be refused.
        self.longest_min = max((roster.lasts_s // 60 for roster in rosters), default=USUAL_EMERGENCY_MIN)
        self.fields["minutes"].initial = max(1, min(USUAL_EMERGENCY_MIN, self.longest_min))
        mine = sorted({name for roster in rosters for name in roster.agents} & agents)
        self.fields["agent"].choices = [("", "myself"), *((name, name) for name in mine)]  # type: ignore[attr-defined]

    def choice(self) -> dict[str, Any]:
        roster, _, connection = self.cleaned_data["place"].partition(":")
        return {
            "roster": self.rosters[roster],
            "connection": connection,
            "agent": self.cleaned_data["agent"],
            "lasts_s": self.cleaned_data["minutes"] * 60,
            "reason": self.cleaned_data["reason"],
        }


class FindingForm(forms.Form):
    """What a reviewer found an emergency access to be."""

    finding = forms.ChoiceField(choices=EmergencyAccess.Finding.choices)
    notes = forms.CharField(max_length=4_000)


class SimulatorForm(forms.Form):
    """A draft in YAML, or nothing but a policy to leave out, over a period."""

    draft = forms.CharField(required=False, max_length=100_000, strip=False)
    days = forms.IntegerField(min_value=1, max_value=366)
    connection = forms.CharField(required=False, max_length=120)
    without = forms.MultipleChoiceField(required=False)

    def __init__(self, *args: Any, policies: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["without"].choices = [(name, name) for name in ["", *policies]]  # type: ignore[attr-defined]

    def clean_without(self) -> list[str]:
        return [name for name in self.cleaned_data["without"] if name]


def line_feeds(text: str) -> str:
    """HTML forms turn every kind of line break into CR LF (HTML Living Standard, "constructing the entry list")."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class InboxForm(forms.Form):
    """Filters of the inbox; anything else than these is ignored."""

    STATUSES = [("open", "Waiting"), ("closed", "Decided"), ("all", "All")]

    RISKS = [("", "Any risk"), ("30", "Risk 30 and more"), ("60", "Risk 60 and more")]
    AGES = [("", "Any age"), ("5", "Waiting over 5 min"), ("30", "Over 30 min"), ("240", "Over 4 hours")]

    status = forms.ChoiceField(choices=STATUSES, required=False, initial="open")
    connection = forms.CharField(required=False, max_length=120)
    requester = forms.CharField(required=False, max_length=255)
    risk = forms.IntegerField(required=False, min_value=0)
    older_min = forms.IntegerField(required=False, min_value=0, max_value=MAX_WAIT_S // 60)

    @property
    def statuses(self) -> list[str]:
        chosen = self.cleaned_data.get("status") or "open"
        waiting = [Review.Status.PENDING.value]
        return {
            "open": waiting,
            "closed": [value for value in Review.Status.values if value not in waiting],
            "all": list(Review.Status.values),
        }[chosen]
