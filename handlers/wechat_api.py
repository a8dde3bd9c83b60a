"""What the team's other programs need of WeChat's API and only one can have: the access token."""

from __future__ import annotations

import re

from errors import BadRequest
from handlers.sites import SiteHandler

_DIGEST = re.compile(r"[0-9A-Fa-f]{64}\Z")


class AccessToken(SiteHandler):
    async def get(self) -> None:
        """In the form of WeChat's own answer."""
        site = self.registered_site()
        rejected = self.get_query_argument("rejected", None)
        if rejected is not None and not _DIGEST.match(rejected):
            raise BadRequest("rejected: should be the SHA-256 of the token, in hex.")
        lent = await self.services.access_tokens.lend(site, self.client_address, rejected=rejected or "")
        self.write_json({"access_token": lent.token, "expires_in": lent.expires_in})
