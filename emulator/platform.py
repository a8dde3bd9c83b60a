"""WeChat's platform: tokens, codes, people, quotas and faults on demand. No IO; all state in memory.

Raises ApiError where WeChat answers with an errcode. Error texts and limits follow
https://developers.weixin.qq.com/doc/offiaccount/Getting_Started/Global_Return_Code.html
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from emulator.people import Disclosure, Person, Speaker, Window, cast, openid_of
from wechat.callback import Mode

TOKEN = "/cgi-bin/token"  # noqa: S105 - a path
STABLE_TOKEN = "/cgi-bin/stable_token"  # noqa: S105 - a path
QRCODE_CREATE = "/cgi-bin/qrcode/create"
SHOWQRCODE = "/cgi-bin/showqrcode"
USER_INFO = "/cgi-bin/user/info"
CUSTOM_SEND = "/cgi-bin/message/custom/send"
CALLBACK_IP = "/cgi-bin/getcallbackip"

DAILY_QUOTAS: Mapping[str, int] = {
    TOKEN: 2_000,
    STABLE_TOKEN: 500_000,
    QRCODE_CREATE: 100_000,
    USER_INFO: 5_000_000,
    CUSTOM_SEND: 500_000,
}

ERROR_TEXTS: Mapping[int, str] = {
    -1: "system error",
    40001: "invalid credential, access_token is invalid or not latest",
    40002: "invalid grant_type",
    40003: "invalid openid",
    40008: "invalid message type",
    40013: "invalid appid",
    40014: "invalid access_token",
    40052: "invalid action name",
    40053: "invalid action info",
    40097: "invalid args",
    40125: "invalid appsecret",
    40164: "invalid ip 127.0.0.1, not in whitelist",
    41001: "access_token missing",
    41002: "appid missing",
    41004: "appsecret missing",
    42001: "access_token expired",
    43001: "require GET method",
    43002: "require POST method",
    43004: "require subscribe",
    44004: "empty content",
    45002: "content size out of limit",
    45009: "reach max api daily quota limit",
    45011: "api minute-quota reach limit, must slower, retry next minute",
    45015: "response out of time limit or subscription is canceled",
    45047: "out of response count limit",
    47001: "data format error",
    48001: "api unauthorized",
}

TOKEN_LIFETIME = 7200
REPLACED_TOKEN_SECONDS = 300  # the former ordinary token is good for this long beside the new one
FORCED_REFRESHES_A_DAY = 20
FORCED_REFRESH_PAUSE = 30

MAX_CODE_SECONDS = 2_592_000
DEFAULT_CODE_SECONDS = 60  # older pages say 30
MAX_SCENE_CHARACTERS = 64
MAX_LIMIT_SCENE = 100_000
MAX_SCENE_ID = 2**32 - 1

MAX_TEXT_BYTES = 2048
# How long and how often the account may write after a message of the person's, and after a scan or a follow.
MESSAGE_WINDOW = (48 * 3600, 5)
EVENT_WINDOW = (60, 3)

_DAY = 86400
_BEIJING = 8 * 3600
_TOKEN_CHARACTERS = 138
_FIRST_MESSAGE_ID = 24_000_000_000_000_001  # beyond what a float holds exactly


class ApiError(Exception):
    """An error as WeChat answers it: HTTP status 200 and an errcode."""

    def __init__(self, errcode: int) -> None:
        self.errcode = errcode
        super().__init__(f"{errcode} {ERROR_TEXTS.get(errcode, '')}")


@dataclass(frozen=True, slots=True)
class Account:
    """An official account as set up in WeChat's console."""

    appid: str
    secret: str
    token: str
    encoding_aes_key: str  # may be "" in plain mode
    mode: Mode
    callback_url: str
    original_id: str = "gh_a1b2c3d4e5f6"
    name: str = "saoma 扫码"


@dataclass(frozen=True, slots=True)
class Code:
    """A parameter code. `expires_at` is None for a permanent one."""

    ticket: str
    url: str  # the text in the picture
    scene_id: int
    scene_str: str
    expires_at: float | None

    @property
    def scene(self) -> str:
        """As events carry it."""
        return self.scene_str or str(self.scene_id)

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class Fault:
    """What one call is answered with instead of the truth: an errcode, or a whole body of any kind."""

    errcode: int = 0
    status: int = 200
    body: bytes | None = None


@dataclass(slots=True)
class _Token:
    value: str
    expires_at: float
    void_at: float  # replaced by a newer one


