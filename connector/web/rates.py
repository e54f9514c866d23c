"""What the API and the metrics show of exchange rates: the static table, and live ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import APIRouter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from connector.settings.model import Settings
from connector.switch.rates import LiveRates, as_text
from connector.web import bounds, models


class RatesView:
    """Shows the rates of a node; reads only."""

    def __init__(self, settings: Callable[[], Settings], live: LiveRates | None) -> None:
        self._settings = settings
        self._live = live

    @property
    def state(self) -> str:
        """`off`: no RATES_URL; `fresh`; `stale`: what needs a live rate gets T00."""
        if self._live is None:
            return "off"
        return "fresh" if self._live.fresh else "stale"

    def summary(self) -> dict[str, Any]:
        """For the status of the node: the state of live rates, and why they are not better."""
        live = self._live
        age_s = None if live is None else live.age_s
        return {
            "state": self.state,
            "ageSeconds": None if age_s is None else round(age_s, 3),
            "error": "" if live is None else live.error,
            "refused": 0 if live is None else len(live.refused),
        }

    def whole(self) -> dict[str, Any]:
        """For /api/rates: the static rates by pair, the live ones against their base."""
        settings, live = self._settings(), self._live
        items = [
            {"from": here, "to": there, "rate": as_text(rate), "source": "config"}
            for (here, there), rate in sorted(settings.rates.items())
        ]
        refused: dict[str, str] = {}
        if live is not None:
            refused = {code: why.value for code, why in sorted(live.refused.items())}
            prices = live.prices
            if prices is not None and live.fresh:
                items += [
                    {"from": prices.base, "to": code, "rate": as_text(price), "source": "live"}
                    for code, price in sorted(prices.by_code.items())
                    if code != prices.base
                ]
        shown = bounds.RATES_SHOWN_MAX
        return {
            **self.summary(),
            "source": None if live is None else live.name,
            "maxAgeSeconds": settings.rates_max_age_seconds,
            "spreadBasisPoints": settings.spread_basis_points,
            "refusedCurrencies": dict(list(refused.items())[:shown]),
            "items": items[:shown],
            "next": None,
        }

    def metrics(self) -> Iterator[Metric]:
        """How old live rates are, and what the source has answered; nothing without RATES_URL."""
        live = self._live
        if live is None:
            return
        yield GaugeMetricFamily(
            "ilp_rates_fresh", "1 while live rates are young enough to be used.", value=live.fresh
        )
        if live.age_s is not None:
            yield GaugeMetricFamily(
                "ilp_rates_age_seconds", "Age of the last good live rates.", value=live.age_s
            )
        answers = CounterMetricFamily(
            "ilp_rates_answers", "Answers of the source of live rates.", labels=("result",)
        )
        for result, count in live.counts.items():
            answers.add_metric((result,), count)
        yield answers
        refused = CounterMetricFamily(
            "ilp_rates_refused", "Single live rates that were refused.", labels=("reason",)
        )
        for reason, count in live.prices_refused.items():
            refused.add_metric((reason,), count)
        yield refused


def rates_router(view: RatesView) -> APIRouter:
    """`/api/rates`."""
    router = APIRouter(prefix="/api", tags=["read"])

    @router.get("/rates", response_model=None, responses={200: {"model": models.RatesShown}})
    async def rates() -> dict[str, Any]:
        return view.whole()

    return router
