"""How the team's backend is told: Standard Webhooks' signature, and when to try again. Pure."""

from webhooks.schedule import GIVE_UP_SECONDS, next_attempt
from webhooks.signing import signed_headers

__all__ = ["GIVE_UP_SECONDS", "next_attempt", "signed_headers"]
