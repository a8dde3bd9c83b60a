"""What the registered sites' own programs ask, by HTTP Basic with the site's id and secret."""

from __future__ import annotations

from config.sections import RegisteredSite
from errors import Unauthenticated
from flows.sites import authenticated
from handlers.base import ApiHandler


class SiteHandler(ApiHandler):
    def registered_site(self) -> RegisteredSite:
        """The site that asks. Raises Unauthenticated."""
        site = authenticated(self.context.settings, *self.basic())
        if site is None:
            self.set_header("WWW-Authenticate", 'Basic realm="saoma", charset="UTF-8"')
            raise Unauthenticated(
                "Who asks this must be a registered site: its id and secret belong into HTTP Basic."
            )
        return site