class Platform:
    """One account's platform.

    `now` gives Unix seconds. `token(n)` gives n or more random URL-safe characters, as
    `secrets.token_urlsafe` does. `base_url` is where this platform is served, without a slash at the end.
    """

    def __init__(
        self,
        account: Account,
        *,
        base_url: str,
        now: Callable[[], float],
        token: Callable[[int], str],
        token_lifetime: float = TOKEN_LIFETIME,
        quotas: Mapping[str, int] | None = None,
    ) -> None:
        self.account = account
        self.base_url = base_url
        self.now = now
        self.token_lifetime = token_lifetime
        self.quotas = {**DAILY_QUOTAS, **(quotas or {})}
        self.calls: Counter[str] = Counter()  # by path, whatever was answered
        self.down = False  # calls are answered by closing the connection
        self.people = {person.openid: person for person in cast(account.appid, now())}
        self.codes: dict[str, Code] = {}  # by ticket
        self._random = token
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._delays: defaultdict[str, deque[float]] = defaultdict(deque)
        self._used: Counter[tuple[str, int]] = Counter()  # by path and day
        self._ordinary: list[_Token] = []
        self._stable: list[_Token] = []
        self._forced: list[float] = []
        self._codes_by_token: dict[str, Code] = {}
        self._message_id = _FIRST_MESSAGE_ID

    def random(self, characters: int) -> str:
        """Exactly so many random URL-safe characters."""
        return self._random(characters)[:characters]

    # --- faults on demand -------------------------------------------------------------------------------

    def fail(self, path: str, errcode: int, times: int = 1) -> None:
        """The next calls of `path` are answered with `errcode`."""
        self._faults[path].extend([Fault(errcode=errcode)] * times)

    def answer(self, path: str, body: bytes, status: int = 200, times: int = 1) -> None:
        """The next calls of `path` are answered with this: a proxy's error page, broken JSON."""
        self._faults[path].extend([Fault(status=status, body=body)] * times)

    def delay(self, path: str, seconds: float, times: int = 1) -> None:
        """The next calls of `path` are answered after so many seconds."""
        self._delays[path].extend([seconds] * times)

    def next_delay(self, path: str) -> float:
        """Seconds that this call has to wait."""
        return self._delays[path].popleft() if self._delays[path] else 0.0

    def next_fault(self, path: str) -> Fault | None:
        """What this call is answered with instead of the truth."""
        return self._faults[path].popleft() if self._faults[path] else None

    def heal(self) -> None:
        """Takes back all faults, delays and `down`."""
        self._faults.clear()
        self._delays.clear()
        self.down = False

    def expire_tokens(self) -> None:
        """All access tokens are past their time: 42001."""
        for token in self._ordinary + self._stable:
            token.expires_at = min(token.expires_at, self.now())

    def revoke_tokens(self) -> None:
        """All access tokens are void before their time: 40001."""
        self._ordinary.clear()
        self._stable.clear()

    def spend(self, path: str) -> None:
        """Counts a call against the day's quota; days are Beijing's. Raises ApiError 45009."""
        if path not in self.quotas:
            return
        today = (path, int((self.now() + _BEIJING) // _DAY))
        if self._used[today] >= self.quotas[path]:
            raise ApiError(45009)
        self._used[today] += 1

    def error_body(self, errcode: int) -> dict[str, Any]:
        """The JSON of an error; every one has a request id in its text."""
        rid = f"{int(self.now()):08x}-{self.random(8)}-{self.random(8)}"
        return {"errcode": errcode, "errmsg": f"{ERROR_TEXTS.get(errcode, 'error')} rid: {rid}"}

    # --- access tokens ----------------------------------------------------------------------------------

    def fetch_token(self, grant_type: str, appid: str, secret: str) -> dict[str, Any]:
        """A new ordinary token; the former stays good for five minutes."""
        self._require_credentials(grant_type, appid, secret)
        now = self.now()
        for token in self._ordinary:
            token.void_at = min(token.void_at, now + REPLACED_TOKEN_SECONDS)
        return self._issued(self._ordinary)

    def fetch_stable_token(
        self, grant_type: str, appid: str, secret: str, force_refresh: bool = False
    ) -> dict[str, Any]:
        """The stable token while it is valid; renewed shortly before its end, or at once if forced."""
        self._require_credentials(grant_type, appid, secret)
        now = self.now()
        if force_refresh:
            self._require_forcing_allowed(now)
            for token in self._stable:
                token.void_at = min(token.void_at, now)
            return self._issued(self._stable)
        # Five minutes of two hours; the same share of a shortened life.
        renewal = self.token_lifetime * REPLACED_TOKEN_SECONDS / TOKEN_LIFETIME
        current = self._stable[-1] if self._stable else None
        if current is None or now >= current.expires_at - renewal:
            return self._issued(self._stable)
        return {"access_token": current.value, "expires_in": int(current.expires_at - now)}

    def require_token(self, value: str) -> None:
        """Raises ApiError for an access token that is missing, unknown, void or expired."""
        if not value:
            raise ApiError(41001)
        now = self.now()
        for token in self._ordinary + self._stable:
            if token.value == value:
                if now >= token.expires_at:
                    raise ApiError(42001)
                if now >= token.void_at:
                    raise ApiError(40001)
                return
        raise ApiError(40001)

    def _issued(self, tokens: list[_Token]) -> dict[str, Any]:
        expires_at = self.now() + self.token_lifetime
        tokens.append(_Token(self.random(_TOKEN_CHARACTERS), expires_at, expires_at))
        return {"access_token": tokens[-1].value, "expires_in": int(self.token_lifetime)}

    def _require_credentials(self, grant_type: str, appid: str, secret: str) -> None:
        if grant_type != "client_credential":
            raise ApiError(40002)
        if not appid:
            raise ApiError(41002)
        if not secret:
            raise ApiError(41004)
        if appid != self.account.appid:
            raise ApiError(40013)
        if secret != self.account.secret:
            raise ApiError(40125)

    def _require_forcing_allowed(self, now: float) -> None:
        self._forced = [at for at in self._forced if at > now - _DAY]
        if self._forced and now < self._forced[-1] + FORCED_REFRESH_PAUSE:
            raise ApiError(45011)
        if len(self._forced) >= FORCED_REFRESHES_A_DAY:
            raise ApiError(45009)
        self._forced.append(now)

    # --- codes ------------------------------------------------------------------------------------------

    def create_code(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a parameter code from the JSON of `qrcode/create`."""
        scene_id, scene_str, permanent = _read_scene(request)
        if not permanent:
            seconds = request.get("expire_seconds", DEFAULT_CODE_SECONDS)
            if type(seconds) is not int or not 1 <= seconds <= MAX_CODE_SECONDS:
                raise ApiError(40097)
        token = "02" + self.random(22)
        code = Code(
            ticket="gQ" + self.random(90) + "==",
            url=f"{self.base_url}/q/{token}",
            scene_id=scene_id,
            scene_str=scene_str,
            expires_at=None if permanent else self.now() + seconds,
        )
        self.codes[code.ticket] = code
        self._codes_by_token[token] = code
        life = {} if permanent else {"expire_seconds": seconds}
        return {"ticket": code.ticket, **life, "url": code.url}

    def find_code(self, text: str) -> Code | None:
        """The code, expired or not, that this text means: the text in its picture, or its ticket."""
        text = text.strip()
        if text in self.codes:
            return self.codes[text]
        if not text.startswith(f"{self.base_url}/q/"):
            return None
        return self._codes_by_token.get(urlsplit(text).path.rpartition("/")[2])

    # --- people -----------------------------------------------------------------------------------------

    def add_person(
        self,
        name: str,
        *,
        openid: str = "",
        following: bool = False,
        disclosure: Disclosure = Disclosure.BLANK,
        unionid: str = "",
    ) -> Person:
        """Somebody more; the openid is made from the name where none is given."""
        person = Person(
            openid or openid_of(self.account.appid, name),
            name,
            disclosure,
            unionid,
            following=following,
            followed_at=int(self.now()) if following else 0,
            followed_by="ADD_SCENE_SEARCH" if following else "",
        )
        self.people[person.openid] = person
        return person

    def picture_url(self, person: Person) -> str:
        return f"{self.base_url}/avatar/{person.openid}.png"

    def user_info(self, openid: str) -> dict[str, Any]:
        """The answer of `user/info`."""
        person = self.people.get(openid)
        if person is None:
            raise ApiError(40003)
        return person.info(self.picture_url(person))

    def open_window(self, window: Window, rule: tuple[int, int]) -> None:
        """From now on the account may write as often as the rule says."""
        seconds, left = rule
        window.until, window.left = self.now() + seconds, left

    def send_custom_message(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A text of the account's own, into the person's chat while a window is open."""
        person = self.people.get(_text(request, "touser"))
        if person is None:
            raise ApiError(40003)
        if _text(request, "msgtype") != "text":
            raise ApiError(40008)
        text = request.get("text")
        content = _text(text, "content") if isinstance(text, Mapping) else ""
        if not content:
            raise ApiError(44004)
        if len(content.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
            raise ApiError(45002)
        if not person.following:
            raise ApiError(43004)
        now = self.now()
        windows = [w for w in (person.after_event, person.after_message) if now < w.until]
        if not windows:
            raise ApiError(45015)
        window = next((w for w in windows if w.left), None)
        if window is None:
            raise ApiError(45047)
        window.left -= 1
        person.say(Speaker.ACCOUNT, content, now)
        return {"errcode": 0, "errmsg": "ok"}

    def next_message_id(self) -> int:
        """A MsgId: 64 bits, so a float would lose its last digits."""
        self._message_id += 1
        return self._message_id


def _read_scene(request: Mapping[str, Any]) -> tuple[int, str, bool]:
    """Scene id (0: none), scene text ("": none) and whether the code is permanent."""
    name = request.get("action_name")
    info = request.get("action_info")
    scene = info.get("scene") if isinstance(info, Mapping) else None
    if not isinstance(scene, Mapping):
        raise ApiError(40053)
    match name:
        case "QR_STR_SCENE" | "QR_LIMIT_STR_SCENE":
            text = scene.get("scene_str")
            if not isinstance(text, str) or not 1 <= len(text) <= MAX_SCENE_CHARACTERS:
                raise ApiError(40053)
            return 0, text, name == "QR_LIMIT_STR_SCENE"
        case "QR_SCENE" | "QR_LIMIT_SCENE":
            permanent = name == "QR_LIMIT_SCENE"
            number = scene.get("scene_id")
            if type(number) is not int or not 1 <= number <= (MAX_LIMIT_SCENE if permanent else MAX_SCENE_ID):
                raise ApiError(40053)
            return number, "", permanent
        case _:
            raise ApiError(40052)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
