"""BigQuery's error objects: an HTTP status and a reason, as "Error messages" of its documentation pairs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Reason → HTTP status. A reason the stock clients retry (backendError, rateLimitExceeded …) is used only where trying
# again helps: google-cloud-bigquery waits ten minutes on them.
STATUS = {
    "accessDenied": 403,
    "billingTierLimitExceeded": 400,
    "backendError": 503,
    "bytesBilledLimitExceeded": 400,
    "duplicate": 409,
    "internalError": 500,
    "invalid": 400,
    "invalidQuery": 400,
    "jobBackendError": 400,
    "jobInternalError": 400,
    "notFound": 404,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "required": 401,
    "resourceInUse": 400,
    "resourcesExceeded": 400,
    "responseTooLarge": 403,
    "stopped": 200,
    "timeout": 400,
    "tooLarge": 413,
}
_WORDS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_MORE_WORDS = {409: "ALREADY_EXISTS", 500: "INTERNAL", 503: "UNAVAILABLE"}


@dataclass(slots=True, eq=False)  # not frozen: an exception is given its traceback on the way
class BigQueryError(Exception):
    """`message` holds no value of any row. `status` is HTTP's."""

    reason: str
    message: str
    status: int = 0

    def __post_init__(self) -> None:
        if not self.status:
            self.status = STATUS.get(self.reason, 400)

    def as_proto(self) -> dict[str, str]:
        """ErrorProto, as in `status.errorResult` of a job."""
        return {"reason": self.reason, "message": self.message}

    def as_json(self) -> dict[str, Any]:
        """The body of an HTTP answer."""
        status = self.status if self.status >= 400 else 400
        return {
            "error": {
                "code": status,
                "message": self.message,
                "errors": [{"message": self.message, "domain": "global", "reason": self.reason}],
                "status": (_WORDS | _MORE_WORDS).get(status, "UNKNOWN"),
            }
        }
