"""The one error base: a stable code, a message that is safe to show, an HTTP status.

Whatever else goes wrong is a fault of ours and is answered with a bare 500: no detail leaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class SaomaError(Exception):
    """Refused or failed, in a way that the other side may be told.

    `code` is part of the interface (RFC 9457 problem member); `message` is one English sentence without
    any personal or secret value; `status` is the HTTP status a handler answers with.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    message: str = "Something went wrong on our side."
    more: Mapping[str, str | int] = MappingProxyType({})  # further members of the problem

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)


class BadRequest(SaomaError):
    code = "bad_request"
    status = 400
    message = "The request is not understood."


class Unauthenticated(SaomaError):
    code = "unauthenticated"
    status = 401
    message = "Log in first."


class Forbidden(SaomaError):
    code = "forbidden"
    status = 403
    message = "That is not allowed."


class NotFound(SaomaError):
    code = "not_found"
    status = 404
    message = "There is nothing here."


class TicketUnknown(SaomaError):
    """Never issued, expired, or asked for without its secret: nobody can tell which (`INVALID`)."""

    code = "ticket_unknown"
    status = 404
    message = "This ticket is unknown or has expired."
    more = MappingProxyType({"state": "INVALID"})


class TransitionRefused(SaomaError):
    """The ticket's state does not allow the event, or another identity scanned first."""

    code = "transition_refused"
    status = 409
    message = "The ticket's state does not allow this."


class LoginRefused(SaomaError):
    """The person may not log in: blocked, or no longer following since the scan."""

    code = "login_refused"
    status = 403
    message = "This person may not log in."


class TooManyRequests(SaomaError):
    """A rate limit applies; `retry_after` is in whole seconds."""

    code = "too_many_requests"
    status = 429
    message = "Too many requests; try again later."

    def __init__(self, retry_after: int, message: str | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MethodUnavailable(SaomaError):
    """This way to log in is not set up, or cannot be used just now."""

    code = "method_unavailable"
    status = 503
    message = "This way to log in is not available just now."


class StoreUnavailable(SaomaError):
    """The store did not answer, or could not make the change durable. Nothing was acknowledged."""

    code = "store_unavailable"
    status = 503
    message = "The store is not available just now."


class StoreTooNew(StoreUnavailable):
    """A newer saoma has written the store. The text names both versions."""


class StoreLocked(StoreUnavailable):
    """Another process has the SQLite file."""
