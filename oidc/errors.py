"""Refusals in the words of OAuth (RFC 6749, 4.1.2.1 and 5.2; OpenID Connect Core, 3.1.2.6)."""

from __future__ import annotations

from errors import SaomaError


class OAuthError(SaomaError):
    """`code` is the protocol's `error`, the message its `error_description`."""

    status = 400

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # here it is told by the caller


class InvalidClient(OAuthError):
    """The site is unknown, or did not show that it is that site."""

    status = 401

    def __init__(self) -> None:
        super().__init__("invalid_client", "The client is unknown or has not authenticated.")


class InvalidGrant(OAuthError):
    """The code or refresh token is not (any longer) good for this site. Why, is told to nobody."""

    def __init__(self) -> None:
        super().__init__("invalid_grant", "The code or token is not valid, or not for this client.")


class InvalidToken(OAuthError):
    """The access token is not (any longer) good (RFC 6750, 3.1)."""

    status = 401

    def __init__(self) -> None:
        super().__init__("invalid_token", "The access token is not valid.")


class InsufficientScope(OAuthError):
    """The access token is good, but not for this (RFC 6750, 3.1)."""

    status = 403

    def __init__(self) -> None:
        super().__init__("insufficient_scope", "The access token was not given for scope openid.")


class Unredirectable(OAuthError):
    """The request names no site and address of ours, so the answer stays here (RFC 6749, 4.1.2.1)."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid_request", message)
