"""Several services, started one after the other and removed in reverse."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TypeVar

from plughost_testing.services.service import Service, ServiceError

S = TypeVar("S", bound=Service)


class Stack:
    """Starts services, and removes them when it is left; what does not stop when it is asked to is an error then."""

    def __init__(self) -> None:
        self._services: list[Service] = []

    def start(self, service: S) -> S:
        """Start a service, and wait until it is ready."""
        self._services.append(service)
        service.start()
        return service

    def close(self) -> None:
        """Remove all services, the newest first.

        Raises:
            ServiceError: Some did not stop; they are killed.
        """
        errors = []
        while self._services:
            try:
                self._services.pop().remove()
            except ServiceError as error:
                errors.append(str(error))
        if errors:
            raise ServiceError("\n".join(errors))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Stack of {self._services!r}>"
