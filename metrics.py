"""What Prometheus is told: how many and how long, never who.

Label values are names of ours (methods, states, handlers), so that no stranger can make new ones.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30)
_PERSON_SECONDS = (1, 2, 3, 5, 8, 13, 20, 30, 45, 60, 120, 300)  # what somebody with a phone takes


class Metrics:
    """One process's figures, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._logins = Counter(
            "saoma_logins", "Logins, by method and result.", ("method", "result"), registry=self._registry
        )
        self._tickets = Counter(
            "saoma_tickets", "States that tickets entered.", ("method", "state"), registry=self._registry
        )
        self._confirm_seconds = Histogram(
            "saoma_scan_to_confirm_seconds",
            "From the scan to the yes on the phone.",
            ("method",),
            buckets=_PERSON_SECONDS,
            registry=self._registry,
        )
        self._platform_calls = Counter(
            "saoma_platform_calls",
            "Calls to WeChat's API, by path and error code (0: none).",
            ("endpoint", "error"),
            registry=self._registry,
        )
        self._notices = Counter(
            "saoma_notices", "Attempts to tell a site.", ("kind", "outcome"), registry=self._registry
        )
        self._requests = Histogram(
            "saoma_request_duration_seconds",
            "Answered requests. Held ones (WebSockets, long polls) are not timed.",
            ("handler", "method", "status"),
            buckets=_REQUEST_SECONDS,
            registry=self._registry,
        )

        self._answered: dict[tuple[str, str, int], Histogram] = {}  # the library's own way takes longer

    def login(self, method: str, result: str) -> None:
        """`result`: "success", or the code of the refusal."""
        self._logins.labels(method, result).inc()

    def ticket_entered(self, method: str, state: str) -> None:
        self._tickets.labels(method, state).inc()

    def confirmed_after(self, method: str, seconds: float) -> None:
        self._confirm_seconds.labels(method).observe(seconds)

    def platform_called(self, path: str, error: str) -> None:
        """`error`: WeChat's code, "0" where there was none, "unreachable" where no answer came."""
        self._platform_calls.labels(path, error).inc()

    def notice_sent(self, kind: str, outcome: str) -> None:
        """`kind`: "webhook" or "logout"; `outcome`: "delivered", "retried" or "failed"."""
        self._notices.labels(kind, outcome).inc()

    def answered(self, handler: str, method: str, status: int, seconds: float) -> None:
        kind = handler, method, status
        series = self._answered.get(kind)
        if series is None:
            series = self._answered[kind] = self._requests.labels(handler, method, str(status))
        series.observe(seconds)

    def gauge(self, name: str, words: str, read: Callable[[], float]) -> None:
        """A figure that is read when it is asked for."""
        Gauge(f"saoma_{name}", words, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)
