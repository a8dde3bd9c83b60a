"""Draws the transition table as a Mermaid state diagram: `make diagram` puts it into the docs."""

from __future__ import annotations

import sys
from pathlib import Path

from tickets.states import FINAL, TRANSITIONS, State

BEGIN = "<!-- ticket diagram: drawn by `make diagram`, do not edit -->"
END = "<!-- end of ticket diagram -->"


def draw() -> str:
    """The diagram as a fenced Mermaid block."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.WAITING}"]
    lines += [f"    {source} --> {target}: {event}" for (source, event), target in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL and state is not State.INVALID]
    return "\n".join([*lines, "```"])


def insert(page: str) -> str:
    """`page` with the text between the two markers replaced. Raises ValueError where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("the page has no place marked for the diagram")
    return f"{before}{BEGIN}\n{draw()}\n{END}{after}"


def main(arguments: list[str]) -> None:
    if not arguments:
        print(draw())
    for name in arguments:
        path = Path(name)
        path.write_text(insert(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
