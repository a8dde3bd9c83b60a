"""The kept inputs: one JSON file for each target, a string for each input, a character for each byte."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def load(target: str) -> list[bytes]:
    return [text.encode("latin-1") for text in json.loads((FOLDER / f"{target}.json").read_text("utf-8"))]


def save(target: str, inputs: Collection[bytes]) -> None:
    kept = [data.decode("latin-1") for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    text = json.dumps(kept, indent=0, ensure_ascii=True) + "\n"
    (FOLDER / f"{target}.json").write_text(text, encoding="utf-8")
