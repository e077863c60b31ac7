"""Every kind of entry the log can hold, in an auditor's words. Pure; docs/evidence.md and the search page list these.

A test compares this table with what the code writes: a kind that is not explained here cannot be merged.
"""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "session.opened": "a client authenticated and a session began",
    "session.closed": "a session ended, with the reason",
    "session.kill_requested": "a person or the session's own principal asked to end it",
    "authentication.failed": "a client or a person was refused before any session began",
    "person.signed_in": "a person signed in to the console",
    "person.signed_out": "a person signed out of the console",
    "person.stepped_up": "a person confirmed, for a decision, that it is them",
    "person.deprovisioned": "the identity provider switched somebody off; what they held ended with it",
    "person.password_changed": "an account's password was changed in the console",
    "token.issued": "a token was issued: to an agent, in exchange for another, or to a person's script",
    "agent.secret_rotated": "an agent's client secret was replaced",
    "agent.secret_ended": "an agent's older client secret was ended",
    "ticket.bought": "a one-time password for a driver was bought",
    "ticket.redeemed": "a one-time password was used",
    "policy.simulated": "somebody tried a draft policy over recorded statements",
    "emergency.opened": "somebody broke the glass: for which connection, until when, and why",
    "emergency.used": "a statement ran under an emergency access",
    "emergency.ended": "an emergency access is over",
    "emergency.overdue": "an emergency access was not reviewed in time",
    "emergency.reviewed": "somebody else said what an emergency access was",
    "statement.explained": "somebody asked what would happen to a statement, without running it",
    "tables.described": "somebody was told a connection's tables or columns, and what of them would be masked",
    "access.requested": "an agent asked for access it does not have, with its reason",
    "statement.held": "a statement waits for reviewers",
    "statement.authorised": "a statement may run; durable before it runs",
    "statement.denied": "a statement was refused",
    "statement.completed": "how an authorised statement ended, and what was masked",
    "statement.read_again": "rows of a finished statement went to its client once more",
    "request.refused": "a call of a data API that is not served, or not in that form",
    "statement.subjects": "whose records a large result holds, a portion ahead of its end",
    "subjects.looked_up": "somebody asked who saw a subject's records, or whose records somebody saw",
    "subjects.key_rotated": "subjects' tokens are made under a new key",
    "subjects.key_erased": "a key of subjects' tokens was erased: nobody can be found by its tokens any more",
    "recording.lost": "a process ended before it could store a result it had named",
    "review.opened": "a review was asked for",
    "review.decided": "a reviewer approved, denied or modified",
    "review.escalated": "nobody had decided, and others may from now on",
    "review.expired": "nobody decided in time",
    "review.withdrawn": "the client left before a decision",
    "grant.claimed": "an execution used an approval",
    "grant.revoked": "an approval was taken back before it was used",
    "grant.released": "an approval was claimed and given back unused",
    "config.changed": "rules, connections, agents or accounts changed, with what they were before and after",
    "key.created": "a key pair was made",
    "key.rotated": "secrets were sealed again under a new key",
    "log.key_rotated": "the log's signing key handed over to another; both signed it",
    "log.restored": "the log goes on after a restore from a backup, and disowns what was anchored since the backup",
    "gateway.started": "a data-plane process began to serve",
    "gateway.stopped": "a data-plane process ended in order",
    "evidence.viewed": "somebody read a recorded text or result",
    "evidence.searched": "somebody searched the evidence",
    "evidence.exported": "somebody took evidence out",
    "evidence.checked": "the whole stored evidence was checked",
    "evidence.reviewed": "somebody signed off the activity of a period",
    "hold.placed": "somebody kept evidence from being purged",
    "hold.released": "somebody let held evidence go",
    "report.requested": "somebody asked for a report",
    "report.downloaded": "somebody took a report that was made",
    "evidence.purged": "evidence past its retention was erased",
    "sink.failing": "a receiver of exported events has not answered for a while; they wait in the log",
    "anchor.failing": "somebody who keeps checkpoints has not taken one for a while",
    "anchor.resumed": "somebody who keeps checkpoints takes them again",
    "sink.resumed": "a receiver of exported events answers again and has what had waited",
    "journal.recovered": "what a dead process had journaled was taken into the log",
    "journal.missing": "a dead process's journal is gone; what the log had not taken in yet went with it",
    "journal.damaged": "a dead process left a journal that somebody altered; what came before the place was taken in",
    "log.damage_found": "a check found evidence that is not as written",
}


def explain(kind: str) -> str:
    """What the kind means, or nothing when it is of a later version."""
    return KINDS.get(kind, "")
