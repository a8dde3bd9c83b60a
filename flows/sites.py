"""The registered sites: who is one, and how it shows that."""

from __future__ import annotations

import hmac

from config import Settings
from config.sections import RegisteredSite


def authenticated(settings: Settings, site_id: str, secret: str) -> RegisteredSite | None:
    """The site with this id and secret. The time taken tells nothing of which ids there are."""
    found = None
    for site in settings.sites:
        known = [_equal(secret, kept) for kept in site.secrets]
        if _equal(site_id, site.id) & any(known):
            found = site
    return found


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8"))
