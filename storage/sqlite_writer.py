"""The one thread that speaks to SQLite: concurrent callers' work is grouped into one durable transaction.

One connection only: Debian 12's SQLite 3.40.1 can lose a WAL reset between two of them, and a single writer
needs no second. Work is a coroutine that waits for nothing but its transaction, so the thread runs it to
its end in one step. Work that takes long, a copy of the file, stands aside between its own steps.

What a loop asks for in one of its turns is handed over together: waking the thread costs more than the work.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from errors import SaomaError, StoreUnavailable
from wheel import Wheel

Result = TypeVar("Result")
Work = Callable[[], Coroutine[Any, Any, Any]]
Aside = Callable[[Callable[[], None]], Any]  # is given what to call between its steps

MAX_GROUP = 256  # pieces of work in one transaction; bounds how long the first one waits

# Errors of one piece of work: the database itself is well.
_OF_THE_VALUES = (sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError)

log = logging.getLogger("saoma.storage")


class _Caller:
    """One loop, which asks and is answered."""

    def __init__(self, put: Callable[[Sequence[_Asked]], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel()
        self._put = put
        self._asked: list[_Asked] = []  # in this turn of the loop

    def ask(self, job: _Asked) -> None:
        if not self._asked:
            self.loop.call_soon(self.hand_over)
        self._asked.append(job)

    def settle(self, jobs: Sequence[_Asked]) -> None:
        for job in jobs:
            self.wheel.discard(job, job.slot)
            if job.future.done():  # given up, or cancelled: the caller has gone
                continue
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)

    def hand_over(self) -> None:
        asked, self._asked = self._asked, []
        self._put(asked)


@dataclass(slots=True, eq=False)
class _Asked:
    caller: _Caller
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    slot: int = 0  # of the caller's wheel

    def due(self) -> None:
        """The caller is told that there is no answer; the work may still be done."""
        if not self.future.done():
            self.future.set_exception(StoreUnavailable())


@dataclass(slots=True, eq=False, kw_only=True)
class _Job(_Asked):
    work: Work


@dataclass(slots=True, eq=False, kw_only=True)
class _AsideJob(_Asked):
    work: Aside


class Writer:
    def __init__(
        self, connection: sqlite3.Connection, timeout: float, taken_back: Callable[[], None]
    ) -> None:
        """`timeout`: seconds after which whoever has submitted work is told that the store is away.

        `taken_back` is called, in the thread, where something that work has done is not there any more.
        """
        self._connection = connection
        self._timeout = timeout
        self._taken_back = taken_back
        self._callers = threading.local()  # each thread's one
        self._jobs: queue.SimpleQueue[Sequence[_Asked] | None] = queue.SimpleQueue()
        self._asides: collections.deque[_AsideJob] = collections.deque()
        self._stands_aside = False  # work is between two of its steps
        self._closed = False
        self._ended = False  # known to the thread alone
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """A future of the work's outcome, set when it is on the disk. Raises StoreUnavailable once closed."""
        caller = self._caller()
        job = _Job(caller, caller.loop.create_future(), work=work)
        job.slot = caller.wheel.add(job, self._timeout)
        caller.ask(job)
        return job.future

    def submit_aside(self, work: Aside) -> asyncio.Future[Any]:
        """As `submit`, outside of any transaction. `work` calls what it is given often: that serves the
        others, and raises StoreUnavailable once the store closes.
        """
        caller = self._caller()
        job = _AsideJob(caller, caller.loop.create_future(), work=work)
        caller.ask(job)
        return job.future

    def _caller(self) -> _Caller:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        caller: _Caller | None = getattr(self._callers, "mine", None)
        if caller is None or caller.loop is not asyncio.get_running_loop():
            caller = self._callers.mine = _Caller(self._jobs.put)
        return caller

    async def close(self) -> None:
        """Finishes what was submitted, but what stands aside, then closes the connection."""
        if not self._closed:
            self._caller().hand_over()
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not self._ended:
            self._serve(self._jobs.get())
            while self._asides:
                self._stand_aside(self._asides.popleft())
        self._connection.close()

    def _serve(self, asked: Sequence[_Asked] | None) -> None:
        """Commits what has come by now."""
        jobs: list[_Job] = []
        while asked is not None:
            for job in asked:
                match job:
                    case _Job():
                        jobs.append(job)
                    case _AsideJob():
                        self._asides.append(job)
            if len(jobs) >= MAX_GROUP:
                break
            try:
                asked = self._jobs.get_nowait()
            except queue.Empty:
                break
        else:
            self._ended = True
        for start in range(0, len(jobs), MAX_GROUP):
            group = jobs[start : start + MAX_GROUP]
            self._commit(group)
            self._deliver(group)

    def _stand_aside(self, job: _AsideJob) -> None:
        self._stands_aside = True
        try:
            self._see_that_it_goes_on()
            job.result = job.work(self._meanwhile)
        except BaseException as error:  # whatever it is, the thread goes on
            job.error = error
        self._stands_aside = False
        self._deliver([job])

    def _meanwhile(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._serve(self._jobs.get_nowait())
        self._see_that_it_goes_on()

    def _see_that_it_goes_on(self) -> None:
        if self._ended:
            raise StoreUnavailable("The store is closed.")

    def _commit(self, group: list[_Job]) -> None:
        try:
            # A copy begins anew at each roll-back.
            if self._stands_aside or not self._commit_as_one(group):
                self._commit_each_for_itself(group)
        except sqlite3.Error as error:
            log.error("the database refused a transaction: %s", error)
            self._taken_back()
            with contextlib.suppress(sqlite3.Error):  # it may have been rolled back already
                self._connection.execute("ROLLBACK")
            for job in group:
                job.error = StoreUnavailable()

    def _commit_as_one(self, group: list[_Job]) -> bool:
        """False, with nothing changed, where a job has failed that had changed something before."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        for job in group:
            changes = connection.total_changes
            if not self._do(job) and connection.total_changes != changes:
                connection.execute("ROLLBACK")
                self._taken_back()
                return False
        connection.execute("COMMIT")
        return True

    def _commit_each_for_itself(self, group: list[_Job]) -> None:
        """What failed is taken back, which costs the others a copy of each page that they change."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for job in group:
            execute("SAVEPOINT work")
            if not self._do(job):
                execute("ROLLBACK TO work")
                self._taken_back()
            execute("RELEASE work")
        execute("COMMIT")

    def _do(self, job: _Job) -> bool:
        """Whether it was done. Raises sqlite3.Error where the whole transaction is in doubt."""
        job.error = None
        try:
            job.result = _run_to_end(job.work())
        except BaseException as error:  # whatever it is, the thread goes on
            if isinstance(error, sqlite3.Error) and not isinstance(error, _OF_THE_VALUES):
                raise  # disk full, input or output error
            job.error = _in_our_words(error)
        return job.error is None

    def _deliver(self, group: Sequence[_Asked]) -> None:
        by_caller: dict[_Caller, list[_Asked]] = {}
        for job in group:
            by_caller.setdefault(job.caller, []).append(job)
        for caller, jobs in by_caller.items():
            try:
                caller.loop.call_soon_threadsafe(caller.settle, jobs)
            except RuntimeError:
                log.warning("a loop was closed before the store had answered it")


def _in_our_words(error: BaseException) -> BaseException:
    """Also what Python's driver says (each version differently) of values that cannot be stored."""
    match error:
        case SaomaError():  # no fault: its frames would hold this group, and be held by it
            return error.with_traceback(None)
        case sqlite3.InterfaceError() | sqlite3.ProgrammingError():
            return TypeError(f"not to be stored: {error}")
        case sqlite3.IntegrityError() | sqlite3.DataError():
            return ValueError(f"not to be stored: {error}")
    return error


def _run_to_end(coroutine: Coroutine[Any, Any, Result]) -> Result:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    coroutine.close()
    raise RuntimeError("work may wait for nothing but its transaction")
