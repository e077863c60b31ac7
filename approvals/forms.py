"""What a reviewer may send from the page."""

from __future__ import annotations

from django import forms

from approvals.domain.review import MAX_REASON_CHARS, MAX_STATEMENT_CHARS
from approvals.models import Review

PREVIEW = "preview"
DECISIONS = ("approve", "deny", "modify", PREVIEW)


class DecisionForm(forms.Form):
    """`decision` is the pressed button; `round` says which text the page showed."""

    decision = forms.ChoiceField(choices=[(name, name) for name in DECISIONS])
    reason = forms.CharField(required=False, max_length=MAX_REASON_CHARS)
    round = forms.IntegerField(min_value=1)
    statement = forms.CharField(required=False, max_length=MAX_STATEMENT_CHARS, strip=False)

    def clean_statement(self) -> str:
        return line_feeds(self.cleaned_data["statement"])


def line_feeds(text: str) -> str:
    """HTML forms turn every kind of line break into CR LF (HTML Living Standard, "constructing the entry list")."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class InboxForm(forms.Form):
    """Filters of the inbox; anything else than these is ignored."""

    STATUSES = [("open", "Waiting"), ("closed", "Decided"), ("all", "All")]

    status = forms.ChoiceField(choices=STATUSES, required=False, initial="open")
    connection = forms.CharField(required=False, max_length=120)
    requester = forms.CharField(required=False, max_length=255)

    @property
    def statuses(self) -> list[str]:
        chosen = self.cleaned_data.get("status") or "open"
        waiting = [Review.Status.PENDING.value]
        return {
            "open": waiting,
            "closed": [value for value in Review.Status.values if value not in waiting],
            "all": list(Review.Status.values),
        }[chosen]
