"""No call is sent that a budget could not pay for, whatever it comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from promptlab.backends.wrappers.budget import NANO, Amount, Budget
from promptlab.backends.wrappers.worst import most_read, most_usd, most_written, usd_of
from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.errors import BudgetExceeded, ModelError, SetupError
from promptlab.options import name_of
from promptlab.types import Backend, Reply, Request, Usage

OTHERS_S = 0.05  # how often to look whether another process has settled its calls
NOTHING = (Usage(), None)
SOON_S = 0.05  # before the end of a budget, by another clock than that which ended a call


class Budgeted(Wrapper):
    """A backend that shares a Budget with others; one that is spent answers BudgetExceeded, and sends nothing.

    Before a request is sent the most that it can come to is reserved: as many tokens as its text has bytes (exactly
    counted where the backend can), and the most it may write. So with a budget of tokens or money every request says
    `max_tokens`, unless the backend has a limit of its own. What is not used is given back; a request waits where
    that could make room for it. A call that was cut off, cancelled, whose answer cannot be read or does not tell what
    it took, or whose fate is not known counts at its most. Lines of batch jobs are reserved at the full price, as they
    may come to be asked live, and settled at theirs.

    Put it inside Retrying, which so pays for each try, and inside Cached, which pays for none. Budgets nest:
    Budgeted(Budgeted(model, one_part), the_whole). Raises SetupError for a budget in money and a model without a price.
    """

    def __init__(self, backend: Backend, budget: Budget) -> None:
        super().__init__(backend)
        self.budget = budget
        if budget.counts_money and usd_of(backend, Usage()) is None:
            raise SetupError(
                f"The price of {name_of(backend)} is not known, so a budget in dollars cannot be kept: give "
                'usd_per_million={"input": …, "output": …}, or a budget in tokens.'
            )

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        replies: dict[int, Reply | ModelError] = {}
        paid = zip(requests, inner.bought(requests), strict=True)
        most = [Amount() if bought else self._most(request) for request, bought in paid]
        todo = list(range(len(requests)))
        while todo:
            held, room = self._reserved(todo, most, replies)
            if held:
                replies |= await self._sent(held, requests, most, inner)
            elif room is not None:
                await self._until(room, inner)
            todo = [i for i in todo if i not in replies]
        return [replies[i] for i in range(len(requests))]

    def _reserved(
        self, todo: Sequence[int], most: Sequence[Amount], replies: dict[int, Reply | ModelError]
    ) -> tuple[dict[int, int], Future[None] | None]:
        """Holds for as many requests as there is room for now, and what to wait for where that is not all.

        Those there never will be room for are answered.
        """
        held: dict[int, int] = {}
        for i in todo:
            try:
                hold = self.budget.reserve(most[i])
            except BudgetExceeded as error:
                replies[i] = error
                continue
            if isinstance(hold, Future):
                return held, hold
            held[i] = hold
        return held, None

    async def _sent(
        self, held: Mapping[int, int], requests: Sequence[Request], most: Sequence[Amount], inner: Inner
    ) -> dict[int, Reply | ModelError]:
        open_holds = dict(held)
        try:
            answered = await inner.send([requests[i] for i in held], within=self.budget.left_s())
            told = any(_usage(reply) not in NOTHING for reply in answered)  # of one call's samples the first tells all
            for (i, hold), reply in zip(held.items(), answered, strict=True):
                self.budget.settle(hold, self._actual(reply, most[i], told))
                del open_holds[i]
        except TimeoutError:
            left = self.budget.left_s()
            if left is None or left > SOON_S:  # the backend's own
                raise
            error = BudgetExceeded(f"the budget of {self.budget.seconds:g} seconds ended before the reply came")
            answered = [error for _ in held]
        finally:
            for i, hold in open_holds.items():
                self.budget.settle(hold, most[i])
        return dict(zip(held, answered, strict=True))

    async def _until(self, room: Future[None], inner: Inner) -> None:
        """Wait until there may be more room: a call of ours, or of another process, was settled."""
        if self.budget.path is None:
            await inner.result(room)
        else:
            await inner.sleep(OTHERS_S)

    def _most(self, request: Request) -> Amount:
        """What a request can come to."""
        if not self.budget.counts_tokens:
            return Amount(1)
        written = most_written(self.backend, request)
        if written is None:
            raise SetupError(
                f"A budget of {'money' if self.budget.counts_money else 'tokens'} needs to know how much "
                f"{name_of(self.backend)} may write: ask with max_tokens=…."
            )
        read = most_read(self.backend, request)
        return Amount(1, read + written, math.ceil((most_usd(self.backend, read, written) or 0.0) * NANO))

    def _actual(self, reply: Reply | ModelError, most: Amount, told: bool) -> Amount:
        """What a call came to; `told` if it says how many tokens that were."""
        if most == Amount():  # paid for before
            return most
        usage = _usage(reply)
        if usage is not None and not told:
            return most
        if usage is not None:
            usd = usage.cost_usd if usage.cost_usd is not None else usd_of(self.backend, usage) or 0.0
            return Amount(1, usage.input_tokens + usage.output_tokens, round(usd * NANO))
        if isinstance(reply, BudgetExceeded):  # of a budget further in
            return Amount()
        return most if isinstance(reply, ModelError) and reply.maybe_served else Amount(1)


def _usage(reply: Reply | ModelError) -> Usage | None:
    """What a reply says that it took; None for what is no reply."""
    answered = reply if isinstance(reply, Reply) else reply.reply
    return None if answered is None else answered.usage
