"""A process of its own for each test, as far as OpenTelemetry is concerned: its API has one provider for all."""

from __future__ import annotations

from importlib import import_module

import pytest
from opentelemetry.metrics import _internal
from opentelemetry.util._once import Once
from plughost_metrics import _instruments
from plughost_metrics._ledger import Ledger

import_module("requests")  # gives loggers their handlers, once: no leak of the test that pushes first


@pytest.fixture(autouse=True)
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger of this test's process."""
    ledger = Ledger()
    monkeypatch.setattr(_instruments, "_ledger", ledger)
    monkeypatch.setattr(_internal, "_METER_PROVIDER", None)
    monkeypatch.setattr(_internal, "_METER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(_internal, "_PROXY_METER_PROVIDER", _internal._ProxyMeterProvider())
    return ledger
