"""Serves with a settings file, drains on SIGTERM. The command line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from tornado.netutil import bind_sockets

import collector
import config
import logs
from composition import Server, open_storage
from config import FaultySettings, Settings
from errors import StoreUnavailable

DEMO_PORT = 8888
BACKLOG = 4096  # connections that wait to be taken; beyond it a client tries again a second later
LISTED = 20  # of the webhooks' deliveries

log = logging.getLogger("saoma")


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT."""
    storage = await open_storage(settings)
    try:
        sockets = bind_sockets(settings.server.port, settings.server.address, backlog=BACKLOG)
    except OSError as error:
        await storage.close()
        raise FaultySettings(
            [f"server: cannot listen on {settings.server.address}:{settings.server.port} ({error.strerror})"]
        ) from None
    server = Server(settings, sockets=sockets, storage=storage, metrics_sockets=_metrics_sockets(settings))
    try:
        await server.reach()
    except StoreUnavailable:
        await storage.close()
        raise
    told = _told_to_stop()
    collector.install()
    server.start()
    log.info("serving %s (listening on %s:%d)", server.base_url, settings.server.address, server.port)
    for warning in settings.warnings:
        log.warning("%s", warning)
    await told.wait()
    log.info("stopping")
    await server.stop()


def _metrics_sockets(settings: Settings) -> list[socket.socket]:
    """None where that port is taken: another process of ours may have it, and logins go on without."""
    address, port = settings.metrics.address, settings.metrics.port
    try:
        return bind_sockets(port, address) if port else []
    except OSError as error:
        log.warning("no /metrics: cannot listen on %s:%d (%s)", address, port, error.strerror)
        return []


def _told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT from now on."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


async def _demo(port: int, given: Settings) -> None:
    from demo import demo  # with the emulator, which nothing else here needs

    await demo(port, given, _told_to_stop())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="server.py", description="saoma: scan a code, be logged in.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve with a settings file")
    serve.add_argument("--settings", type=Path, required=True, metavar="FILE")
    checking = commands.add_parser("check", help="look for faults in a settings file")
    checking.add_argument("--settings", type=Path, required=True, metavar="FILE")
    checking.add_argument("--online", action="store_true", help="try WeChat's API with the account too")
    demonstration = commands.add_parser("demo", help="server, emulated WeChat and phone: try it out")
    demonstration.add_argument("--port", type=int, default=DEMO_PORT, help="default: %(default)s")
    demonstration.add_argument(
        "--settings", type=Path, metavar="FILE", help="take its `sites` along, and where they are reached"
    )
    deliveries = commands.add_parser("webhooks", help="list what the sites were told, or send a test")
    deliveries.add_argument("--settings", type=Path, required=True, metavar="FILE")
    deliveries.add_argument("--site", metavar="ID", help="of this site only")
    deliveries.add_argument("--limit", type=int, default=LISTED, metavar="N", help="default: %(default)s")
    deliveries.add_argument("--test", metavar="ID", help="send this site's webhook a test event now")
    entering = commands.add_parser("admin-link", help="print a link that makes an admin")
    entering.add_argument("--settings", type=Path, required=True, metavar="FILE")
    copying = commands.add_parser("backup", help="copy the database while the server runs")
    copying.add_argument("--settings", type=Path, required=True, metavar="FILE")
    copying.add_argument("--to", type=Path, required=True, metavar="FILE", help="must not exist yet")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "demo":
            logs.set_up(logging.WARNING)
            asyncio.run(_demo(chosen.port, config.load(chosen.settings, {})))
            return 0
        settings = config.load(chosen.settings, os.environ)
        if chosen.command == "check":
            logs.set_up(logging.CRITICAL)
            from check import check

            return 0 if asyncio.run(check(settings, online=chosen.online)) else 1
        if chosen.command == "webhooks":
            logs.set_up(logging.CRITICAL)
            from notices import webhooks

            fine = asyncio.run(webhooks(settings, site_id=chosen.site, limit=chosen.limit, test=chosen.test))
            return 0 if fine else 1
        if chosen.command == "admin-link":
            logs.set_up(logging.CRITICAL)
            from admin_link import admin_link

            return 0 if asyncio.run(admin_link(settings)) else 1
        if chosen.command == "backup":
            logs.set_up(logging.CRITICAL)
            from backup import backup

            return 0 if asyncio.run(backup(settings, chosen.to)) else 1
        logs.set_up(kind=settings.logs.format)
        asyncio.run(run(settings))
    except FaultySettings as error:
        for fault in error.faults:
            print(f"FAULT  {fault}", file=sys.stderr)
        return 2
    except StoreUnavailable as error:
        print(f"FAULT  storage: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
