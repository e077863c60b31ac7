"""Who decides: policies, the reviews they cause, the votes cast, and the grants that approvals leave.

Review states: pending → approved | denied | expired | withdrawn, and approved → executed. Every transition is one
conditional UPDATE out of the state it leaves (`approvals.domain.review`), so whatever comes in whatever order, a review
ends once. Other apps are named by value (connection, session), because evidence must outlive configuration. Statement
text, parameters and the words people write are sealed (`audit.domain.sealing`), never plain columns.
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from approvals.domain.decide import Action
from approvals.domain.parse import ConditionProblem, parse_condition, parse_reviewers
from approvals.domain.scope import Scope
from audit.domain.words import kind_words

MAX_WAIT_S = 7 * 24 * 3600
SCOPES = tuple(scope.value for scope in Scope)


def once_only() -> list[str]:
    return [Scope.ONCE.value]


class Policy(models.Model):
    """A rule over statements: what must hold (`when`), what then happens, and who may decide."""

    class Action(models.TextChoices):
        ALLOW = Action.ALLOW.value, "allow"
        REQUIRE_APPROVAL = Action.REQUIRE_APPROVAL.value, "require approval"
        DENY = Action.DENY.value, "deny"

    class Needed(models.TextChoices):
        ALL = "all"
        ANY = "any"

    name = models.CharField(max_length=120, unique=True)
    description = models.CharField(max_length=500, blank=True)
    connections = ArrayField(models.CharField(max_length=120), help_text="globs over connection names")
    when = models.JSONField(default=dict, blank=True, help_text="conditions; all must hold, empty means always")
    action = models.CharField(max_length=20, choices=Action)
    reviewers = models.JSONField(
        default=list, blank=True, help_text='group names, or {"group": …, "quorum": …}; every group must be met'
    )
    reviewers_needed = models.CharField(
        max_length=3, choices=Needed, default=Needed.ALL, help_text="every group, or any one of them"
    )
    quorum = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text="people of each group, where it names no other number"
    )
    separation = models.BooleanField(
        default=True, help_text="separation of duties: who wrote this version cannot approve under it alone"
    )
    step_up_s = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="who decides proved who they are so many seconds ago at most; empty: as the installation asks, and "
        "never longer ago than that",
    )
    skip_groups = ArrayField(
        models.CharField(max_length=150), default=list, blank=True, help_text="requesters this policy does not hold"
    )
    grants = ArrayField(
        models.CharField(max_length=10, choices=[(scope, scope) for scope in SCOPES]),
        default=once_only,
        help_text="how far an approval may reach: once, shape, tables, connection",
    )
    grant_for_s = models.PositiveIntegerField(
        "grants last at most (seconds)",
        default=3600,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_WAIT_S)],
        help_text="longest life of an approval that is wider than once",
    )
    max_uses = models.PositiveIntegerField(
        default=100, validators=[MinValueValidator(1)], help_text="executions under one wider approval"
    )
    max_rows = models.PositiveBigIntegerField(null=True, blank=True, help_text="rows under one approval; empty: any")
    grace_s = models.PositiveIntegerField(
        "grace after it ran (seconds)",
        default=0,
        validators=[MaxValueValidator(MAX_WAIT_S)],
        help_text="after it ran, the same request may run again for so long without asking",
    )
    decide_within_s = models.PositiveIntegerField(
        "decide within (seconds)", default=3600, validators=[MinValueValidator(1), MaxValueValidator(MAX_WAIT_S)]
    )
    execute_within_s = models.PositiveIntegerField(
        "execute within (seconds)", default=600, validators=[MinValueValidator(1), MaxValueValidator(MAX_WAIT_S)]
    )
    escalate_to = ArrayField(
        models.CharField(max_length=150),
        default=list,
        blank=True,
        help_text="groups that are told when nobody decides, and whose members may then stand in for the reviewers",
    )
    escalate_before_s = models.PositiveIntegerField(
        "escalate before the end (seconds)",
        default=0,
        validators=[MaxValueValidator(MAX_WAIT_S)],
        help_text="how long before the time to decide is over; 0: in its last quarter",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "policies"
        constraints = [models.CheckConstraint(name="policy_quorum_at_least_one", condition=Q(quorum__gte=1))]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        problems: dict[str, str] = {}
        try:
            parse_condition(self.when)
        except ConditionProblem as problem:
            problems["when"] = str(problem)
        try:
            groups = parse_reviewers(self.reviewers, quorum=self.quorum or 1)
        except ConditionProblem as problem:
            problems["reviewers"] = str(problem)
        else:
            if self.action == self.Action.REQUIRE_APPROVAL and not groups:
                problems["reviewers"] = "is empty, expected a group: without reviewers every such statement is denied"
        if Scope.ONCE.value not in (self.grants or ()):
            problems["grants"] = "expected once among them: it is what every approval is at least"
        if not self.connections:
            problems["connections"] = "is empty, expected at least one glob"
        if problems:
            raise ValidationError(problems)


class PolicyVersion(models.Model):
    """A policy as it stood from `at` on; `document` is None where it was removed. Never changed, never deleted.

    45 CFR 164.316(b)(2)(i): kept six years from when it last was in effect.
    """

    policy = models.CharField(max_length=120, help_text="by name: versions outlive the policy")
    number = models.PositiveIntegerField()
    document = models.JSONField(null=True)
    author = models.CharField(max_length=255, blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["policy", "-number"]
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(name="policy_version_once", fields=["policy", "number"])]

    def __str__(self) -> str:
        return f"{self.policy}@{self.number}"


class Review(models.Model):
    """One held statement and what became of it. `facts` holds names and counts only, never a literal."""

    class Status(models.TextChoices):
        PENDING = "pending"
        APPROVED = "approved"
        DENIED = "denied"
        EXPIRED = "expired"
        WITHDRAWN = "withdrawn"
        EXECUTED = "executed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    binding_digest = models.CharField(max_length=64, db_index=True, help_text="keyed digest of what was asked")
    sealed_binding = models.BinaryField(help_text="everything the approval is good for, the asked text included")
    sealed_modified = models.BinaryField(null=True, help_text="the reviewer's text, when one changed it")
    modified_by = models.CharField(max_length=255, blank=True)
    round = models.PositiveSmallIntegerField(default=1, help_text="raised by every modification; votes count for one")

    subject = models.CharField(max_length=255)
    issuer = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=255, null=True, blank=True)
    owner = models.CharField(max_length=255, null=True, blank=True)
    principal = models.JSONField(default=dict, help_text="kind, groups and way of authentication when it asked")
    connection = models.CharField(max_length=120)
    connection_kind = models.CharField(max_length=20)
    session_id = models.CharField(max_length=36, blank=True, db_index=True)
    statement_id = models.CharField(max_length=36, blank=True)

    rule = models.CharField(max_length=500)
    reason = models.TextField()
    facts = models.JSONField(default=dict)
    risk = models.PositiveIntegerField(default=0)
    rules_digest = models.CharField(max_length=64, blank=True)
    policies = ArrayField(
        models.CharField(max_length=140), default=list, help_text="the versions it was held under, name@version"
    )
    authors = ArrayField(
        models.CharField(max_length=255), default=list, help_text="who wrote them: cannot approve without another"
    )
    terms = models.JSONField(default=dict, help_text="how far an approval may reach (GrantTerms)")
    snapshot_version = models.PositiveBigIntegerField(default=0)
    reviewers = models.JSONField(help_text='[{"group", "quorum", "choice", "stand_ins"}, …]: all must be met')
    reviewer_groups = ArrayField(models.CharField(max_length=150), help_text="the groups of `reviewers`, to find by")

    opened_at = models.DateTimeField(default=timezone.now)
    decide_by = models.DateTimeField()
    execute_within_s = models.PositiveIntegerField("execute within (seconds)")
    decided_at = models.DateTimeField(null=True, blank=True)
    holders = models.PositiveIntegerField(default=1, help_text="clients that wait; the last one to leave withdraws it")
    reminded_at = models.DateTimeField(null=True, blank=True)
    escalate_to = ArrayField(models.CharField(max_length=150), default=list, help_text="stand-ins, from escalate_at on")
    escalate_at = models.DateTimeField(null=True, blank=True)
    escalated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(
                name="review_one_pending_per_binding", fields=["binding_digest"], condition=Q(status="pending")
            ),
            models.CheckConstraint(
                name="review_decided_when_not_pending",
                condition=Q(status="pending", decided_at=None) | (~Q(status="pending") & Q(decided_at__isnull=False)),
            ),
        ]
        indexes = [
            models.Index(name="review_due", fields=["decide_by"], condition=Q(status="pending")),
            models.Index(
                name="review_escalates", fields=["escalate_at"], condition=Q(status="pending", escalated_at=None)
            ),
            models.Index(name="review_by_status", fields=["status", "-opened_at"]),
            GinIndex(name="review_by_group", fields=["reviewer_groups"]),
            GinIndex(name="review_by_stand_in", fields=["escalate_to"]),
        ]

    def __str__(self) -> str:
        return f"{kind_words(self.facts.get('kind', 'statement'))} on {self.connection}, asked by {self.subject}"

    def get_absolute_url(self) -> str:
        return reverse("approvals:review", args=[self.id])

    @property
    def absolute_url(self) -> str:
        """The address told to clients and reviewers. It locates; it does not authorise."""
        return f"{settings.HOOPWEB_WEB_URL}{self.get_absolute_url()}"

    @property
    def humans(self) -> frozenset[str]:
        """Every account that must not decide on this review."""
        named = (self.subject, self.actor, self.owner, *self.principal.get("known_as", ()))
        return frozenset(name for name in named if name)

    @property
    def is_overdue(self) -> bool:
        return self.status == self.Status.PENDING and timezone.now() >= self.decide_by

    @property
    def is_escalated(self) -> bool:
        """Whether its policies' other groups decide as well: nobody had when their moment came."""
        if not self.escalate_to or self.escalate_at is None:
            return False
        return self.escalated_at is not None or self.escalate_at <= (self.decided_at or timezone.now())

    @property
    def deciding_groups(self) -> frozenset[str]:
        """Whose members decide, and may read the statement, at this moment."""
        return frozenset([*self.reviewer_groups, *(self.escalate_to if self.is_escalated else ())])


