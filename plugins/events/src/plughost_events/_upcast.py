"""Upcasters: events keep the shape in which they were written, and are read in the newest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Data = Mapping[str, Any]
Upcast = Callable[[Data], Data]


class Upcasters:
    """Event type and schema → the function that makes the next schema of it."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], Upcast] = {}

    def add(self, type_: str, schema: int, upcast: Upcast) -> None:
        """Let `upcast(data)` turn events of `type_` from `schema` to `schema + 1` whenever they are read.

        Raises:
            ValueError: There is one already.
        """
        if (type_, schema) in self._steps:
            raise ValueError(f"events of type {type_!r} have an upcaster from schema {schema} already")
        self._steps[type_, schema] = upcast

    def __call__(self, type_: str, schema: int, data: Data) -> tuple[int, Data]:
        """The newest schema that can be reached, and the data in it."""
        while (step := self._steps.get((type_, schema))) is not None:
            schema, data = schema + 1, step(data)
        return schema, data
