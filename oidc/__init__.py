"""OAuth 2.0 and OpenID Connect: requests, grants, tokens. Pure."""

from oidc.grant import Grant, GrantRefused

__all__ = ["Grant", "GrantRefused"]