class Vote(models.Model):
    """One person's decision in one round of one review."""

    class Decision(models.TextChoices):
        APPROVE = "approve"
        DENY = "deny"
        MODIFY = "modify"

    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="votes")
    round = models.PositiveSmallIntegerField(default=1)
    reviewer = models.CharField(max_length=255)
    groups = ArrayField(models.CharField(max_length=150), help_text="the reviewer groups the person was in")
    decision = models.CharField(max_length=10, choices=Decision)
    counts = models.BooleanField(default=True, help_text="false: above the risk threshold the author needs another")
    sealed_reason = models.BinaryField()
    scope = models.CharField(max_length=10, default=Scope.ONCE.value, help_text="how far this person would let it go")
    for_s = models.PositiveIntegerField(default=0, help_text="and how long; 0: as long as the policy permits")
    cast_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["cast_at"]
        constraints = [
            models.UniqueConstraint(name="vote_once_per_person_and_round", fields=["review", "round", "reviewer"])
        ]

    def __str__(self) -> str:
        return f"{self.reviewer}: {self.decision}"


class Grant(models.Model):
    """What an approval leaves: leave to run one exact request, or what `scope` says, counted, until it expires."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="grants")
    digest = models.CharField(max_length=64, db_index=True, help_text="of the request as it was asked")
    modified_digest = models.CharField(max_length=64, blank=True, db_index=True, help_text="of the reviewer's text")
    uses_left = models.PositiveIntegerField(default=1)
    expires_at = models.DateTimeField()
    revoked = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    claimed_at = models.DateTimeField(null=True, blank=True)
    claimed_by_statement = models.CharField(max_length=36, blank=True)
    scope = models.CharField(max_length=10, default=Scope.ONCE.value)
    reach = models.JSONField(default=dict, help_text="what a wider scope covers; the sealed copy is what counts")
    sealed_reach = models.BinaryField(null=True)
    requester = models.CharField(max_length=64, blank=True, help_text="keyed digest of who, where and under what rules")
    grace_s = models.PositiveIntegerField("grace after it ran (seconds)", default=0)
    max_rows = models.PositiveBigIntegerField(null=True, blank=True)
    rows_used = models.PositiveBigIntegerField(default=0)
    rows_reserved = models.PositiveBigIntegerField(default=0, help_text="expected of executions that have not ended")

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(name="grant_one_per_review", fields=["review"])]
        indexes = [
            models.Index(
                name="grant_wide", fields=["requester"], condition=Q(revoked=False, uses_left__gt=0) & ~Q(scope="once")
            )
        ]

    def __str__(self) -> str:
        return f"grant for {self.review}"


class GrantUse(models.Model):
    """One execution under a grant: claimed, confirmed when nothing can take it back, given back if nothing ran."""

    class State(models.TextChoices):
        CLAIMED = "claimed"
        CONFIRMED = "confirmed"
        RELEASED = "released"

    grant = models.ForeignKey(Grant, on_delete=models.CASCADE, related_name="uses")
    statement_id = models.CharField(max_length=36)
    session_id = models.CharField(max_length=36, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.CLAIMED)
    at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)
    rows = models.PositiveBigIntegerField(null=True, blank=True)
    reserved = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["at"]
        indexes = [models.Index(name="use_unconfirmed", fields=["at"], condition=Q(state="claimed"))]

    def __str__(self) -> str:
        return f"{self.statement_id}: {self.state}"


class ReviewLink(models.Model):
    """A link in a reviewer's mail, kept as a hash: for one reviewer, one text, one decision, for a while."""

    token_hash = models.CharField(max_length=64, unique=True)
    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="links")
    reviewer = models.CharField(max_length=255)
    text_digest = models.CharField(max_length=64)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="link_one_per_reviewer_and_text", fields=["review", "reviewer", "text_digest"])
        ]

    def __str__(self) -> str:
        return f"link of {self.reviewer}"
