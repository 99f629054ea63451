"""Real processes for integration tests: what Debian packages provide, on free ports, in folders of their own.

    @pytest.fixture
    def redis(stack):
        return stack.start(Redis())

    @pytest.fixture
    def gateway(stack, redis):
        return stack.start(HostProcess({"plugins": {"rate-limit": {"limit": "5/second", "url": redis.url}}}))

Each can be killed, frozen, thawed and restarted; each keeps its port and its data until the test ends. Needs no pytest:
`with Stack() as stack:` does the same.
"""

from __future__ import annotations

from plughost_testing.services.host import HostProcess
from plughost_testing.services.nginx import Nginx
from plughost_testing.services.postgresql import PostgreSQL
from plughost_testing.services.prometheus import Prometheus
from plughost_testing.services.redis import Redis
from plughost_testing.services.service import Program, Service, ServiceError, free_port
from plughost_testing.services.stack import Stack

__all__ = [
    "HostProcess",
    "Nginx",
    "PostgreSQL",
    "Program",
    "Prometheus",
    "Redis",
    "Service",
    "ServiceError",
    "Stack",
    "free_port",
]
