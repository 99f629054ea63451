"""The plugin: what is held against what, and how a client is told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    EventType,
    HostEvent,
    Kind,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    Result,
    hookimpl,
    unknown_target,
)
from pydantic import BaseModel

from plughost_validation._config import ValidationConfig
from plughost_validation._schema import SMALL, CompiledSchema
from plughost_validation._shape import Bounds, Level, OverLimit, is_small, locate, measure
from plughost_validation._tools import Tool, Tools
from plughost_validation._uris import RefusedURI, URIPolicy
from plughost_validation._violation import Violation
from plughost_validation._work import UnusableSchema

if TYPE_CHECKING:
    from plughost import Host

logger = logging.getLogger("plughost.validation")

META = "plughost/validation"
"""The key in the `_meta` of a result that tells of bad arguments."""
SMALL_RESULT = 2**16
"""The size of results that need no closer look."""
STRUCTURED_SINCE = "2025-06-18"
"""The first revision that has `structuredContent`."""
RESOURCES = frozenset({"resources/read", "resources/subscribe", "resources/unsubscribe"})
Side = Literal["arguments", "result", "uri", "schema"]


class ValidationPlugin(MCPPlugin[ValidationConfig]):
    """Lets nothing pass that breaks its schema, its limits or the rules for URIs.

    Behind rbac and pinning: a tool that the caller may not see must not tell its schema, and one that nobody approved
    is not worth compiling.
    """

    def __init__(self, config: ValidationConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self._refusals: dict[str, int] = {}
        self._count = metrics.get_meter("plughost.validation").create_counter(
            "plughost.validation.refused", unit="{call}", description="Calls refused, by side and rule."
        )
        self._bind(self.config)

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def register(self, host: Host) -> None:
        self._host = host
        self._tools = self._new_tools()

    async def reconfigure(self, config: ValidationConfig) -> bool:
        self.config = config
        self._bind(config)
        self._tools = self._new_tools()
        return True

    def _bind(self, config: ValidationConfig) -> None:
        """Keep what each call needs where it is cheap to get at."""
        self._argument_bounds = config.arguments.bounds
        self._result_bounds = config.results.bounds
        self._small_arguments = self._argument_bounds.small(SMALL)
        self._small_structure = self._result_bounds.small(SMALL)
        self._small_result = self._result_bounds.small(SMALL_RESULT)
        self._check_results = config.check_results
        self._enforces = config.mode == "enforce"
        self._uris = URIPolicy(config.allow_uris, private=config.allow_private_addresses)

    def _new_tools(self) -> Tools:
        config = self.config
        compile_schema = partial(
            CompiledSchema, formats=config.formats, max_nodes=config.max_schema, max_steps=config.max_steps
        )
        return Tools(self._host, self.name, compile_schema)

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        after = ("rbac", "pinning")
        return [
            Middleware(self.call_tool, Phase.GUARD, methods={"tools/call"}, after=after),
            Middleware(self.get_prompt, Phase.GUARD, methods={"prompts/get"}, after=after),
            Middleware(self.use_resource, Phase.GUARD, methods=RESOURCES, after=after),
            Middleware(self.complete, Phase.GUARD, methods={"completion/complete"}, after=after),
        ]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="Tools that are refused for their schemas, and what was refused"),
            Operation("check", self.check, summary="Compile the schemas of all tools, and name those that are refused"),
        ]

    # -- calls --------------------------------------------------------------------------------------------------------

    async def call_tool(self, call: Call, call_next: CallNext) -> Result:
        """Hand on arguments that fit; tell the model what is wrong with others, in a result that it reads."""
        name, arguments = call.target, call.params.get("arguments")
        if name is None:
            raise self._malformed(call, "name", "must be a string")
        if type(arguments) is not dict:
            arguments = self._object(call, arguments)
        tool = self._tools.find(name)
        if tool is not None and tool.fault is not None:
            raise self._unusable(call, tool)
        violations = self._faults_of(arguments, tool.arguments if tool is not None else None)
        if violations:
            return self._bad_arguments(call, violations)
        result = await call_next(call)
        self._check_size(call, result)
        if tool is not None and tool.result is not None and self._check_results:
            self._check_structure(call, result, tool.result)
        return result

    async def get_prompt(self, call: Call, call_next: CallNext) -> Result:
        """Hand on strings for every argument that the prompt requires."""
        if call.target is None:
            raise self._malformed(call, "name", "must be a string")
        arguments = self._object(call, call.params.get("arguments"))
        self._levels(call, arguments)
        for name, value in arguments.items():
            if not isinstance(value, str):
                raise self._malformed(call, _argument(name), "must be a string")
        route = self._host.generation.catalog.routes[Kind.PROMPTS].get(call.target)
        for name in _required(route.entry) if route is not None else ():
            if name not in arguments:
                raise self._malformed(call, _argument(name), "is required")
        result = await call_next(call)
        self._check_size(call, result)
        return result

    async def complete(self, call: Call, call_next: CallNext) -> Result:
        """Hand on what is within limits."""
        self._levels(call, {key: value for key, value in call.params.items() if key != "_meta"})
        return await call_next(call)

    async def use_resource(self, call: Call, call_next: CallNext) -> Result:
        """Hand on a URI that clients may name."""
        uri = call.target
        if uri is None:
            raise self._malformed(call, "uri", "must be a string")
        try:
            self._uris.check(uri, listed=uri in self._host.generation.catalog.routes[Kind.RESOURCES])
        except RefusedURI as error:
            self._tell(call, "uri", error.rule)
            if error.hidden:
                raise unknown_target(call.method, uri) from None
            raise MCPError(INVALID_PARAMS, f"The resource URI {error}", {"rule": error.rule}) from None
        result = await call_next(call)
        self._check_size(call, result)
        return result

    # -- what is checked ----------------------------------------------------------------------------------------------

    def _object(self, call: Call, arguments: Any) -> dict[str, Any]:
        if arguments is None:
            return {}
        if not isinstance(arguments, Mapping):
            raise self._malformed(call, "arguments", "must be an object")
        return dict(arguments)

    def _faults_of(self, arguments: dict[str, Any], schema: CompiledSchema | None) -> Sequence[Violation]:
        try:
            if is_small(arguments, self._small_arguments) and (schema is None or schema.accepts_small(arguments)):
                return ()
            levels = measure(arguments, self._argument_bounds)
        except OverLimit as error:
            return [_over(error, arguments, self._argument_bounds)]
        return () if schema is None else schema.violations(arguments, levels)

    def _levels(self, call: Call, value: Any) -> list[Level]:
        try:
            return measure(value, self._argument_bounds)
        except OverLimit as error:
            found = _over(error, value, self._argument_bounds)
            raise self._malformed(call, found.pointer or "params", error.words, rule=error.rule) from None

    def _check_size(self, call: Call, result: Result) -> None:
        whole = result if type(result) is dict else dict(result)
        try:
            if not is_small(whole, self._small_result, strict=False):
                measure(whole, self._result_bounds, strict=False)
        except OverLimit as error:
            raise self._bad_result(
                call, [_over(error, result, self._result_bounds)], "is larger than allowed"
            ) from None

    def _check_structure(self, call: Call, result: Result, schema: CompiledSchema) -> None:
        if result.get("isError") is True or result.get("resultType", "complete") != "complete":
            return
        if "structuredContent" not in result:
            if call.protocol_version < STRUCTURED_SINCE:
                return
            violations: Sequence[Violation] = [Violation("", "structuredContent", "has no structuredContent")]
        else:
            value = result["structuredContent"]
            try:
                if type(value) is dict and is_small(value, self._small_structure) and schema.accepts_small(value):
                    return
                violations = schema.violations(value, measure(value, self._result_bounds))
            except OverLimit as error:
                violations = [_over(error, value, self._result_bounds)]
        if violations:
            raise self._bad_result(call, violations, "does not match its outputSchema")

    # -- what clients are told ----------------------------------------------------------------------------------------

    def _bad_arguments(self, call: Call, violations: Sequence[Violation]) -> Result:
        self._tell(call, "arguments", violations[0].rule)
        if not self._enforces:  # for the host, which lets the call pass
            raise MCPError(INVALID_PARAMS, f"its arguments are not valid: {'; '.join(map(str, violations))}")
        listed = "".join(f"\n- {item}" for item in violations)
        said = f"The arguments of tool {call.target!r} are not valid, and it was not run. Correct them and call again:"
        return {
            "content": [{"type": "text", "text": said + listed}],
            "isError": True,
            "_meta": {META: {"violations": _wire(violations)}},
        }

    def _bad_result(self, call: Call, violations: Sequence[Violation], words: str) -> MCPError:
        self._tell(call, "result", violations[0].rule)
        rules = ", ".join(sorted({item.rule for item in violations}))
        logger.warning("what %r answered %s (%s)", call, words, rules)
        listed = "; ".join(map(str, violations))
        return MCPError(
            INTERNAL_ERROR,
            f"The server did what was asked, but its answer {words} and is withheld: {listed}. Do not repeat the call",
            {"violations": _wire(violations)},
        )

    def _malformed(self, call: Call, where: str, words: str, *, rule: str = "malformed") -> MCPError:
        self._tell(call, "arguments", rule)
        return MCPError(INVALID_PARAMS, f"Invalid request parameters: {where} {words}", {"rule": rule})

    def _unusable(self, call: Call, tool: Tool) -> Exception:
        self._tell(call, "schema", "unusable")
        if self.config.fail_mode == "open":
            return UnusableSchema(tool.fault)  # an error of the plugin, so that the call passes and is counted
        return MCPError(
            INTERNAL_ERROR,
            f"Tool {call.target!r} is refused, since {tool.fault}. Ask the operator of the host to look at it",
        )

    def _tell(self, call: Call, side: Side, rule: str) -> None:
        self._refusals[rule] = self._refusals.get(rule, 0) + 1
        attributes = {
            "plughost.plugin": self.name,
            "plughost.validation.side": side,
            "plughost.validation.rule": rule,
        }
        self._count.add(1, attributes)
        if self._enforces:
            details = {"method": call.method, "side": side, "rule": rule}
            self._host.publish(HostEvent(EventType.REFUSED, self.name, details))

    # -- operations ---------------------------------------------------------------------------------------------------

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """What was refused, and which tools are."""
        del parameters
        compiled = self._tools.compiled
        return {
            "tools": len(self._tools.names()),
            "compiled": len(compiled),
            "refused_tools": {name: tool.fault for name, tool in compiled.items() if tool.fault is not None},
            "refused_calls": dict(sorted(self._refusals.items())),
        }

    async def check(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """The same, after a look at every tool."""
        for name in self._tools.names():
            self._tools.find(name)
            await self._host.clock.sleep(0)
        return await self.show(parameters)


def _required(prompt: Mapping[str, Any]) -> list[str]:
    """The arguments that a prompt cannot do without. What providers list may be anything."""
    listed = prompt.get("arguments")
    found = [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list | tuple) else []
    return [name for item in found if item.get("required") is True and isinstance(name := item.get("name"), str)]


def _argument(name: Any) -> str:
    return f"argument {str(name)[:64]!r}"


def _over(error: OverLimit, value: Any, bounds: Bounds) -> Violation:
    return Violation(locate(value, bounds), error.rule, error.words)


def _wire(violations: Iterable[Violation]) -> list[Mapping[str, str]]:
    return [{"pointer": item.pointer, "rule": item.rule} for item in violations]
