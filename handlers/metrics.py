"""Figures for Prometheus, on a port of their own: who may look is settled by who can reach it."""

from __future__ import annotations

from tornado.web import Application, RequestHandler

from metrics import CONTENT_TYPE, Metrics


class Figures(RequestHandler):
    def initialize(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE)
        self.finish(self._metrics.text())


def make_metrics(metrics: Metrics) -> Application:
    return Application([(r"/metrics", Figures, {"metrics": metrics})], log_function=lambda handler: None)
