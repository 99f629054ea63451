"""Replicas that several tests share, and some of a test's own."""

from __future__ import annotations

import pytest
from plughost_testing.services import Redis, Stack

from replicas.cluster import Cluster, Start, start_cluster


@pytest.fixture(scope="package")
def cluster(session_stack: Stack) -> Cluster:
    """Replicas with sessions and a bus."""
    return start_cluster(session_stack, {"plugins": {"bus": {"url": session_stack.start(Redis()).url}}})


@pytest.fixture
def start(stack: Stack) -> Start:
    """Starts replicas of a test's own."""
    return lambda **config: start_cluster(stack, config)
