"""What is stored of people and their logins. Times are Unix seconds; hashes are SHA-256."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """What a platform tells of a person. Since 2021 WeChat leaves most of it blank."""

    nickname: str = ""
    picture: str = ""  # address at the platform; never handed to a browser
    country: str = ""
    province: str = ""
    city: str = ""

    def merged(self, newer: Profile) -> Profile:
        """`newer` over this one, field by field: a blank never erases what is known."""
        return Profile(
            nickname=newer.nickname or self.nickname,
            picture=newer.picture or self.picture,
            country=newer.country or self.country,
            province=newer.province or self.province,
            city=newer.city or self.city,
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who scanned, as the provider knows them."""

    provider: str  # "wechat"
    subject: str  # the openid
    following: bool
    event_at: float  # CreateTime of the newest event that was applied
    created_at: float
    profile: Profile = Profile()
    profile_at: float = 0.0  # when the platform was last asked; 0: never


@dataclass(frozen=True, slots=True)
class User:
    """A stored person: one identity or more."""

    id: str
    created_at: float
    identities: tuple[Identity, ...]  # the oldest first
    chosen_name: str = ""  # what the person wants to be called here
    unionid: str = ""  # the person across the accounts of one WeChat Open Platform account
    blocked: bool = False
    remark: str = ""  # what the team notes of them; never shown to them
    admin: bool = False  # may use /admin; never inherited in a merge
    login_count: int = 0
    last_login_at: float = 0.0
    previous_ids: tuple[str, ...] = ()  # of users that were merged into this one

    @property
    def name(self) -> str:
        """The chosen name, else the first nickname a platform told, else "" (show a neutral one)."""
        nicknames = (identity.profile.nickname for identity in self.identities)
        return self.chosen_name or next(filter(None, nicknames), "")

    @property
    def picture(self) -> str:
        """The first that a platform told, at the platform; "" where there is none."""
        pictures = (identity.profile.picture for identity in self.identities)
        return next(filter(None, pictures), "")

    def identity(self, provider: str, subject: str) -> Identity | None:
        wanted = (provider, subject)
        return next((known for known in self.identities if (known.provider, known.subject) == wanted), None)


@dataclass(frozen=True, slots=True)
class Session:
    """A logged-in browser or API client."""

    id: str
    token_hash: bytes
    ticket_id: str  # unique: a ticket is collected once
    user_id: str
    provider: str  # the method it was logged in by: an unfollow ends those of `wechat`
    client: str  # the ticket's
    site: str  # the ticket's
    created_at: float
    last_used_at: float
    expires_at: float  # the absolute end
    revoked: bool = False  # kept until its end, so that its ticket cannot be collected again
    agreed: bool = False  # the ticket's
    browser: str = ""  # of the ticket's device
    system: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A link sent to a phone: one purpose, one use."""

    token_hash: bytes
    purpose: str  # "not_me"
    ticket_id: str
    user_id: str
    created_at: float
    expires_at: float
    site: str = ""
    browser: str = ""
    system: str = ""
    address: str = ""
    used: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """One line of the login log."""

    id: str  # of the ticket and the result, so that a repeat is no second line
    at: float
    result: str  # "success", or the code of the refusal
    method: str
    user_id: str
    site: str
    browser: str
    system: str
    address: str
    expires_at: float  # when the line may go


@dataclass(frozen=True, slots=True)
class LoginFilter:
    """Which lines of the login log; what is None or "" does not narrow."""

    user_id: str | None = None
    result: str = ""
    method: str = ""
    since: float | None = None  # Unix seconds, included
    until: float | None = None  # not included


@dataclass(frozen=True, slots=True)
class Tally:
    """How many logins of one method had one result in one hour."""

    hour: int  # since 1970
    method: str
    result: str
    count: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change by an admin."""

    id: str
    at: float
    admin_id: str
    action: str  # "block", "unblock", "remark", "sign_out", "delete", …
    target: str  # the person's or the site's id
    detail: str
    address: str  # the admin's


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a site must be told, kept until it has been told or a day is over."""

    endpoint: str  # "webhook:shop" or "logout:shop": what kind, and the site's id
    id: str  # made from what happened, so that a repeat is no second notice; goes out as its name
    person: str  # one person's notices reach an endpoint one after the other
    event: str  # "user.followed", …
    payload: str  # JSON
    created_at: float
    due_at: float  # of the next attempt
    expires_at: float  # when the record may go
    attempts: int = 0
    state: str = "pending"  # then "delivered" or "failed"
    result: str = ""  # of the last attempt: "204", "timeout", …


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that tokens are signed with, sealed; its turn comes after everybody could learn of it."""

    slot: str  # "RS256/1": the first of its algorithm; only one node makes it
    id: str  # the JWK's `kid`
    algorithm: str  # "RS256" or "ES256"
    sealed: str  # the private JWK, encrypted under `server.secret_key`
    created_at: float
    signs_from: float
    signs_until: float
    expires_at: float  # when its public part is no longer published
