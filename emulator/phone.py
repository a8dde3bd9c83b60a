"""What people do with their phones, and what their phones show them."""

from __future__ import annotations

from collections.abc import Mapping

from emulator.delivery import Courier, Outcome
from emulator.own_app import AppScreen, OwnApp, Step
from emulator.people import Entry, Person, Speaker
from emulator.platform import EVENT_WINDOW, MESSAGE_WINDOW, Code, Platform
from wechat.xml import Fields, Writable

UNAVAILABLE = "该公众号暂时无法提供服务，请稍后再试"
EXPIRED = "二维码已过期"
NOT_FOLLOWING = "请先关注公众号"

_SHORT_SCENE = 16


def subscribe_fields(code: Code | None = None) -> dict[str, Writable]:
    """The event of a follow; without a code EventKey is there and empty."""
    fields: dict[str, Writable] = {"MsgType": "event", "Event": "subscribe"}
    if code is None:
        return {**fields, "EventKey": ""}
    return {**fields, "EventKey": f"qrscene_{code.scene}", "Ticket": code.ticket}


def scan_fields(code: Code) -> dict[str, Writable]:
    """The event of a follower's scan."""
    return {"MsgType": "event", "Event": "SCAN", "EventKey": code.scene, "Ticket": code.ticket}


class AppNotSetUp(Exception):
    """The team's own app is on nobody's phone."""


class NotAsked(Exception):
    """The app does not show this code's question, or not any longer."""


