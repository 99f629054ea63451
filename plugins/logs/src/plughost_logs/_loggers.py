"""Who has the loggers of the process: handlers that come, go and are replaced, and what they displace meanwhile."""

from __future__ import annotations

import logging
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What one instance wants of the loggers."""

    instance: str
    """Of two with the same name the newer one writes: an instance that is replaced has two for a moment."""
    handler: logging.Handler
    level: str | None
    """Level of the root logger; as it was if absent."""
    replace: bool
    """Whether other handlers are displaced."""


@dataclass(frozen=True, slots=True)
class _Displaced:
    logger: logging.Logger
    handler: logging.Handler
    propagated: bool


class Loggers:
    """All loggers of the process. As soon as nobody claims them any more, they are as they were."""

    def __init__(self) -> None:
        self._claims: list[Claim] = []
        self._attached: list[logging.Handler] = []
        self._displaced: list[_Displaced] = []
        self._level = logging.NOTSET

    def enter(self, claim: Claim) -> None:
        if not self._claims:
            self._level = logging.getLogger().level
        self._claims.append(claim)
        self._apply()

    def leave(self, claim: Claim) -> None:
        if claim in self._claims:
            self._claims.remove(claim)
            self._apply()

    def displace(self) -> None:
        """Displace what writes beside the claims: all of the root logger, and what other loggers have for a console.

        Servers bring such handlers when they are imported, so this is done again after that.
        """
        if not any(claim.replace for claim in self._claims):
            return
        root = logging.getLogger()
        others = [item for item in logging.Logger.manager.loggerDict.values() if isinstance(item, logging.Logger)]
        for logger in (root, *others):
            for handler in logger.handlers[:]:
                if handler not in self._attached and (logger is root or _is_console(handler)):
                    self._displaced.append(_Displaced(logger, handler, logger.propagate))
                    logger.removeHandler(handler)
                    logger.propagate = True

    def _apply(self) -> None:
        root = logging.getLogger()
        claims = list({claim.instance: claim for claim in self._claims}.values())
        for handler in self._attached:
            root.removeHandler(handler)
        self._attached = [claim.handler for claim in claims]
        for handler in self._attached:
            root.addHandler(handler)
        root.setLevel(next((claim.level for claim in reversed(claims) if claim.level is not None), self._level))
        if any(claim.replace for claim in claims):
            self.displace()
            return
        for item in self._displaced:
            item.logger.addHandler(item.handler)
        for item in reversed(self._displaced):
            item.logger.propagate = item.propagated
        self._displaced.clear()


def _is_console(handler: logging.Handler) -> bool:
    """Whether it writes to a terminal, as `logging.StreamHandler` and rich's handler do, and not to a file."""
    if isinstance(handler, logging.StreamHandler):
        return not isinstance(handler, logging.FileHandler)
    return hasattr(handler, "console")


LOGGERS = Loggers()
"""Of this process."""
