"""A generation: one immutable, compiled pipeline and catalog. A change builds a new one and swaps it in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, SERVER_INFO_META_KEY
from mcp_types import methods as spec
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from plughost._call import TARGETS, Call, CallNext, Result
from plughost._catalog import Catalog, merge
from plughost._pipeline import Pipeline
from plughost._provider import Kind, Listing, Provider
from plughost._refusal import unknown_target

logger = logging.getLogger("plughost")

LISTS = {kind.method: kind for kind in Kind}
MAX_CHAINS = 10_000
"""Compiled chains kept per generation; names are the clients' to invent, memory is not."""


class Generation:
    """All that a request sees: the pipeline, and the catalog its targets are resolved in."""

    def __init__(self, pipeline: Pipeline, catalog: Catalog) -> None:
        self.pipeline = pipeline
        self.catalog = catalog
        self._gate = pipeline.gate
        self._outer: dict[str, CallNext] = {}
        self._inner: dict[Any, CallNext] = {}
        self._by_name = pipeline.by_name

    async def run(self, call: Call) -> Result:
        """Walk the whole chain."""
        self._gate.inside += 1
        try:
            chain = self._outer.get(call.method)
            if chain is None:
                chain = self.pipeline.outer(call.method, self._resolve)
                if call.method in spec.SPEC_CLIENT_METHODS:
                    self._outer[call.method] = chain
            return await chain(call)
        finally:
            self._gate.leave()

    async def observe(self, call: Call, end: CallNext) -> Result:
        """Walk OBSERVE only (and ADMIT, for `initialize`) around `end`."""
        self._gate.inside += 1
        try:
            return await self.pipeline.observe(call.method, end, admit=call.method == "initialize")(call)
        finally:
            self._gate.leave()

    async def _resolve(self, call: Call) -> Result:
        """The step between TRANSFORM and GUARD: from here on provider and local name are frozen."""
        method = call.method
        resolved = (method in TARGETS or method == "completion/complete") and self.catalog.resolve(call)
        key: Any = (method, call.provider, call.local_name) if self._by_name else (method, resolved)
        chain = self._inner.get(key)
        if chain is None:
            chain = self.pipeline.inner(call, self._serve)
            if len(self._inner) >= MAX_CHAINS:
                self._inner.clear()
            if method in spec.SPEC_CLIENT_METHODS:
                self._inner[key] = chain
        return await chain(call)

    async def _serve(self, call: Call) -> Result:
        """The end of the chain: the provider, or the host where an answer takes all of them."""
        method = call.method
        if call.provider is not None:
            return await self.catalog.providers[call.provider].request(call, local_params(call))
        if method in LISTS:
            return await self._list(call, LISTS[method])
        if method in TARGETS or method == "completion/complete":
            return await self._serve_unresolved(call)
        if method == "logging/setLevel":
            return await self._set_level(call)
        if method == "subscriptions/listen":
            return {}
        return await self._serve_custom(call)

    async def _serve_unresolved(self, call: Call) -> Result:
        self._check(call)
        if call.method == "completion/complete":
            return {"completion": {"values": [], "total": 0, "hasMore": False}}
        raise unknown_target(call.method, call.target)

    def _check(self, call: Call) -> None:
        """Validate what no provider will: the parameters, as the revision of the call has them."""
        try:
            spec.validate_client_request(call.method, call.protocol_version, call.params)
        except KeyError:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", call.method) from None
        except ValidationError:
            raise MCPError(INVALID_PARAMS, "Invalid request parameters", "") from None
        capability = call.method.partition("/")[0].replace("completion", "completions")
        if not self.catalog.may_offer(capability, call.protocol_version):
            raise MCPError(METHOD_NOT_FOUND, "Method not found", call.method)

    async def _list(self, call: Call, kind: Kind) -> Result:
        able = self._able(call, kind.capability)
        if not able:
            self._check(call)
        parts = await ask_all(call, kind, able)
        return merge(parts, kind, call.params.get("cursor"))

    def _able(self, call: Call, capability: str) -> list[Provider]:
        return [
            provider
            for provider in self.catalog.providers.values()
            if capability in provider.capabilities(call.protocol_version)
        ]

    async def _set_level(self, call: Call) -> Result:
        able = self._able(call, "logging")
        if not able:
            self._check(call)
        for provider in able:
            await provider.request(call, call.params)
        return {}

    async def _serve_custom(self, call: Call) -> Result:
        """A method of an extension: the first provider, in order, that knows it."""
        if call.method in spec.SPEC_CLIENT_METHODS:
            self._check(call)
        for provider in self.catalog.providers.values():
            try:
                return await provider.request(call, call.params)
            except MCPError as error:
                if error.code != METHOD_NOT_FOUND:
                    raise
        raise MCPError(METHOD_NOT_FOUND, "Method not found", call.method)


async def ask_all(call: Call, kind: Kind, able: list[Provider]) -> list[tuple[Provider, Listing]]:
    """Ask each provider; one that fails leaves the others' entries alone (G5), unless it is the only one."""
    parts = []
    for provider in able:
        try:
            parts.append((provider, await provider.list(kind, call)))
        except Exception as error:
            if len(able) == 1:
                raise
            logger.warning("provider %r cannot list its %s: %s", provider.name, kind.value, error)
    return parts


def local_params(call: Call) -> Mapping[str, Any]:
    """The parameters in the provider's own names."""
    params, local = call.params, call.local_name
    if call.method == "completion/complete":
        ref = params.get("ref")
        if isinstance(ref, Mapping) and isinstance(ref.get("name"), str) and ref["name"] != local:
            return {**params, "ref": {**ref, "name": local}}
        return params
    return params if local is None or local == call.target else {**params, TARGETS[call.method]: local}


def finish(call: Call, result: Result, stamp: Mapping[str, Any]) -> dict[str, Any]:
    """Give a result that no provider shaped what its revision demands, and take away what it does not know."""
    if call.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        if "resultType" in result or "ttlMs" in result:
            modern_only = ("resultType", "ttlMs", "cacheScope")
            return {key: value for key, value in result.items() if key not in modern_only}
        return result if isinstance(result, dict) else dict(result)
    meta = result.get("_meta")
    if "resultType" in result and isinstance(meta, Mapping) and meta.get(SERVER_INFO_META_KEY) is not None:
        return result if isinstance(result, dict) else dict(result)
    finished = {**result}
    finished.setdefault("resultType", "complete")
    if meta is None or isinstance(meta, Mapping):
        finished["_meta"] = {SERVER_INFO_META_KEY: stamp, **{k: v for k, v in (meta or {}).items() if v is not None}}
    if call.method in spec.CACHEABLE_METHODS and finished["resultType"] == "complete":
        finished.setdefault("ttlMs", 0)
        finished.setdefault("cacheScope", "private")
    return finished
