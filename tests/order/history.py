"""What was seen of concurrent logins from outside: who asked for what, when, and what they were told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class Operation:
    """One question and its answer. `began` and `ended` are places in the order that everybody agrees on."""

    kind: str  # "issue", "scan", "confirm", "exchange", "who", … (`rules.py`)
    actor: str  # the person or the browser
    ticket: str = ""
    token: str = ""  # of a session: asked about, or given by an exchange
    former: tuple[str, ...] = ()  # tokens that the browser brought to an exchange
    began: int = 0
    began_at: float = 0.0  # Unix seconds
    ended: int | None = None  # None: no answer came
    ended_at: float = 0.0
    ok: bool = False  # what was asked for was done
    said: str = ""  # a ticket's state, the code of a refusal
    person: str = ""  # whom the answer names

    def __str__(self) -> str:
        words = (self.kind, self.actor, self.ticket, self.token, self.said, self.person)
        came = "" if self.ended is None else f"{self.ended} {'ok' if self.ok else 'no'}"
        return f"[{self.began}-{came}] {' '.join(filter(None, words))}"

    def before(self, other: Operation) -> bool:
        """Whether the answer was there before the other was asked."""
        return self.ended is not None and self.ended < other.began


@dataclass
class History:
    now: Callable[[], float]
    operations: list[Operation] = field(default_factory=list)
    _place: int = 0

    @contextmanager
    def record(self, kind: str, actor: str, ticket: str = "", **more: object) -> Iterator[Operation]:
        """An operation from here to the end of the block; one that raises has no answer."""
        operation = Operation(kind, actor, ticket, **more)  # type: ignore[arg-type]
        operation.began, operation.began_at = self._next(), self.now()
        self.operations.append(operation)
        yield operation
        operation.ended, operation.ended_at = self._next(), self.now()

    def _next(self) -> int:
        self._place += 1
        return self._place
