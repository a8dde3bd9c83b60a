"""The texts of the pages and of the replies, in the language of whoever reads them.

Message ids are the English sentences, so English needs no catalogue. Every other language is one file,
`locale/<language>/LC_MESSAGES/saoma.po`, compiled in memory at start: adding a language touches no code.
"""

from __future__ import annotations

import gettext
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

DEFAULT_LANGUAGE = "zh-CN"
ENGLISH = "en"

_CATALOGUE = "LC_MESSAGES/saoma.po"
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")

# Browsers send far less; whatever lies beyond is not looked at.
_LONGEST_TAG = 35
_LONGEST_HEADER = 500


@dataclass(frozen=True)
class Texts:
    """The texts in one language. Call it with the English sentence."""

    language: str  # as HTML's `lang` wants it: "zh-CN"
    languages: tuple[tuple[str, str], ...]  # every language there is: its tag and its own name for itself
    _translations: gettext.NullTranslations = field(repr=False)
    _locale: Locale = field(repr=False)

    def __call__(self, message: str, /, **values: object) -> str:
        """The translation of `message`, with `{name}` replaced by `values["name"]`.

        Values are filled in last and never read again, so that one with braces in it stays what it is.
        """
        translated = self._translations.gettext(message) if message else ""
        if not values:
            return translated
        parts = list(_split(translated))
        for place in range(1, len(parts), 2):
            name = parts[place]
            parts[place] = str(values[name]) if name in values else f"{{{name}}}"
        return "".join(parts)

    def time(self, unix_seconds: float, timezone: str) -> str:
        return _time(int(unix_seconds), timezone, self._locale)


class Catalogues:
    """Every language that saoma speaks."""

    def __init__(self, translations: Mapping[str, gettext.NullTranslations]) -> None:
        everything = {ENGLISH: gettext.NullTranslations(), **translations}
        # "English" is what a language calls itself: the Chinese catalogue translates it as 简体中文.
        names = tuple((tag, _own_name(everything[tag])) for tag in sorted(everything, reverse=True))
        self._texts = {
            tag: Texts(tag, names, translation, Locale.parse(tag, sep="-"))
            for tag, translation in everything.items()
        }
        self.default = self._texts.get(DEFAULT_LANGUAGE, self._texts[ENGLISH])
        self._chosen = lru_cache(maxsize=256)(self._choose)  # browsers send the same few headers

    @classmethod
    def load(cls, directory: Path) -> Catalogues:
        """Reads every catalogue below `directory`; a faulty one raises here, at start."""
        return cls(
            {
                file.parent.parent.name.replace("_", "-"): _compile(file)
                for file in sorted(directory.glob(f"*/{_CATALOGUE}"))
            }
        )

    def of(self, language: str) -> Texts:
        """The texts in the language with exactly this tag, or in the default language."""
        return self._texts.get(language, self.default)

    def choose(self, requested: str | None, accept_language: str | None) -> Texts:
        """What the person asked for, else what the browser prefers, else the default.

        Both values come from strangers: whatever makes no sense is passed over.
        """
        return self._chosen(
            (requested or "")[: _LONGEST_HEADER + 1], (accept_language or "")[:_LONGEST_HEADER]
        )

    def _choose(self, requested: str, accept_language: str) -> Texts:
        for tag in (requested.strip(), *_preferences(accept_language)):
            texts = self._nearest(tag)
            if texts is not None:
                return texts
        return self.default

    def _nearest(self, tag: str) -> Texts | None:
        """The language itself, else one that shares its first part: en-GB gets en, zh-TW gets zh-CN."""
        if tag == "*":
            return self.default
        wanted = tag[: _LONGEST_TAG + 1].replace("_", "-").lower()
        if len(wanted) > _LONGEST_TAG:
            return None
        by_tag = {known.lower(): texts for known, texts in self._texts.items()}
        if wanted in by_tag:
            return by_tag[wanted]
        related = (texts for known, texts in by_tag.items() if known.split("-")[0] == wanted.split("-")[0])
        return next(related, None)


@lru_cache(maxsize=512)  # texts are ours: there are only so many
def _split(translated: str) -> tuple[str, ...]:
    """What is said, the names of placeholders at the odd places."""
    return tuple(_PLACEHOLDER.split(translated))


@lru_cache(maxsize=64)  # many logins are told of in one second
def _time(unix_seconds: int, timezone: str, locale: Locale) -> str:
    zone = ZoneInfo(timezone)
    moment = datetime.fromtimestamp(unix_seconds, zone)
    return format_datetime(moment, "medium", tzinfo=zone, locale=locale)


def _own_name(translations: gettext.NullTranslations) -> str:
    _ = translations.gettext
    return _("English")


def _compile(file: Path) -> gettext.GNUTranslations:
    with file.open("rb") as source:
        catalogue = read_po(source, abort_invalid=True)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def _preferences(accept_language: str) -> list[str]:
    """The tags of an Accept-Language header that are welcome, the most welcome first."""
    weighted: list[tuple[float, str]] = []
    for item in accept_language.split(","):
        tag, _, parameter = item.partition(";")
        weight = _weight(parameter)
        if weight > 0:
            weighted.append((weight, tag.strip()))
    return [tag for _, tag in sorted(weighted, key=lambda pair: -pair[0])]


def _weight(parameter: str) -> float:
    """The q value of an Accept-Language item: 1 if there is none, 0 (unwelcome) if it is not one."""
    if not parameter.strip():
        return 1.0
    found = re.fullmatch(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", parameter, re.IGNORECASE)
    return min(float(found[1]), 1.0) if found else 0.0
