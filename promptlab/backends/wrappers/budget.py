"""How much may be spent in all: reserved before a call is sent, at its worst, and settled after it."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.backends.wrappers.record import transaction
from promptlab.errors import BudgetExceeded, SetupError

NANO = 1_000_000_000  # money is counted in whole billionths of a dollar: sums are exact
SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (one INTEGER PRIMARY KEY CHECK (one = 1), calls, tokens, nano_usd);
CREATE TABLE IF NOT EXISTS held (id INTEGER PRIMARY KEY, calls, tokens, nano_usd, process);
INSERT OR IGNORE INTO spent VALUES (1, 0, 0, 0);
"""
WORDS = {"calls": "{:,} calls", "tokens": "{:,} tokens", "nano_usd": "${:,.6f}"}


class Amount(NamedTuple):
    """What is spent: calls, tokens read and written, and billionths of a dollar."""

    calls: int = 0
    tokens: int = 0
    nano_usd: int = 0

    def __add__(self, other: Any) -> Amount:
        return Amount(*(a + b for a, b in zip(self, other, strict=True)))


class Budget:
    """The most that may be spent, by all who share it: threads, programs, optimisers, a whole study.

    `calls` are requests sent, failed ones among them; `tokens` those read and written; `usd` money; `seconds` the time
    from its first use in this process, at the end of which what is in flight is cut off. With `path` it is kept in a
    file that several processes may share, and that a restart goes on with: what was reserved by a process that was
    killed counts as spent. Without any limit it only counts: `spent` says what.
    """

    def __init__(
        self,
        *,
        calls: int | None = None,
        tokens: int | None = None,
        usd: float | None = None,
        seconds: float | None = None,
        path: str | Path | None = None,
    ) -> None:
        limits = {"calls": calls, "tokens": tokens, "usd": usd, "seconds": seconds}
        if wrong := [f"{name}={limit!r}" for name, limit in limits.items() if limit is not None and not limit >= 0]:
            raise SetupError(f"A budget is 0 or more, got {', '.join(wrong)}.")
        self.limits = {"calls": calls, "tokens": tokens, "nano_usd": None if usd is None else math.floor(usd * NANO)}
        self.seconds, self.path = seconds, path
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Future[None]] = []
        self._began: float | None = None
        if self.path is not None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            str(self.path or ":memory:"), timeout=60, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(SCHEMA)

    def __repr__(self) -> str:
        return f"Budget({', '.join(self._said(name) for name, limit in self.limits.items() if limit is not None)})"

    def __getstate__(self) -> dict[str, Any]:
        if self.path is None:
            raise SetupError("A budget without a `path` cannot be shared with another process: give it one.")
        return {"limits": self.limits, "seconds": self.seconds, "path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    @property
    def spent(self) -> Amount:
        """What has been spent, without what is in flight."""
        with self._lock:
            return Amount(*self._db.execute("SELECT calls, tokens, nano_usd FROM spent").fetchone())

    @property
    def usd(self) -> float:
        """What has been spent, in dollars."""
        return self.spent.nano_usd / NANO

    @property
    def counts_money(self) -> bool:
        return self.limits["nano_usd"] is not None

    @property
    def counts_tokens(self) -> bool:
        return self.counts_money or self.limits["tokens"] is not None

    def left_s(self) -> float | None:
        """Seconds that are left, None without end. The clock starts with the first call of this."""
        if self.seconds is None:
            return None
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        return self._began + self.seconds - now

    def reserve(self, most: Amount) -> int | None:
        """A hold on so much; None where it may become possible once other calls are settled.

        Raises BudgetExceeded where it never will.
        """
        left = self.left_s()
        if left is not None and left <= 0:
            raise BudgetExceeded(f"the budget of {self.seconds:g} seconds is over")
        with self._lock, transaction(self._db):
            spent = Amount(*self._db.execute("SELECT calls, tokens, nano_usd FROM spent").fetchone())
            sums = "SELECT COALESCE(SUM(calls), 0), COALESCE(SUM(tokens), 0), COALESCE(SUM(nano_usd), 0) FROM held"
            held = Amount(*self._db.execute(sums).fetchone())
            if over := self._over(spent + most):
                raise BudgetExceeded(self._told(over, spent, most))
            if self._over(spent + held + most):
                bury(self._db)
                return None
            row = (*most, os.getpid())
            insert = "INSERT INTO held (calls, tokens, nano_usd, process) VALUES (?, ?, ?, ?)"
            return self._db.execute(insert, row).lastrowid

    def settle(self, hold: int, actual: Amount) -> None:
        """The hold's call is done, and came to this."""
        with self._lock:
            with transaction(self._db):
                self._db.execute("DELETE FROM held WHERE id = ?", (hold,))
                self._db.execute(
                    "UPDATE spent SET calls = calls + ?, tokens = tokens + ?, nano_usd = nano_usd + ?", actual
                )
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            with suppress(Exception):  # its waiter was cancelled
                future.set_result(None)

    def change(self) -> Future[None]:
        """Done when a call of this process is settled."""
        with self._lock:
            future: Future[None] = Future()
            self._waiting.append(future)
        return future

    def _over(self, total: Amount) -> str | None:
        """Which limit a total is above."""
        for name, limit in self.limits.items():
            if limit is not None and getattr(total, name) > limit:
                return name
        return None

    def _told(self, name: str, spent: Amount, most: Amount) -> str:
        needed = f"this call may take {self._amount(name, getattr(most, name))}"
        return f"{self._amount(name, getattr(spent, name))} of {self._said(name)} are spent, and {needed}"

    def _said(self, name: str) -> str:
        return self._amount(name, self.limits[name] or 0)

    @staticmethod
    def _amount(name: str, value: int) -> str:
        return WORDS[name].format(value / NANO if name == "nano_usd" else value)


def bury(db: sqlite3.Connection) -> None:
    """What processes held that are no more is spent: their calls may have been served."""
    for (process,) in db.execute("SELECT DISTINCT process FROM held").fetchall():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            sums = "SUM(calls), SUM(tokens), SUM(nano_usd)"
            lost = db.execute(f"SELECT {sums} FROM held WHERE process = ?", (process,)).fetchone()
            db.execute("UPDATE spent SET calls = calls + ?, tokens = tokens + ?, nano_usd = nano_usd + ?", lost)
            db.execute("DELETE FROM held WHERE process = ?", (process,))
        except PermissionError:  # somebody else's, and alive
            continue
