"""Stock on counters that are not there: the test grants, refuses and takes back what the stock asks for."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.auth.principal import Principal
from gateway.limits.batches import tell
from gateway.limits.plan import LimitPlan, PlanBook
from gateway.limits.reservation import Place, Reservation, Used
from gateway.limits.shared import SharedCounters
from gateway.limits.stock import PART, Stock
from serving.contracts.limits import Limits, LimitScope
from serving.contracts.route import Price
from tests.fakes.limits import PricedRoute, rule

pytestmark = pytest.mark.asyncio
PRICED = PricedRoute(price=Price(input_usd_per_million_tokens=1.0, output_usd_per_million_tokens=2.0))


class Counters:
    """What a stock sees of `SharedCounters`."""

    epoch = b"one"

    def __init__(self) -> None:
        self.ordered: list[Reservation] = []
        self.given_back: list[Reservation] = []

    def reserve_ahead(self, reservation: Reservation) -> None:
        self.ordered.append(reservation)

    def settle(self, reservation: Reservation, used: Used, *, refund: bool) -> None:
        assert (used, refund) == ((0, 0, 0, 0), True)
        self.given_back.append(reservation)


class Site:
    def __init__(self) -> None:
        self.counters = Counters()
        self.stock = Stock(cast("SharedCounters", self.counters))
        self.book = PlanBook()
        self.book.use(Limits(rules=(rule(tokens_per_day=10), rule("t", LimitScope.TENANT, usd_per_day=10))))

    def plan(self, key: str = "key1") -> LimitPlan:
        return self.book.plan(Principal("bank", key_id=key), None, PRICED)

    def request(self, plan: LimitPlan, prompt: int = 100, output: int = 50) -> Reservation:
        wanted = Reservation(plan, 300, prompt, output)
        wanted.nano = plan.nano(prompt, output)
        return wanted

    def ask(self, plan: LimitPlan, spare: float, prompt: int = 100, output: int = 50) -> Reservation:
        """A request: taken from stock, or asked for and granted with that much to spare."""
        wanted = self.request(plan, prompt, output)
        found = self.stock.take(wanted)
        if found is not None:
            return found
        wanted.spare = spare
        self.stock.granted(wanted)
        return wanted

    def deliver(self, spare: float, *, granted: bool = True) -> int:
        """Answer all orders; returns their number."""
        ordered, self.counters.ordered = self.counters.ordered, []
        for reservation in ordered:
            reservation.place = Place.HELD if granted else Place.NOWHERE
            reservation.epoch, reservation.spare = self.counters.epoch, spare
            tell(reservation, None)
        return len(ordered)

    def fill(self, plan: LimitPlan, spare: float) -> int:
        """Ask until no more is made ahead; returns how many stand ready."""
        for _ in range(12):
            for _ in range(70):
                self.ask(plan, spare)
            self.deliver(spare)
        return len(self.stock._shelves[plan].ready)


@pytest.fixture
async def site() -> Site:
    return Site()


async def test_the_second_request_orders_and_the_third_takes(site: Site) -> None:
    """One request may be the last; of a second that comes soon one more is made ahead, for tokens and money alike."""
    plan = site.plan()
    site.ask(plan, 1e6)
    assert site.counters.ordered == []
    site.ask(plan, 1e6)
    (order,) = site.counters.ordered
    assert (order.tokens, order.nano) == (150, plan.nano(100, 50))
    site.deliver(1e6)
    taken = site.stock.take(site.request(plan, 90, 40))
    assert taken is order
    assert (taken.prompt_tokens, taken.output_tokens, taken.body_bytes, taken.tokens) == (90, 40, 300, 150)


@pytest.mark.parametrize(("spare", "most"), [(PART - 1, 0), (PART, 1), (PART * 5 + 1, 5), (1e12, 64)])
async def test_only_a_part_of_what_is_left_is_held(site: Site, spare: float, most: int) -> None:
    """However often a caller asks, what stands ready is bounded by what is left, and by a number."""
    plan = site.plan()
    if most:
        assert site.fill(plan, spare) == most
    else:
        for _ in range(10):
            site.ask(plan, spare)
        assert (site.counters.ordered, site.stock._shelves) == ([], {})


async def test_many_callers_of_one_counter_share_its_part(site: Site) -> None:
    """A hundred keys of one tenant hold together about what one would hold: a few parts, not a hundred."""
    plans = [site.plan(f"key{number}") for number in range(100)]
    for _ in range(6):
        for plan in plans:
            for _ in range(20):
                site.ask(plan, PART * 10)
        site.deliver(PART * 10)
    held = sum(len(shelf.ready) + shelf.coming for shelf in site.stock._shelves.values())
    assert held <= 30  # ten parts, and what the first ones held before the others came


async def test_less_room_gives_back_at_once(site: Site) -> None:
    """When a grant says that little is left, what is held above its part is given back, the oldest first."""
    plan = site.plan()
    site.fill(plan, PART * 8)
    oldest = site.stock._shelves[plan].ready[0]
    site.ask(plan, PART * 8)
    site.deliver(PART * 3)
    assert len(site.stock._shelves[plan].ready) == 3
    assert oldest in site.counters.given_back


async def test_a_refused_order_ends_ordering(site: Site) -> None:
    """Where an order is refused or lost, no more are made until a request has asked itself."""
    plan = site.plan()
    site.ask(plan, 1e6)
    site.ask(plan, 1e6)
    site.deliver(1e6, granted=False)
    shelf = site.stock._shelves[plan]
    assert (shelf.target, shelf.coming, shelf.ready) == (0, 0, [])
    assert site.stock.take(site.request(plan)) is None
    assert site.counters.ordered == []


@pytest.mark.parametrize(("prompt", "output"), [(200, 50), (40, 110)])
async def test_what_is_too_small_in_tokens_or_money_is_given_back(site: Site, prompt: int, output: int) -> None:
    """A request that needs more tokens, or as many that cost more, is not served from stock."""
    plan = site.plan()
    site.ask(plan, 1e6)
    site.ask(plan, 1e6)
    site.deliver(1e6)
    assert site.stock.take(site.request(plan, prompt, output)) is None
    assert len(site.counters.given_back) == 1


async def test_another_name_of_the_process_voids_the_stock(site: Site) -> None:
    """What was reserved under a name that Redis no longer knows is not used."""
    plan = site.plan()
    site.ask(plan, 1e6)
    site.ask(plan, 1e6)
    site.deliver(1e6)
    site.counters.epoch = b"two"
    assert site.stock.take(site.request(plan)) is None


async def test_what_was_not_needed_goes_back_and_idle_shelves_close(site: Site) -> None:
    """After a burst the stock shrinks to what was used since, and an idle caller holds nothing, nor what comes late."""
    plan = site.plan()
    assert site.fill(plan, 1e6) == 64
    site.stock._tidy()
    site.ask(plan, 1e6)
    site.deliver(1e6)
    site.stock._tidy()
    assert len(site.stock._shelves[plan].ready) == 1
    site.ask(plan, 1e6)
    site.stock._tidy()
    site.stock._tidy()
    assert site.stock._shelves == {}
    assert site.stock._holders == {}
    before = len(site.counters.given_back)
    assert site.deliver(1e6) == 1
    assert len(site.counters.given_back) == before + 1


async def test_emptying_gives_all_back(site: Site) -> None:
    """Emptied, the stock holds nothing, orders under way are given back when they come, and no timer runs."""
    plan = site.plan()
    site.fill(plan, PART * 4)
    site.ask(plan, PART * 4)
    given, coming = len(site.counters.given_back), len(site.counters.ordered)
    site.stock.empty()
    site.deliver(PART * 4)
    assert len(site.counters.given_back) - given == 3 + coming
    assert site.stock._tidying is None
    await asyncio.sleep(0)
