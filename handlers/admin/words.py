"""What stored codes are called on the operator's pages."""

from __future__ import annotations

from translations import Texts

METHODS = ("wechat", "app")
RESULTS = ("success", "blocked", "login_refused", "number_wrong")


def method_words(texts: Texts, method: str) -> str:
    return {"wechat": texts("WeChat"), "app": texts("Our app")}.get(method, method)


def result_words(texts: Texts, result: str) -> str:
    known = {
        "success": texts("logged in"),
        "blocked": texts("refused: blocked"),
        "login_refused": texts("refused: blocked, or not following any more"),
        "number_wrong": texts("refused: wrong numbers from the phone"),
    }
    return known.get(result, result)


def action_words(texts: Texts, action: str) -> str:
    known = {
        "became_admin": texts("became an admin by a link"),
        "make_admin": texts("made an admin"),
        "unmake_admin": texts("no admin any more"),
        "remark": texts("remark changed"),
        "block": texts("blocked"),
        "unblock": texts("unblocked"),
        "sign_out": texts("signed out everywhere"),
        "delete": texts("deleted"),
        "download_people": texts("list of people downloaded"),
        "download_logins": texts("login log downloaded"),
        "test_webhook": texts("test sent to the webhook"),
    }
    return known.get(action, action)


def state_words(texts: Texts, state: str) -> str:
    """Of a notice."""
    known = {
        "pending": texts("waiting"),
        "delivered": texts("delivered"),
        "failed": texts("given up"),
    }
    return known.get(state, state)
