"""How things are now: who is there, logins by the hour, WeChat."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from zoneinfo import ZoneInfo

from errors import Unauthenticated
from flows import admin_views
from flows.admin_views import HOUR
from handlers.admin.base import AdminHandler
from handlers.admin.charts import Column, columns, share
from handlers.admin.words import method_words, result_words
from storage.records import Tally

SPANS = (24, 72)  # hours that can be looked at
LABELS = {24: 4, 72: 12}  # hours from one label to the next
KINDS = ("good", "bad")  # the classes of a column's parts


class Overview(AdminHandler):
    room = "overview"

    async def get(self) -> None:
        asked = self.get_query_argument("hours", "")
        hours = next((span for span in SPANS if str(span) == asked), SPANS[0])
        first = int(self.context.now() // HOUR) - hours + 1
        tallies = await admin_views.tally(self.context, first, hours)
        state = self.services.platform_state
        self.render(
            "admin/overview.html",
            now=await admin_views.now(self.context),
            span=hours,
            spans=SPANS,
            chart=self._chart(tallies, first, hours),
            results=self._results(tallies),
            wechat=await state.look() if state is not None else None,
            time_words=self.time_words,
            settings=self.context.settings,
        )

    def _chart(self, tallies: Sequence[Tally], first: int, hours: int) -> str:
        texts, zone = self.texts(), ZoneInfo(self.context.settings.site.timezone)
        good, bad = Counter[int](), Counter[int]()
        for tally in tallies:
            (good if tally.result == "success" else bad)[tally.hour] += tally.count
        shown = []
        for hour in range(first, first + hours):
            begin = datetime.fromtimestamp(hour * HOUR, zone)
            words = texts(
                "{time}: {good} logged in, {bad} refused",
                time=f"{begin:%Y-%m-%d %H:%M}",
                good=good[hour],
                bad=bad[hour],
            )
            labelled = (begin.hour % LABELS[hours]) == 0
            label = f"{begin:%m-%d}" if begin.hour == 0 else f"{begin:%H:%M}"
            shown.append(Column(words, label if labelled else "", (good[hour], bad[hour])))
        title = texts("Logins in the last {hours} hours", hours=hours)
        description = texts(
            "{good} logged in and {bad} refused in all; at most {most} in one hour.",
            good=good.total(),
            bad=bad.total(),
            most=max(sum(column.counts) for column in shown),
        )
        return columns(title, description, KINDS, shown, texts("logins per hour"))

    def _results(self, tallies: Sequence[Tally]) -> list[tuple[str, str, int, str]]:
        """Method, result, how many, and a bar; the most first."""
        texts, counts = self.texts(), Counter[tuple[str, str]]()
        for tally in tallies:
            counts[tally.method, tally.result] += tally.count
        return [
            (method_words(texts, method), result_words(texts, result), count, share(count, counts.total()))
            for (method, result), count in counts.most_common()
        ]


class Now(AdminHandler):
    """The figures that move, for the page's script."""

    def turn_away(self) -> None:
        raise Unauthenticated

    async def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(asdict(await admin_views.now(self.context))))
