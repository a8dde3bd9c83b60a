"""Catalogues: which language is chosen, how texts are filled, and that no sentence is left untranslated."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import PoFileError, read_po
from tornado.template import Loader

import errors
from errors import SaomaError
from translations import Catalogues
from wechat.api import PLAIN_WORDS
from wechat.client import PlatformUnreachable

ROOT = Path(__file__).parent.parent
ERRORS = {
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, SaomaError)
}
CALLS: dict[str, tuple[int, ...] | None] = {"_": None, "texts": None}
# The login page shows what this one is raised with. What others are raised with is mostly for programs, whose
# problems are in English: it may be translated.
PROBLEMS = CALLS | {"MethodUnavailable": None}
RAISED: dict[str, tuple[int, ...] | None] = dict.fromkeys(error.__name__ for error in ERRORS)
# Error pages carry the names of these as titles.
TITLES = {HTTPStatus(status).phrase for status in (400, 401, 403, 404, 405, 409, 421, 429, 500, 503)}
# Tests and what is not ours speak to nobody.
SILENT = {"tests", "benchmarks", "examples", ".venv"}


@pytest.fixture(scope="module")
def catalogues() -> Catalogues:
    return Catalogues.load(ROOT / "locale")


def messages_in(code: bytes, calls: dict[str, tuple[int, ...] | None]) -> Iterator[str]:
    for _line, message, _comments, _context in extract("python", io.BytesIO(code), keywords=calls):
        assert isinstance(message, str)
        if message:
            yield message


def messages_in_sources(calls: dict[str, tuple[int, ...] | None]) -> set[str]:
    found: set[str] = set()
    for source in ROOT.rglob("*.py"):
        top = source.relative_to(ROOT).parts[0]
        if top not in SILENT and not top.startswith("."):
            found.update(messages_in(source.read_bytes(), calls))
    return found


def messages_in_templates() -> set[str]:
    found: set[str] = set()
    templates = Loader(str(ROOT / "templates"))
    for source in (ROOT / "templates").rglob("*.html"):
        code = templates.load(str(source.relative_to(ROOT / "templates"))).code
        found.update(messages_in(code.encode(), CALLS))
    return found


def placeholders(message: str) -> set[str]:
    return set(re.findall(r"\{.*?\}", message))


@pytest.mark.parametrize("file", sorted((ROOT / "locale").glob("*/LC_MESSAGES/saoma.po")), ids=str)
def test_catalogue_has_exactly_the_messages_used(file: Path) -> None:
    with file.open("rb") as source:
        catalogue = read_po(source, abort_invalid=True)
    translated = {str(message.id): str(message.string) for message in catalogue if message.id}
    sources, templates = messages_in_sources(PROBLEMS), messages_in_templates()
    assert len(sources) > 10, "the extraction finds nothing in the sources"
    assert len(templates) > 50, "the extraction finds nothing in the templates"
    used = sources | templates | TITLES | {error.message for error in ERRORS}
    used |= {*PLAIN_WORDS.values(), PlatformUnreachable.plain_words}
    assert used - translated.keys() == set(), "not translated"
    assert translated.keys() - used - messages_in_sources(RAISED) == set(), "translated, but used nowhere"
    assert [message.id for message in catalogue if message.fuzzy and message.id] == []
    assert not catalogue.obsolete
    for english, other in translated.items():
        assert other, english
        assert placeholders(english) == placeholders(other), english


@pytest.mark.parametrize(
    ("requested", "accept_language", "language"),
    [
        (None, None, "zh-CN"),
        ("en", "zh-CN", "en"),
        ("zh_CN", "en", "zh-CN"),
        ("ZH-cn", "en", "zh-CN"),
        ("EN-gb", None, "en"),
        ("", "en", "en"),
        ("fr", "en-US,en;q=0.9", "en"),
        (None, "zh-TW,en;q=0.5", "zh-CN"),
        (None, "fr, de;q=0.8", "zh-CN"),
        (None, "zh;q=0.4, en;q=0.6", "en"),
        (None, "en;q=0, fr", "zh-CN"),
        (None, "*, en;q=0.5", "zh-CN"),
        (None, "fr, *;q=0.1, en;q=0.5", "en"),
        (None, "en;q=high, zh;q=0.1", "zh-CN"),
        (None, "en;q=nan", "zh-CN"),
    ],
)
def test_choice(
    catalogues: Catalogues, requested: str | None, accept_language: str | None, language: str
) -> None:
    assert catalogues.choose(requested, accept_language).language == language


@pytest.mark.parametrize(
    "value",
    [
        "../../etc/passwd",
        "en" + "-x" * 100_000,
        "\x00",
        "<script>",
        "en\r\nSet-Cookie: a=b",
        "😀",
        "\ud800",
        ",,,;;;===",
        ";q=1",
        "-" * 40,
        "_",
    ],
)
def test_hostile_languages_get_the_default(catalogues: Catalogues, value: str) -> None:
    assert catalogues.choose(value, None).language == "zh-CN"
    assert catalogues.choose(None, value).language == "zh-CN"
    assert catalogues.of(value).language == "zh-CN"


def test_of_wants_the_exact_tag(catalogues: Catalogues) -> None:
    assert catalogues.of("en").language == "en"
    assert catalogues.of("zh-CN").language == "zh-CN"
    assert catalogues.of("EN").language == "zh-CN"


def test_values_are_filled_in_after_translation_and_never_read_again(catalogues: Catalogues) -> None:
    message = "Log in to {site}"
    assert catalogues.of("zh-CN")(message, site="{site}{0.__class__}") == "登录 {site}{0.__class__}"
    assert catalogues.of("en")(message, site="<b>") == "Log in to <b>"
    assert catalogues.of("en")(message) == "Log in to {site}"
    assert catalogues.of("zh-CN")("Said nowhere {n}", n=3) == "Said nowhere 3"
    assert catalogues.of("zh-CN")("") == ""


def test_time_is_told_in_the_language_and_zone(catalogues: Catalogues) -> None:
    moment = 1_767_225_600
    assert catalogues.of("zh-CN").time(moment, "Asia/Shanghai") == "2026年1月1日 08:00:00"
    assert catalogues.of("en").time(moment, "UTC").replace("\u202f", " ") == "Jan 1, 2026, 12:00:00 AM"


def test_every_language_names_itself(catalogues: Catalogues) -> None:
    assert catalogues.of("en").languages == (("zh-CN", "简体中文"), ("en", "English"))


def test_a_new_language_is_a_new_file(tmp_path: Path) -> None:
    file = tmp_path / "fr" / "LC_MESSAGES" / "saoma.po"
    file.parent.mkdir(parents=True)
    file.write_text('msgid "English"\nmsgstr "Français"\n\nmsgid "Save"\nmsgstr "Enregistrer"\n', "utf-8")
    catalogues = Catalogues.load(tmp_path)
    assert catalogues.choose("fr-CA", None)("Save") == "Enregistrer"
    assert catalogues.default.language == "en"
    file.write_text('msgid "Save\n', "utf-8")
    with pytest.raises(PoFileError):
        Catalogues.load(tmp_path)
