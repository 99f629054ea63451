"""A generation: one immutable, compiled pipeline and catalog. A change builds a new one and swaps it in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, SERVER_INFO_META_KEY
from mcp_types import methods as spec
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from plughost._call import TARGETS, Call, CallNext, Result
from plughost._catalog import LIST_TIMEOUT, Catalog, merge
from plughost._pipeline import Pipeline
from plughost._provider import Kind, Listing, Provider
from plughost._refusal import unknown_target

logger = logging.getLogger("plughost")

LISTS = {kind.method: kind for kind in Kind}


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

    async def admits(self, call: Call, uri: str) -> bool:
        """Whether the caller of `call` may watch the resource at `uri`: what the chain says of a subscription to it."""
        asked = Call(
            "resources/subscribe",
            {"uri": uri, "_meta": call.meta},
            connection=call.connection,
            dispatch=call.dispatch,
            request=call.request,
        )
        asked.principal = call.principal

        async def decide(asked: Call) -> Result:
            self.catalog.resolve(asked)
            return await self.pipeline.inner(asked, _nothing)(asked)

        try:
            await self.pipeline.outer(asked.method, decide)(asked)
        except MCPError:
            return False
        return True

    async def _resolve(self, call: Call) -> Result:
        """The step between TRANSFORM and GUARD: from here on provider and local name are frozen."""
        method = call.method
        known = method in spec.SPEC_CLIENT_METHODS
        if known and (method, call.protocol_version) not in spec.CLIENT_REQUESTS:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", method)
        if method not in LISTS:
            self.catalog.resolve(call)
        key: Any = (method, call.provider, call.local_name) if self._by_name else method
        chain = self._inner.get(key)
        if chain is None:
            chain = self.pipeline.inner(call, self._serve)
            if known and (not self._by_name or self.catalog.lists(call.target)):
                self._inner[key] = chain  # other names are the clients' to invent; memory is not
        return await chain(call)

    async def _serve(self, call: Call) -> Result:
        """The end of the chain: the provider, or the host where an answer takes all of them."""
        method = call.method
        if call.provider is not None:
            return await self.catalog.providers[call.provider].request(call, local_params(call))
        self._check(call)
        if method in LISTS:
            return await self._list(call, LISTS[method])
        if method in TARGETS or method == "completion/complete":
            raise unknown_target(method, call.target)
        if method == "logging/setLevel":
            return await self._set_level(call)
        if method == "subscriptions/listen":
            return {}
        raise MCPError(METHOD_NOT_FOUND, "Method not found", method)

    def _check(self, call: Call) -> None:
        """Validate what no provider will: the parameters, as the revision of the call has them."""
        try:
            spec.validate_client_request(call.method, call.protocol_version, call.params)
        except KeyError:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", call.method) from None
        except ValidationError:
            raise MCPError(INVALID_PARAMS, "Invalid request parameters", "") from None
        capability = call.method.partition("/")[0].replace("completion", "completions")
        if capability != "subscriptions" and not self.catalog.may_offer(capability, call.protocol_version):
            raise MCPError(METHOD_NOT_FOUND, "Method not found", call.method)

    async def _list(self, call: Call, kind: Kind) -> Result:
        parts = await ask_all(call, kind, self._able(call, kind.capability))
        return merge(parts, kind, call.params.get("cursor"), self.catalog.routes[kind])

    def _able(self, call: Call, capability: str) -> list[Provider]:
        return [
            provider
            for provider in self.catalog.providers.values()
            if capability in provider.capabilities(call.protocol_version)
        ]

    async def _set_level(self, call: Call) -> Result:
        """Tell every provider that logs; one that fails keeps its level."""
        for provider in self._able(call, "logging"):
            try:
                await provider.request(call, call.params)
            except MCPError as error:
                logger.warning("provider %r did not take the log level: %s", provider.name, error.message)
        return {}


async def _nothing(_: Call) -> Result:
    return {}


async def ask_all(call: Call, kind: Kind, able: list[Provider]) -> list[tuple[Provider, Listing]]:
    """Ask each provider, all at once; one that fails leaves the others' entries alone (G5), unless all do."""
    if len(able) == 1:
        return [(able[0], await able[0].list(kind, call))]
    found: dict[str, Listing] = {}
    failures: list[Exception] = []

    async def ask(provider: Provider) -> None:
        try:
            with anyio.fail_after(LIST_TIMEOUT):
                found[provider.name] = await provider.list(kind, call)
        except Exception as error:  # noqa: BLE001 - raised below if nobody has an answer
            logger.warning("provider %r cannot list its %s: %s", provider.name, kind.value, error)
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        for provider in able:
            tasks.start_soon(ask, provider)
    if failures and not found:
        raise failures[0]
    parts = [(provider, found[provider.name]) for provider in able if provider.name in found]
    if failures:  # half a list is nothing to keep
        parts = [(provider, Listing(part.entries, {**part.extra, "ttlMs": 0})) for provider, part in parts]
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
