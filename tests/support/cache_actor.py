"""Caches that do as they are told, step by step, in a process or a thread of their own.

    python -m tests.support.cache_actor

reads orders, one line of JSON each, and answers each with {"done": None}, or with the name of the
exception in place of None.  Before each save it writes {"replace": content} and asks what to do:
"go"; "fail" (the save raises, nothing is stored); or first any other order, which then is a nested
change.

After "begin" it is inside a transaction until the order "end".  After "fork" the child obeys, until
the order "leave".
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Protocol

from msal_extensions import FilePersistence, LockLost, PersistedTokenCache, PersistenceError
from msal_extensions.errors import StoreChanged
from tests.support.cache_model import NOW, Order
from tests.support.processes import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
LOGGER = logging.getLogger("msal_extensions")


class Channel(Protocol):
    """The actor's end of the connection to the test."""

    def say(self, message: Order) -> None: ...

    def hear(self) -> Order: ...


class Abandoned(BaseException):
    """The order to drop everything."""


class Left(BaseException):
    """The order, for a child, to leave everything that it inherited."""


class InTheBody(Exception):
    """An error of a program inside its own transaction."""


class _Here(threading.local):
    actor: Actor | None = None


_here = _Here()


class _Lines(logging.Handler):
    """Counts the log lines of each thread."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.of_threads: Counter[int] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.of_threads[threading.get_ident()] += record.levelno == logging.INFO


_lines = _Lines()


@contextlib.contextmanager
def acting(store: Any) -> Generator[None]:
    """In the block the actors decide about the saves of this class of stores, and count log
    lines."""
    replace, level = store.replace, LOGGER.level

    def asking(self: Any, data: bytes, **options: Any) -> Any:
        actor = _here.actor
        if actor is None:
            return replace(self, data, **options)
        actor.ask(data)
        try:
            return replace(self, data, **options)
        except (LockLost, StoreChanged):
            actor.is_refused = True
            raise

    store.replace = asking
    LOGGER.addHandler(_lines)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        store.replace = replace
        LOGGER.removeHandler(_lines)
        LOGGER.setLevel(level)


class Actor:
    """Obeys orders.

    :param make: Makes the persistence for an "open", and says where its lock file is.
    """

    def __init__(self, channel: Channel, make: Callable[[Order], tuple[Any, str | None]]) -> None:
        self._channel, self._make = channel, make
        self._caches: list[PersistedTokenCache] = []
        self._is_child = self._is_over = False
        #: Did the store refuse the last save?
        self.is_refused = False
        _here.actor = self

    def run(self) -> None:
        """Obeys until the connection ends."""
        with contextlib.suppress(EOFError):
            while True:
                try:
                    self._is_over = False
                    self._obey(self._channel.hear())
                except (Abandoned, Left):
                    if self._is_child:
                        os._exit(0)
                    self._channel.say({"idle": True})

    def ask(self, data: bytes) -> None:
        """Asks the test what to do before these bytes are stored."""
        if self._is_over:
            if self._is_child:
                os._exit(4)  # a child that leaves has nothing to save
            raise Abandoned
        self._say({"replace": data.decode()})
        while True:
            order = self._channel.hear()
            if order["do"] == "go":
                return
            if order["do"] == "fail":
                raise PersistenceError(errno.ENOSPC, "No space left on device", "made up")
            self._obey(order)

    def _obey(self, order: Order) -> None:
        answer: Order = {"done": None}
        try:
            answer["found"] = self._do(order)
        except Exception as error:
            if self._is_child and self._is_over:
                os._exit(3)  # leaving raised an error
            if self._is_over:
                raise Abandoned from None
            answer = {"done": type(error).__name__, "words": str(error)}
        self._say(answer)

    def _say(self, message: Order) -> None:
        """Sends a message, with the number of log lines since the last message, and whether the
        store refused the last save."""
        lines = _lines.of_threads.pop(threading.get_ident(), 0)
        self._channel.say({**message, "lines": lines, "refused": self.is_refused})
        self.is_refused = False

    def _do(self, order: Order) -> Any:
        do = order["do"]
        if do == "open":
            self._caches = []
            for _ in range(order["caches"]):
                self._caches.append(PersistedTokenCache(*self._make(order)))
            return None
        if do == "abandon":
            self._is_over = True
            raise Abandoned
        if do == "leave":
            self._is_over = True
            raise Left
        if do == "fork":
            return self._fork()
        return self._use(do, order, self._caches[order["cache"]])

    def _use(self, do: str, order: Order, cache: PersistedTokenCache) -> Any:
        if do == "begin":
            with cache.transaction(timeout=order.get("timeout")):
                self._say({"done": None})
                while (told := self._channel.hear())["do"] != "end":
                    self._obey(told)
                if told["raises"]:
                    raise InTheBody
        elif do == "search":
            return list(cache.search(order["kind"]))
        elif do == "add":
            cache.add(order["event"], now=NOW)
        elif do == "bytes":
            cache.modify(order["kind"], order["entry"], {"extra": b"bytes"})
        elif do == "in place":
            key = cache.key_makers[order["kind"]](**order["entry"])
            found = list(cache.search(order["kind"]))
            mine = [each for each in found if cache.key_makers[order["kind"]](**each) == key]
            entry = mine[0] if mine else order["entry"]
            entry.update(order["new"])
            cache.modify(order["kind"], entry, order["new"])
        else:
            assert do == "modify", do
            cache.modify(order["kind"], order["entry"], order["new"])
        return None

    def _fork(self) -> None:
        child = os.fork()
        if child == 0:
            self._is_child = True
            self._say({"done": None})
            while True:
                self._obey(self._channel.hear())
        _, status = os.waitpid(child, 0)
        if status != 0:
            raise ChildProcessError(f"the child ended with {os.waitstatus_to_exitcode(status)}")


class _Pipes:
    """A ``Channel`` over standard input and output."""

    def say(self, message: Order) -> None:
        print(json.dumps(message), flush=True)

    def hear(self) -> Order:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        order: Order = json.loads(line)
        return order


class Acting(Protocol):
    """An actor, from the side of the test."""

    @property
    def pid(self) -> int: ...

    def tell(self, order: Order) -> None: ...

    def hear(self) -> Order: ...

    def start_over(self) -> None:
        """Drops everything that is going on in the actor."""

    def close(self) -> None: ...


class ActingProcess:
    """An actor in a process."""

    def __init__(self) -> None:
        self._process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.cache_actor"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, order: Order) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Order:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process has ended"
        message: Order = json.loads(line)
        return message

    def start_over(self) -> None:
        self.close()
        self._process = self._started()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=PATIENCE)


class ActingThread:
    """An actor in a thread.  The object is the test's end; ``_End`` is the actor's."""

    def __init__(self, make: Callable[[Order], tuple[Any, str | None]]) -> None:
        self._orders: queue.Queue[Order | None] = queue.Queue()
        self._messages: queue.Queue[Order] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=[make], daemon=True)
        self._thread.start()
        self.pid = os.getpid()

    def _run(self, make: Callable[[Order], tuple[Any, str | None]]) -> None:
        Actor(_End(self._messages, self._orders), make).run()

    def tell(self, order: Order) -> None:
        self._orders.put(order)

    def hear(self) -> Order:
        return self._messages.get(timeout=PATIENCE)

    def start_over(self) -> None:
        self.tell({"do": "abandon"})
        while "idle" not in self.hear():
            pass

    def close(self) -> None:
        self._orders.put(None)
        self._thread.join(PATIENCE)


class _End:
    """A ``Channel`` over two queues."""

    def __init__(self, messages: queue.Queue[Order], orders: queue.Queue[Order | None]) -> None:
        self._messages, self._orders = messages, orders

    def say(self, message: Order) -> None:
        self._messages.put(message)

    def hear(self) -> Order:
        order = self._orders.get()
        if order is None:
            raise EOFError
        return order


def main() -> None:
    from msal_extensions._stores.file import FileStore

    def make(order: Order) -> tuple[Any, str | None]:
        return FilePersistence(order["location"]), order["lock"]

    with acting(FileStore):
        Actor(_Pipes(), make).run()


if __name__ == "__main__":
    main()
