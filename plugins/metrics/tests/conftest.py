"""A process of its own for each test, as far as OpenTelemetry is concerned: its API has one provider for all."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest
from opentelemetry.metrics import _internal
from opentelemetry.util._once import Once
from plughost_metrics import _instruments
from plughost_metrics._ledger import Ledger

for client in ("requests", "urllib3"):  # one of them pushes
    if find_spec(client) is not None:
        import_module(client)  # gives loggers their handlers, once: no leak of the test that pushes first


@pytest.fixture(autouse=True)
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger of this test's process."""
    ledger = Ledger()
    monkeypatch.setattr(_instruments, "_ledger", ledger)
    monkeypatch.setattr(_internal, "_METER_PROVIDER", None)
    monkeypatch.setattr(_internal, "_METER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(_internal, "_PROXY_METER_PROVIDER", _internal._ProxyMeterProvider())
    return ledger
