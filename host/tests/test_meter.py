"""`InstanceMeter`: observable instruments over all instances."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from meters import Collector, collecting
from opentelemetry import metrics
from plughost import InstanceMeter, Readings


class Shelf:
    def __init__(self, name: str, *, lent: int = 0, there: int = 0) -> None:
        self.name = name
        self.lent = lent
        self.there = there


@pytest.fixture
def meter() -> InstanceMeter[Shelf]:
    """One metric of each kind."""
    meter: InstanceMeter[Shelf] = InstanceMeter("plughost.shelf")

    @meter.counter("plughost.shelf.loans", "{loan}", "Loans since the start.")
    def loans(shelf: Shelf) -> Readings:
        yield shelf.lent, {}

    @meter.up_down_counter("plughost.shelf.books", "{book}", "Books, by whether they are lent.")
    def books(shelf: Shelf) -> Readings:
        yield shelf.lent, {"plughost.shelf.lent": "true"}
        yield shelf.there, {"plughost.shelf.lent": "false"}

    @meter.gauge("plughost.shelf.full", "1", "How full it is.")
    def full(shelf: Shelf) -> Readings:
        yield shelf.there / 10, {}

    return meter


@pytest.fixture
def collector(meter: InstanceMeter[Shelf]) -> Iterator[Collector]:
    with collecting(meter) as collector:
        yield collector


def test_each_reading_of_each_instance_is_shown(meter: InstanceMeter[Shelf], collector: Collector) -> None:
    """A reading has its own attributes, and the name of the instance."""
    shelves = [Shelf("poems", lent=1, there=5), Shelf("novels", there=8)]
    for shelf in shelves:
        meter.watch(shelf)
    assert collector.points() == {
        "plughost.shelf.loans": {"plugin=poems": 1, "plugin=novels": 0},
        "plughost.shelf.books": {
            "plugin=poems shelf.lent=true": 1,
            "plugin=poems shelf.lent=false": 5,
            "plugin=novels shelf.lent=true": 0,
            "plugin=novels shelf.lent=false": 8,
        },
        "plughost.shelf.full": {"plugin=poems": 0.5, "plugin=novels": 0.8},
    }


def test_instruments_are_made_as_they_are_described(meter: InstanceMeter[Shelf], collector: Collector) -> None:
    """Kind, unit and description are those of the decorator."""
    shelf = Shelf("poems")
    meter.watch(shelf)
    assert collector.kinds() == {
        "plughost.shelf.loans": ("counter", "{loan}", "Loans since the start."),
        "plughost.shelf.books": ("up_down_counter", "{book}", "Books, by whether they are lent."),
        "plughost.shelf.full": ("gauge", "1", "How full it is."),
    }


def test_instances_of_one_name_are_one(meter: InstanceMeter[Shelf], collector: Collector) -> None:
    """What the instances of two hosts count adds up; of what does not add up the highest is shown."""
    shelves = [Shelf("poems", lent=2, there=6), Shelf("poems", lent=3, there=4)]
    for shelf in shelves:
        meter.watch(shelf)
    assert collector.points() == {
        "plughost.shelf.loans": {"plugin=poems": 5},
        "plughost.shelf.books": {"plugin=poems shelf.lent=true": 5, "plugin=poems shelf.lent=false": 10},
        "plughost.shelf.full": {"plugin=poems": 0.6},
    }


def test_an_owner_may_name_instances_by_another_label() -> None:
    """What is no plugin is not shown as one."""
    meter: InstanceMeter[Shelf] = InstanceMeter("plughost.shelf", label="plughost.shelf.name")
    meter.gauge("plughost.shelf.full", "1", "How full it is.")(lambda shelf: [(shelf.there / 10, {})])
    with collecting(meter) as collector:
        shelf = Shelf("poems", there=5)
        meter.watch(shelf)
        assert collector.points() == {"plughost.shelf.full": {"shelf.name=poems": 0.5}}


def test_an_unwatched_instance_is_not_shown(meter: InstanceMeter[Shelf], collector: Collector) -> None:
    """It may go on living, and be watched again."""
    shelf = Shelf("poems", there=5)
    meter.watch(shelf)
    meter.unwatch(shelf)
    meter.unwatch(shelf)
    assert collector.points() == {}
    meter.watch(shelf)
    assert collector.points()["plughost.shelf.full"] == {"plugin=poems": 0.5}


def test_a_watched_instance_is_not_kept(meter: InstanceMeter[Shelf], collector: Collector) -> None:
    """An instance that nobody unwatched is gone with its last reference, though the instruments stay."""
    meter.watch(Shelf("forgotten"))
    gc.collect()
    assert collector.points() == {}


def test_instruments_are_made_when_the_first_instance_is_watched(
    meter: InstanceMeter[Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever imports a plugin and does not use it has none of its metrics; two instances share them."""
    asked: list[str] = []

    def get_meter(name: str) -> metrics.Meter:
        asked.append(name)
        return metrics.NoOpMeter(name)

    monkeypatch.setattr(metrics, "get_meter", get_meter)
    assert asked == []
    for name in ("poems", "novels"):
        meter.watch(Shelf(name))
    assert asked == ["plughost.shelf"]


def test_what_reads_is_left_as_it_is(meter: InstanceMeter[Shelf]) -> None:
    """A decorated function can be called, as in a test of its plugin."""

    @meter.gauge("plughost.shelf.lent", "{book}", "Books that are lent.")
    def lent(shelf: Shelf) -> Readings:
        yield shelf.lent, {}

    assert list(lent(Shelf("poems", lent=3))) == [(3, {})]
