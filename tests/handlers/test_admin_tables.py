"""The CSV downloads: what a spreadsheet reads in them, and that they leave a line behind."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pytest
from tornado.simple_httpclient import HTTPStreamClosedError

from handlers.admin.people import PeopleTable
from handlers.admin.tables import encoded
from storage.base import MAX_PAGE
from tests.handlers.operators import an_admin, audit, press, who
from tests.harness import Browser, Whole
from tests.storage.samples import login

PEOPLE, LOGINS = "/admin/people.csv", "/admin/logins.csv"


async def table(browser: Browser, path: str, **filters: str) -> list[list[str]]:
    """As a spreadsheet reads it: the mark at the beginning says that it is UTF-8."""
    answer = await press(browser, path, **filters)
    assert answer.code == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=UTF-8"
    name = path.rpartition("/")[2]
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer.body.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(answer.body.decode("utf-8-sig"), newline="")))


async def crowd(whole: Whole, names: Sequence[str]) -> None:
    now = whole.server.context.now()

    async def work(transaction):
        for n, name in enumerate(names):
            user = await transaction.users.upsert_identity(
                "app", f"subject{n}", following=True, event_at=now, new_id=f"crowd{n:04}", now=now + n
            )
            await transaction.users.set_chosen_name(user.id, name)

    await whole.storage.transact(work)


async def test_a_thousand_people(whole):
    admin = await an_admin(whole)
    await crowd(whole, [f"张三{n}" for n in range(1000)])
    used = whole.transactions()
    headings, *rows = await table(admin, PEOPLE, q="张三")
    assert headings[:3] == ["Id", "Name", "Remark"]
    assert [row[:2] for row in rows] == [[f"crowd{n:04}", f"张三{n}"] for n in range(1000)]
    assert rows[0][3] == "app:subject0"
    assert len(used) >= 1000 / MAX_PAGE, "page by page"
    (line,) = await audit(whole)
    assert (line.action, line.target, line.detail) == ("download_people", "", "q=张三")
    assert line.admin_id == (await who(whole, 0)).id


async def test_it_is_sent_while_it_is_read(whole, monkeypatch):
    """What has been read of the store is on its way before the rest is asked for."""
    admin = await an_admin(whole)
    await crowd(whole, [f"row-{n}" for n in range(3 * MAX_PAGE)])
    order: list[str] = []
    flush, transact = PeopleTable.flush, whole.storage.transact

    def flushed(handler, *arguments, **named):
        order.append("sent")
        return flush(handler, *arguments, **named)

    async def read(work):
        if "people" in work.__qualname__:
            order.append("read")
        return await transact(work)

    monkeypatch.setattr(PeopleTable, "flush", flushed)
    monkeypatch.setattr(whole.storage, "transact", read)
    assert len(await table(admin, PEOPLE, q="row-")) == 1 + 3 * MAX_PAGE
    assert order == ["read", "sent"] * 3 + ["sent"]  # the end of the answer is the last piece


async def test_a_table_that_breaks_off_is_no_whole_one(whole, monkeypatch, expect_log):
    expect_log(r"people\.csv broke off")
    admin = await an_admin(whole)
    await crowd(whole, [f"row-{n}" for n in range(3 * MAX_PAGE)])
    transact, reads = whole.storage.transact, 0

    async def broken(work):
        nonlocal reads
        if "people" in work.__qualname__:
            reads += 1
            if reads == 2:
                raise OSError("the disk is gone")
        return await transact(work)

    monkeypatch.setattr(whole.storage, "transact", broken)
    with pytest.raises(HTTPStreamClosedError):  # the connection ends before the table does
        await press(admin, PEOPLE, q="row-")


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    '=HYPERLINK("https://evil.example","x")',
]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_text(text):
    ((cell,),) = csv.reader(io.StringIO(encoded([[text]]).decode(), newline=""))
    assert cell == f"'{text}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "张三",
        'a "quoted", b',
        "two\nlines",
        "1+1",
        "a=b",
        "😀",
    ],
)
def test_other_text_is_as_it_is(text):
    ((cell, _),) = csv.reader(io.StringIO(encoded([[text, "x"]]).decode(), newline=""))
    assert cell == text


async def test_formulas_of_strangers(whole):
    admin = await an_admin(whole)
    await crowd(whole, FORMULAS)
    _, *rows = await table(admin, PEOPLE, q="subject")
    assert [row[1] for row in rows] == [f"'{name}" for name in FORMULAS]


async def test_the_login_log(whole):
    admin = await an_admin(whole)
    now = whole.server.context.now()

    async def work(transaction):
        for n in range(450):
            line = login(f"x{n}", at=now - n, result="blocked", address=f"n{n}", expires_at=now * 2)
            await transaction.logins.append(line)

    await whole.storage.transact(work)
    headings, *rows = await table(admin, LOGINS, result="blocked", method="wechat")
    assert headings[:4] == ["Time", "Result", "Method", "Person"]
    assert [row[5] for row in rows] == [f"n{n}" for n in range(450)]
    assert {tuple(row[1:3]) for row in rows} == {("refused: blocked", "WeChat")}
    (line,) = await audit(whole)
    assert (line.action, line.detail) == ("download_logins", "result=blocked&method=wechat")
    _, *mine = await table(admin, LOGINS, person=whole.person())
    assert [row[1] for row in mine] == ["logged in"]


async def test_in_chinese(whole):
    admin = await an_admin(whole)
    admin.headers["Accept-Language"] = "zh-CN"
    headings, *_ = await table(admin, LOGINS)
    assert headings[:3] == ["时间", "结果", "方式"]


async def test_without_a_line_there_is_no_download(whole):
    """Who was made no admin meanwhile gets nothing either."""
    admin = await an_admin(whole)
    user = await who(whole, 0)
    beneath = whole.storage._storage  # where nobody renews the mark of what is remembered
    await beneath.transact(lambda t: t.users.set_admin(user.id, False))
    answer = await press(admin, PEOPLE)
    assert answer.code == 403
    assert answer.headers["Content-Type"].startswith("text/html")
    assert await audit(whole) == []