class Phone:
    """The phones of all people of a platform, with WeChat and, once it is installed, the team's own app.

    Each action puts its line into the person's chat, posts what WeChat would post, waits for it and shows
    the reply. It returns the outcome, or None where WeChat posts nothing. Raises KeyError for a stranger's
    openid. The own app's actions, `app_…`, return what that app shows then.
    """

    def __init__(self, platform: Platform, courier: Courier) -> None:
        self.platform = platform
        self.courier = courier
        self.own_app: OwnApp | None = None

    async def scan(self, openid: str, code_text: str, *, follow: bool = True) -> Outcome | None:
        """Scans the code with this text (its url, or its ticket).

        A follower's scan posts SCAN. Anybody else sees the account's card and posts `subscribe` on following
        it, nothing when `follow` is False. An expired code posts nothing.
        """
        person = self.platform.people[openid]
        code = self.platform.find_code(code_text)
        if code is None:
            self._notice(person, f"不是本公众号的二维码 Not a code of this account: {code_text.strip()}")
            return None
        if code.expired(self.platform.now()):
            self._notice(person, EXPIRED)
            return None
        scene = _shortened(code.scene)
        if person.following:
            entry = self._action(person, f"扫描二维码 Scanned · {scene}")
            self.platform.open_window(person.after_event, EVENT_WINDOW)
            return await self._post(person, entry, scan_fields(code))
        if not follow:
            self._action(person, f"扫码后没有关注 Scanned, did not follow · {scene}")
            return None
        entry = self._action(person, f"扫码关注 Scanned and followed · {scene}")
        self._become_follower(person, "ADD_SCENE_QR_CODE", code)
        return await self._post(person, entry, subscribe_fields(code))

    async def follow(self, openid: str) -> Outcome | None:
        """Follows without any code, from a search."""
        person = self.platform.people[openid]
        if person.following:
            return None
        entry = self._action(person, "关注 Followed")
        self._become_follower(person, "ADD_SCENE_SEARCH", None)
        return await self._post(person, entry, subscribe_fields())

    async def unfollow(self, openid: str) -> Outcome | None:
        """Stops following; no reply reaches the person any more."""
        person = self.platform.people[openid]
        if not person.following:
            return None
        entry = self._action(person, "取消关注 Unfollowed")
        person.following = False
        person.after_event.left = person.after_message.left = 0
        fields: dict[str, Writable] = {"MsgType": "event", "Event": "unsubscribe", "EventKey": ""}
        return await self._post(person, entry, fields)

    async def send_text(self, openid: str, text: str) -> Outcome | None:
        """Writes to the account, which takes texts of followers alone."""
        person = self.platform.people[openid]
        if not person.following:
            self._notice(person, NOT_FOLLOWING)
            return None
        entry = person.say(Speaker.PERSON, text, self.platform.now())
        self.platform.open_window(person.after_message, MESSAGE_WINDOW)
        message_id = self.platform.next_message_id()
        return await self._post(person, entry, {"MsgType": "text", "Content": text, "MsgId": message_id})

    async def send_event(
        self, openid: str, event: str, event_key: str = "", more: Mapping[str, Writable] | None = None
    ) -> Outcome:
        """Any event, whether it makes sense or not; `more` are its fields after EventKey."""
        person = self.platform.people[openid]
        entry = self._action(person, f"{event} {event_key}".strip())
        fields = {"MsgType": "event", "Event": event, "EventKey": event_key, **(more or {})}
        return await self._post(person, entry, fields)

    def is_app_code(self, code_text: str) -> bool:
        """Whether the code is one for the team's own app, and that is installed."""
        return self.own_app is not None and bool(self.own_app.backend.ticket_id(code_text.strip()))

    async def app_scan(self, openid: str, link: str) -> AppScreen:
        """Scans an own-app code (`{login server}/s/<id>`). Raises AppNotSetUp; ValueError for other texts."""
        person, app = self.platform.people[openid], self._installed_app()
        if not self.is_app_code(link):
            raise ValueError("not a code of the app's")
        person.app_screen = await app.scan(person, link.strip())
        return person.app_screen

    async def app_confirm(self, openid: str, link: str, number: int | None = None) -> AppScreen:
        """Says yes to the code that was scanned. Raises AppNotSetUp, NotAsked."""
        return await self._app_decide(openid, link, confirm=True, number=number)

    async def app_cancel(self, openid: str, link: str) -> AppScreen:
        """Says no to the code that was scanned. Raises AppNotSetUp, NotAsked."""
        return await self._app_decide(openid, link, confirm=False)

    async def _app_decide(
        self, openid: str, link: str, *, confirm: bool, number: int | None = None
    ) -> AppScreen:
        person, app = self.platform.people[openid], self._installed_app()
        screen = person.app_screen
        # A button of an old page must not answer another code's question.
        if screen is None or screen.step is not Step.ASKING or screen.link != link.strip():
            raise NotAsked
        person.app_screen = await app.decide(person, screen, confirm=confirm, number=number)
        return person.app_screen

    def _installed_app(self) -> OwnApp:
        if self.own_app is None:
            raise AppNotSetUp
        return self.own_app

    async def _post(self, person: Person, entry: Entry, fields: Mapping[str, Writable]) -> Outcome:
        outcome = await self.courier.deliver(person.openid, fields)
        entry.outcome = outcome
        if not person.following:
            return outcome
        if not outcome.accepted:
            self._notice(person, UNAVAILABLE)
        elif outcome.reply is not None:
            person.say(Speaker.ACCOUNT, _shown(outcome.reply), self.platform.now())
        return outcome

    def _become_follower(self, person: Person, followed_by: str, code: Code | None) -> None:
        now = self.platform.now()
        person.following = True
        person.followed_at, person.followed_by = int(now), followed_by
        person.scene_id = code.scene_id if code else 0
        person.scene_str = code.scene_str if code else ""
        self.platform.open_window(person.after_event, EVENT_WINDOW)

    def _action(self, person: Person, text: str) -> Entry:
        return person.say(Speaker.ACTION, text, self.platform.now())

    def _notice(self, person: Person, text: str) -> None:
        person.say(Speaker.WECHAT, text, self.platform.now())


def _shown(reply: Fields) -> str:
    """A reply as the chat shows it: text as it is, articles by title and address, the rest by its kind."""
    match reply:
        case {"Content": str(content)}:
            return content
        case {"Articles": {"item": {"Title": str(title), "Url": str(url)}}}:
            return f"{title}\n{url}"
        case _:
            return f"[{reply['MsgType']}]"


def _shortened(scene: str) -> str:
    return scene if len(scene) <= _SHORT_SCENE else f"{scene[:_SHORT_SCENE]}…"
