"""Tornado alone, what all figures are compared with: `python -m benchmarks.bare PORT`.

As Tornado's own documentation starts it; it writes no line a request. `/page` is an ordinary page without any
code, `/page/{maker}` the same with one that is made for it; every other address does nothing.
"""

from __future__ import annotations

import asyncio
import io
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyqrcode
import segno
import zxingcpp
from tornado.web import Application, RequestHandler

CODE = "https://login.example.com/s/"


class Nothing(RequestHandler):
    def get(self) -> None:
        pass

    def post(self) -> None:
        pass


class Page(RequestHandler):
    """As long as our login page without its code."""

    def get(self, maker: str = "") -> None:
        ticket = secrets.token_urlsafe(18)
        self.render(
            "page.html",
            language="zh-CN",
            title="登录 saoma",
            site="saoma",
            ticket=ticket,
            state="WAITING",
            seconds=300,
            next="/",
            steps=["打开手机上的应用", "扫描二维码", "在手机上确认"],
            languages=[("zh-CN", "简体中文"), ("en", "English")],
            code=MAKERS[maker](CODE + ticket) if maker else "",
        )


def by_pyqrcode(text: str) -> str:
    stream = io.BytesIO()
    code = pyqrcode.create(text, error="M", encoding="utf-8")
    code.svg(stream, scale=1, quiet_zone=4, background="#fff", omithw=True, xmldecl=False)
    return stream.getvalue().decode()


def by_segno(text: str) -> str:
    stream = io.BytesIO()
    code = segno.make(text, error="m", micro=False, boost_error=False)
    code.save(stream, kind="svg", border=4, light="#fff", omitsize=True, xmldecl=False)
    return stream.getvalue().decode()


def by_zxing(text: str) -> str:
    code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    return zxingcpp.write_barcode_to_svg(code, add_quiet_zones=True)


MAKERS: dict[str, Callable[[str], str]] = {"pyqrcode": by_pyqrcode, "segno": by_segno, "zxing-cpp": by_zxing}


async def serve(port: int, application: Application) -> None:
    application.listen(port, "127.0.0.1")
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await told.wait()


if __name__ == "__main__":
    pages = Application(
        [(r"/page", Page), (rf"/page/({'|'.join(MAKERS)})", Page), (r"/.*", Nothing)],
        template_path=str(Path(__file__).parent),
    )
    asyncio.run(serve(int(sys.argv[1]), pages))
