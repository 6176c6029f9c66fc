"""How much may be spent in all: reserved before a call is sent, at its worst, and settled after it."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from concurrent.futures import Future
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.backends.wrappers.database import connected, transaction
from promptlab.backends.wrappers.signs import Sign, is_alive, signs
from promptlab.errors import BudgetExceeded, SetupError

NANO = 1_000_000_000  # money is counted in whole billionths of a dollar: sums are exact
SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (one INTEGER PRIMARY KEY CHECK (one = 1), calls, tokens, nano_usd);
CREATE TABLE IF NOT EXISTS held (id INTEGER PRIMARY KEY, calls, tokens, nano_usd, process);
INSERT OR IGNORE INTO spent VALUES (1, 0, 0, 0);
"""
TABLES = ("spent", "held")
WORDS = {"calls": "{:,} calls", "tokens": "{:,} tokens", "nano_usd": "${:,.6f}"}
SINGULAR = {"1 calls": "1 call", "1 tokens": "1 token"}


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
        given = {"calls": calls, "tokens": tokens, "usd": usd, "seconds": seconds}
        if wrong := [f"{name}={limit!r}" for name, limit in given.items() if not _is_limit(limit, name)]:
            raise SetupError(
                f"A budget is a number, 0 or more, and of calls and tokens a whole one; got {', '.join(wrong)}. "
                "What is not limited is left out."
            )
        if path is not None and (not isinstance(path, str | Path) or Path(path).is_dir()):
            raise SetupError(f"A budget is kept in a file: path={path!r} is none.")
        self.limits = {"calls": calls, "tokens": tokens, "nano_usd": None if usd is None else math.floor(usd * NANO)}
        self.seconds, self.path = seconds, None if path is None else Path(path).resolve()
        self._began: float | None = None
        self._start()

    def _start(self) -> None:
        self._forked = threading.Lock()
        self._open()

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._settled: Future[None] = Future()  # once a call is, and there may be more room
        if self.path is None:
            self._db = connected(":memory:", "budget", SCHEMA, TABLES)
        else:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._db = connected(str(self.path), "budget", SCHEMA, TABLES)
                with transaction(self._db):  # nobody takes a sign for one of the dead that is just being made
                    for name in signs(self.path):
                        is_alive(self.path, name)
                    self._bury()
                    self._sign = Sign(self.path)
            except (sqlite3.Error, OSError) as error:
                raise SetupError(f"The budget in {self.path} cannot be kept: {error}. Give another path.") from error
        self._process = os.getpid()

    def _here(self) -> None:
        """A forked process opens the file anew. Raises SetupError where there is none."""
        if self._process == os.getpid():
            return
        if self.path is None:
            raise SetupError("A budget without a `path` cannot be shared with a forked process: give it one.")
        with self._forked:
            if self._process != os.getpid():
                self._db.close()  # first: of a file that is open already SQLite takes the locks to be its own
                self._open()

    def __repr__(self) -> str:
        said = [self._said(name) for name, limit in self.limits.items() if limit is not None]
        return f"Budget({', '.join(said + ([] if self.seconds is None else [f'{self.seconds:g} seconds']))})"

    def __getstate__(self) -> dict[str, Any]:
        if self.path is None:
            raise SetupError("A budget without a `path` cannot be shared with another process: give it one.")
        return {"limits": self.limits, "seconds": self.seconds, "path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _began=None)
        self._start()

    @property
    def spent(self) -> Amount:
        """What has been spent, without what is in flight."""
        self._here()
        with self._lock:
            return self._spent()

    def _spent(self) -> Amount:
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

    def reserve(self, most: Amount) -> int | Future[None]:
        """A hold on so much; where it may become possible later, what is done once a call of this process is settled.

        Raises BudgetExceeded where it never will.
        """
        self._here()
        left = self.left_s()
        if left is not None and left <= 0:
            raise BudgetExceeded(f"the budget of {self.seconds:g} seconds is over")
        with self._lock, transaction(self._db):
            spent = self._spent()
            if over := self._over(spent + most):
                name, least = over, float(getattr(spent + most, over))
                if over == "nano_usd":
                    name, least = "usd", least / NANO
                raise BudgetExceeded(self._told(over, spent, most), least=(name, least))
            if self._over(spent + self._held() + most):
                self._bury()
                return self._settled
            row = (*most, self._sign.name if self.path else "")
            insert = "INSERT INTO held (calls, tokens, nano_usd, process) VALUES (?, ?, ?, ?)"
            return int(self._db.execute(insert, row).lastrowid or 0)

    def settle(self, hold: int, actual: Amount) -> None:
        """The hold's call is done, and came to this."""
        self._here()
        with self._lock:
            with transaction(self._db):
                if self._db.execute("DELETE FROM held WHERE id = ?", (hold,)).rowcount:  # or buried, as spent
                    self._spend(actual)
            settled, self._settled = self._settled, Future()
        settled.set_result(None)

    def _held(self, where: str = "", *values: Any) -> Amount:
        sums = "COALESCE(SUM(calls), 0), COALESCE(SUM(tokens), 0), COALESCE(SUM(nano_usd), 0)"
        return Amount(*self._db.execute(f"SELECT {sums} FROM held {where}", values).fetchone())

    def _spend(self, amount: Amount) -> None:
        add = "UPDATE spent SET calls = calls + ?, tokens = tokens + ?, nano_usd = nano_usd + ?"
        self._db.execute(add, amount)

    def _bury(self) -> None:
        """What processes held that are no more is spent: their calls may have been served."""
        for (name,) in self._db.execute("SELECT DISTINCT process FROM held").fetchall():
            if self.path is not None and not is_alive(self.path, str(name)):
                self._spend(self._held("WHERE process = ?", name))
                self._db.execute("DELETE FROM held WHERE process = ?", (name,))

    def _over(self, total: Amount) -> str | None:
        """Which limit a total is above."""
        for name, limit in self.limits.items():
            if limit is not None and getattr(total, name) > limit:
                return name
        return None

    def _told(self, name: str, spent: Amount, most: Amount) -> str:
        needed = f"this call may take {self._amount(name, getattr(most, name))}"
        gone = self._amount(name, getattr(spent, name))
        return f"{gone} of {self._said(name)} {'are' if gone.endswith('s') else 'is'} spent, and {needed}"

    def _said(self, name: str) -> str:
        return self._amount(name, self.limits[name] or 0)

    @staticmethod
    def _amount(name: str, value: int) -> str:
        said = WORDS[name].format(value / NANO if name == "nano_usd" else value)
        return SINGULAR.get(said, said)


def _is_limit(given: Any, name: str) -> bool:
    if given is None or isinstance(given, bool):
        return given is None
    return isinstance(given, Integral if name in ("calls", "tokens") else Real) and 0 <= float(given) * NANO < math.inf
