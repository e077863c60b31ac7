"""Why a review was not opened or a decision not taken: a stable code and a sentence for whoever tried."""

from __future__ import annotations

SELF_APPROVAL = "self-approval"
NOT_REVIEWER = "not-reviewer"
REVIEWER_DISABLED = "reviewer-disabled"
AGENT_REVIEWER = "agents-never-approve"
ALREADY_DECIDED = "already-decided"
ALREADY_VOTED = "already-voted"
EXPIRED = "review-expired"
TEXT_CHANGED = "text-changed"
REASON_MISSING = "reason-missing"
UNKNOWN_DECISION = "unknown-decision"
NOT_MODIFIED = "not-modified"
MODIFIED_DENIED = "modified-denied"
MODIFIED_UNREADABLE = "modified-not-analysed"
REACH_TOO_WIDE = "reach-too-wide"
LINK_SPENT = "link-spent"
TOO_MANY_PENDING = "too-many-pending"
HIDDEN_CHARACTERS = "hidden-characters"
NOT_ON_ROSTER = "not-on-roster"
ROLE_CONFLICT = "role-conflict"
STEP_UP = "step-up-required"
EMERGENCY_OPEN = "emergency-in-force"


class Refusal(Exception):
    """`code` is one of this module's constants; `reason` quotes no statement."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
