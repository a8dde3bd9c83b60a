"""A person scanned a code of ours with WeChat: followed by it, or follows already."""

from __future__ import annotations

from dataclasses import dataclass, field

from errors import TicketUnknown, TransitionRefused
from flows.confirm import is_asked_for, question
from flows.context import Context
from flows.login_log import note_refusal
from flows.not_me import new_link
from flows.people import meet
from flows.transition import moved
from storage.base import Transaction
from storage.records import User
from tickets import Event, Scanner, State, Ticket, advance
from translations import Texts
from wechat.messages import Action, Message

PROVIDER = "wechat"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a delivery led to."""

    reply: str = ""  # text for the person; "": nothing to say
    changed: list[str] = field(default_factory=list)  # ids of tickets whose waiters must look again
    met: User | None = None  # the person, where their profile may be worth fetching
    message: str = ""  # text that goes to them by a message of the account's own


async def seen_following(transaction: Transaction, context: Context, message: Message) -> User:
    """The person, stored or refreshed as following at the time of the event."""
    return await meet(
        transaction,
        context,
        PROVIDER,
        message.openid,
        event_at=message.created_at,
        follows=message.action in (Action.FOLLOW, Action.FOLLOW_BY_CODE),
    )


async def scanned(transaction: Transaction, context: Context, message: Message, scene: str) -> Outcome:
    """The scan and, with no confirmation switched on, the login in one step."""
    now = context.now()
    user = await seen_following(transaction, context, message)
    identity = user.identity(PROVIDER, message.openid)
    if identity is None or not identity.following:
        return Outcome()  # older than an unfollow that was applied already
    ticket = await transaction.tickets.get(scene, now=now)
    texts = context.catalogues.of(ticket.language if ticket else "")
    if ticket is None or not _carries_our_code(context, ticket, message):
        return Outcome(texts("This code has expired. Refresh the page and scan again."), met=user)
    if user.blocked:
        await note_refusal(transaction, context, ticket, user, "blocked", "blocked")
        return Outcome(texts("You cannot log in here. Please ask the site's team."))
    scanner = Scanner(PROVIDER, message.openid)
    asked = await is_asked_for(transaction, context, ticket, user)

    def change(known: Ticket) -> Ticket:
        known = advance(known, Event.SCAN, now, scanner=scanner, user_id=user.id)
        return known if asked else advance(known, Event.CONFIRM, now, scanner=scanner, agreed=False)

    try:
        ticket = await moved(transaction, context, scene, change, now=now)
        if ticket.state is State.CONSUMED:
            raise TransitionRefused("It has been collected, and may have been ended since.")
    except TicketUnknown:
        return Outcome(texts("This code has expired. Refresh the page and scan again."), met=user)
    except TransitionRefused:
        return Outcome(texts("This code has been used. Refresh the page and scan again."), met=user)
    if ticket.state is State.SCANNED:
        link = await question(transaction, context, ticket)
        hint = texts("One more step: open the next message to say whether this is you.")
        return Outcome(hint, [ticket.id], user, _asked(context, texts, ticket, link))
    link = await new_link(transaction, context, ticket)
    return Outcome(_told(context, texts, ticket, link, now), [ticket.id], user)


def site_name(context: Context, site_id: str) -> str:
    """What a person calls the site that a ticket is for."""
    names = {site.id: site.name for site in context.settings.sites}
    return names.get(site_id, context.settings.site.name)


def _carries_our_code(context: Context, ticket: Ticket, message: Message) -> bool:
    # In plain mode the signature covers no body: the event must at least know WeChat's own ticket, which the
    # codes of the app do not have.
    if ticket.method != PROVIDER:
        return False
    return context.settings.wechat.mode != "plain" or message.ticket == ticket.code_ticket


def _asked(context: Context, texts: Texts, ticket: Ticket, link: str) -> str:
    """What wants to be logged in, and where to say yes or no."""
    lines = [
        texts("Log in to {site}?", site=plain(site_name(context, ticket.site))),
        *_described(context, texts, ticket, ticket.scanned_at),
        "",
        texts("Is this you? Say yes or no here: {link}", link=link),
    ]
    return "\n".join(lines)


def _told(context: Context, texts: Texts, ticket: Ticket, link: str, now: float) -> str:
    """What was logged in, where and when, and how to end it (security rule 3)."""
    lines = [
        texts("You are logged in to {site}.", site=plain(site_name(context, ticket.site))),
        *_described(context, texts, ticket, now),
        "",
        texts("Not you? End it here: {link}", link=link),
    ]
    return "\n".join(lines)


def _described(context: Context, texts: Texts, ticket: Ticket, at: float) -> list[str]:
    device = ticket.device
    return [
        texts(
            "Browser: {browser}, {system}",
            browser=device.browser or texts("unknown browser"),
            system=device.system or texts("unknown system"),
        ),
        texts("Address: {address}", address=plain(device.address)),
        texts("Time: {time}", time=texts.time(at, context.settings.site.timezone)),
    ]


def plain(value: str) -> str:
    """Without `<`, `>`, and the control and format characters that could turn a text's direction."""
    if value.isascii() and value.isprintable() and "<" not in value and ">" not in value:
        return value
    return "".join(
        character
        for character in value
        if character not in "<>" and (character.isprintable() or character == " ")
    )
