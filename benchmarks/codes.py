"""QR codes beside those of pyqrcode, segno and zxing-cpp (C++).

All make codes of level M. Each round gives every maker a batch of fresh texts in turn, so that whatever else
the machine does falls on all alike. Times are the processor's, of this thread.
"""

from __future__ import annotations

import io
import secrets
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import pyqrcode
import segno
import zxingcpp

import codes
from benchmarks.measuring import SHORT, Plan
from benchmarks.results import Row
from codes.draw import prepare
from codes.symbols import MASK
from codes.writer import PNG_SCALE, QUIET_ZONE

HEADS = {
    "WeChat": ("http://weixin.qq.com/q/02", 15),  # bytes of the random end
    "own app": ("https://login.example.com/s/", 18),
}
VERSION = 4  # that these have
ROUNDS, SHORT_ROUNDS = 40, 2
BATCH_SECONDS = 0.01
PENALTY_CODES, SHORT_PENALTY_CODES = 150, 10  # for each of the heads
MEMORY_TEXTS = 10_000


@dataclass(frozen=True, slots=True)
class Work:
    maker: str
    product: str  # symbol, SVG or PNG
    make: Callable[[str], Any]


def works() -> list[Work]:
    symbols, _ = prepare(VERSION)

    def by_pyqrcode(text: str) -> Any:
        return pyqrcode.create(text, error="M", encoding="utf-8")

    def by_segno(text: str) -> Any:
        return segno.make(text, error="m", micro=False, boost_error=False)

    def by_zxing(text: str) -> Any:
        return zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level="M")

    def written(write: Callable[[io.BytesIO], Any]) -> bytes:
        stream = io.BytesIO()
        write(stream)
        return stream.getvalue()

    def segno_svg(text: str) -> bytes:
        code = by_segno(text)
        return written(lambda to: code.save(to, kind="svg", border=QUIET_ZONE, light="#fff", omitsize=True))

    def segno_png(text: str) -> bytes:
        code = by_segno(text)
        return written(lambda to: code.save(to, kind="png", border=QUIET_ZONE, scale=PNG_SCALE))

    def pyqrcode_svg(text: str) -> bytes:
        code = by_pyqrcode(text)
        return written(
            lambda to: code.svg(to, scale=1, quiet_zone=QUIET_ZONE, background="#fff", omithw=True)
        )

    def pyqrcode_png(text: str) -> bytes:
        code = by_pyqrcode(text)
        return written(lambda to: code.png(to, scale=PNG_SCALE, quiet_zone=QUIET_ZONE))

    def zxing_svg(text: str) -> Any:
        return zxingcpp.write_barcode_to_svg(by_zxing(text), add_quiet_zones=True)

    def zxing_pixels(text: str) -> Any:
        """It has no writer of PNG to memory; these are the bare pixels."""
        return zxingcpp.write_barcode_to_image(by_zxing(text), scale=PNG_SCALE, add_quiet_zones=True)

    return [
        Work("saoma", "symbol", lambda text: symbols.of(text.encode())),
        Work("saoma", "SVG", codes.svg),
        Work("saoma", "PNG", codes.png),
        Work("pyqrcode", "symbol", by_pyqrcode),
        Work("pyqrcode", "SVG", pyqrcode_svg),
        Work("pyqrcode", "PNG", pyqrcode_png),
        Work("segno", "symbol", by_segno),
        Work("segno", "SVG", segno_svg),
        Work("segno", "PNG", segno_png),
        Work("zxing-cpp", "symbol", by_zxing),
        Work("zxing-cpp", "SVG", zxing_svg),
        Work("zxing-cpp", "PNG", zxing_pixels),
    ]


def texts() -> Iterator[str]:
    """Fresh ones for ever, of all heads in turns."""
    while True:
        for head, size in HEADS.values():
            yield head + secrets.token_urlsafe(size)


def processor_seconds(make: Callable[[str], Any], batch: list[str]) -> float:
    start = time.thread_time()
    for text in batch:
        make(text)
    return time.thread_time() - start


def interleaved(rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds by maker and product: the median of the rounds."""
    fresh, todo = texts(), works()
    sizes = []
    for work in todo:
        once = min(processor_seconds(work.make, [next(fresh)]) for _ in range(3))
        sizes.append(max(1, min(500, int(BATCH_SECONDS / max(once, 1e-6)))))
    seen: list[list[float]] = [[] for _ in todo]
    for _ in range(rounds):
        for work, size, times in zip(todo, sizes, seen, strict=True):
            batch = [next(fresh) for _ in range(size)]
            times.append(1e6 * processor_seconds(work.make, batch) / size)
    found: dict[str, dict[str, float]] = {}
    for work, times in zip(todo, seen, strict=True):
        found.setdefault(work.maker, {})[work.product] = median(times)
    return found


def set_up() -> dict[str, float]:
    """Milliseconds that a version takes once in a process."""
    found = {}
    for version in (3, 4, 5, 10):
        start = time.thread_time()
        prepare.__wrapped__(version)
        found[str(version)] = 1e3 * (time.thread_time() - start)
    return found


def memory() -> int:
    """Bytes that version 4 has after that many texts of one head."""
    head, size = HEADS["own app"]
    tracemalloc.start()
    try:
        symbols, writer = prepare.__wrapped__(VERSION)
        for _ in range(MEMORY_TEXTS):
            writer.svg(symbols.of((head + secrets.token_urlsafe(size)).encode()))
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def penalties(number: int) -> dict[str, dict[str, float]]:
    """Means of the standard's penalty, as pyqrcode counts it: of our mask, of the best one, of all eight."""
    found = {}
    for name, (head, size) in HEADS.items():
        scores = []
        for _ in range(number):
            text = head + secrets.token_urlsafe(size)
            code = pyqrcode.create(text, error="M", encoding="utf-8")
            scores.append([sum(parts) for parts in code.builder.scores])
        found[name] = {
            "ours": mean(of_masks[MASK] for of_masks in scores),
            "best of eight": mean(map(min, scores)),
            "any": mean(map(mean, scores)),
        }
    return found


def run(plan: Plan) -> list[Row]:
    short = plan.rounds == SHORT.rounds
    found = interleaved(SHORT_ROUNDS if short else ROUNDS)
    rows = [
        Row(f"code, {product}", facts={f"{maker}, CPU µs": of[product] for maker, of in found.items()})
        for product in ("symbol", "SVG", "PNG")
    ]
    facts = {f"set-up of version {version}, CPU ms": taken for version, taken in set_up().items()}
    facts[f"memory of version {VERSION} after {MEMORY_TEXTS:,} texts, kB"] = memory() / 1e3
    for name, of in penalties(SHORT_PENALTY_CODES if short else PENALTY_CODES).items():
        facts |= {f"penalty, {name}, mask: {which}": value for which, value in of.items()}
    return [*rows, Row("code", facts=facts)]
