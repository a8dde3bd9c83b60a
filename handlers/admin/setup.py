"""The registered sites with what they were told, and the settings in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from config.sections import RegisteredSite
from flows import admin_views
from flows.administer import note
from handlers.admin.base import ADMIN, AdminHandler
from handlers.admin.words import state_words
from storage.records import Notice
from translations import Texts

SITES = f"{ADMIN}/sites"


@dataclass(frozen=True, slots=True)
class _ShownNotice:
    time: str
    kind: str  # "webhook" or "logout"
    event: str
    state: str  # the stored one
    words: str
    attempts: int
    result: str
    again: str  # when it is tried again, "" where it is not


@dataclass(frozen=True, slots=True)
class _ShownSite:
    id: str
    name: str
    public: bool
    redirect_uris: tuple[str, ...]
    webhook: str
    events: str
    logout: str
    notices: list[_ShownNotice]


class Sites(AdminHandler):
    room = "sites"

    async def get(self) -> None:
        notices = await admin_views.notices(self.context)
        shown = [self._shown(site, notices[site.id]) for site in self.context.settings.sites]
        self.render("admin/sites.html", sites=shown)

    def _shown(self, site: RegisteredSite, notices: Any) -> _ShownSite:
        return _ShownSite(
            id=site.id,
            name=site.name,
            public=site.public,
            redirect_uris=site.redirect_uris,
            webhook=bare(site.webhook_url),
            events=", ".join(site.webhook_events),
            logout=bare(site.backchannel_logout_uri),
            notices=[self._shown_notice(notice) for notice in notices],
        )

    def _shown_notice(self, notice: Notice) -> _ShownNotice:
        again = notice.state == "pending" and notice.attempts > 0
        return _ShownNotice(
            time=self.time_words(notice.created_at),
            kind=notice.endpoint.partition(":")[0],
            event=notice.event,
            state=notice.state,
            words=state_words(self.texts(), notice.state),
            attempts=notice.attempts,
            result=notice.result,
            again=self.time_words(notice.due_at) if again else "",
        )


class WebhookTest(AdminHandler):
    """Sends a test now; how it went is the newest line on the page."""

    async def post(self, site_id: str) -> None:
        await note(self.context, self.by, "test_webhook", site_id)
        await self.services.outbox.test(site_id)
        self.redirect(f"{SITES}#{site_id}", status=303)


class InForce(AdminHandler):
    room = "settings"

    async def get(self) -> None:
        settings, texts = self.context.settings, self.texts()
        sections = [
            (name, shown_section(section, texts))
            for name in type(settings).model_fields
            if isinstance(section := getattr(settings, name), BaseModel)
        ]
        self.render("admin/settings.html", sections=sections, warnings=settings.warnings)


def shown_section(section: BaseModel, texts: Texts) -> list[tuple[str, str, bool]]:
    """Key, value in words, and whether it differs from the default."""
    fields = type(section).model_fields
    return [
        (key, shown_value(value, texts), value != fields[key].default)
        for key in fields
        for value in [getattr(section, key)]
    ]


def shown_value(value: object, texts: Texts) -> str:
    """As in the settings file; of a secret whether it is set."""
    match value:
        case SecretStr():
            return texts("set (hidden)") if value.get_secret_value() else texts("not set")
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.15g}"
        case tuple():
            return ", ".join(shown_value(item, texts) for item in value) or "[]"
        case str():
            return bare(value) or '""'
        case _:
            return str(value)


def bare(address: str) -> str:
    """An address without the password or the token that may stand in it; any other text as it is."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{'…@' if '@' in parts.netloc else ''}{host}{parts.path}" + (
        "?…" if parts.query else ""
    )
