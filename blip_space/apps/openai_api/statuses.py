"""The HTTP status of each error of ours in OpenAI's protocol, by its code, and what a client may do then.

Depends on errors and refusals only.
"""

from __future__ import annotations

from blip_space.apps.http.refusals import Refusal
from blip_space.errors import Code, UserError

STATUSES: dict[Code, int] = {
    "busy": 429,
    "device_failed": 503,
    "disk_full": 507,
    "empty_answer": 422,
    "forbidden": 403,
    "internal_error": 500,
    "model_unavailable": 503,
    "not_found": 404,
    "remote_failed": 502,
    "remote_unavailable": 503,
    "stopping": 503,
    "timed_out": 504,
    "too_large": 413,
    "too_many_requests": 429,
    "unauthorized": 401,
    "unknown_model": 404,
}
"""All others are mistakes of the request, with status 400."""

RETRY_SECONDS: dict[Code, int] = {"busy": 5, "device_failed": 10, "stopping": 10, "too_many_requests": 5}
NO_RETRY = {"x-should-retry": "false"}
"""A header of the protocol. Without it, the official client sends a request again after each status from 500: one whose
answer takes too long would be generated three times."""


class ParameterError(UserError):
    """A part of a request's body that is wrong or not supported."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def as_refusal(error: UserError) -> Refusal:
    """The error as a response. In the middle of a stream only its body is sent."""
    headers = {} if error.code in RETRY_SECONDS else NO_RETRY
    if error.code in RETRY_SECONDS:
        headers = {"Retry-After": str(RETRY_SECONDS[error.code])}
    parameter = error.parameter if isinstance(error, ParameterError) else None
    return Refusal(STATUSES.get(error.code, 400), error.code, str(error), headers, parameter)
