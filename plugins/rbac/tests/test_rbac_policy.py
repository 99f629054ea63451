"""The decision function, against a reference that says the same in another way."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost import Principal
from plughost_rbac import Policy, RBACConfig

ROLES = ["a", "b", "c"]
PERMISSIONS = ["read:resources", "write:resources", "execute:tools", "admin:access"]
TARGETS: list[tuple[Any, str, str]] = [
    ("tool", "p", "add"),
    ("tool", "p", "drop"),
    ("tool", "q", "add"),
    ("prompt", "p", "ask"),
    ("resource", "p", "note://1"),
    ("resource", "q", "note://{id}"),
    ("method", "p", "x/y"),
]
WRITES = ["p/d*"]


def policy(**keys: Any) -> Policy:
    return Policy.of(RBACConfig.model_validate(keys))


def outcome(policy: Policy, target: tuple[Any, str, str], who: Principal | None, arguments: Any = None) -> str:
    found = policy.explain(who, *target, arguments or {})["outcome"]
    assert isinstance(found, str)
    return found


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    rule: dict[str, Any] = {draw(st.sampled_from(["allow", "allow", "deny"])): [draw(st.sampled_from(PERMISSIONS))]}
    given_permission = next(iter(rule.values()))[0]
    if draw(st.booleans()):
        rule["provider"] = [draw(st.sampled_from(["p", "q", "*", "?"]))]
    covered = {"execute:tools": ["tool"], "write:resources": ["tool"], "read:resources": ["prompt", "resource"]}
    kinds = covered.get(given_permission, ["tool", "prompt", "resource", "method"])
    if (kind := draw(st.sampled_from([None, *kinds]))) is not None:
        globs = {"tool": ["add", "d*", "*"], "prompt": ["ask", "?"], "resource": ["note://*", "note://1"]}
        rule[kind] = [draw(st.sampled_from(globs.get(kind, ["x/*"])))]
    if kind in ("tool", "prompt") and draw(st.booleans()):
        rule["arguments"] = {"n": draw(st.sampled_from([1, 2]))}
    return rule


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    roles = {}
    for number, name in enumerate(ROLES):
        roles[name] = {
            "permissions": draw(st.lists(st.sampled_from(PERMISSIONS), max_size=1)),
            "inherits": draw(st.lists(st.sampled_from(ROLES[:number]), max_size=1)) if number else [],
            "rules": draw(st.lists(rules(), max_size=3)),
        }
    return {"roles": roles, "writes": draw(st.sampled_from([[], WRITES]))}


def reference(document: dict[str, Any], roles: set[str], target: tuple[str, str, str], arguments: Any) -> str:
    """The same decision, without compiling or remembering anything."""
    kind, provider, name = target
    waiting, held = list(roles), set()
    while waiting:
        if (role := waiting.pop()) not in held:
            held.add(role)
            waiting += document["roles"][role]["inherits"]
    found = [rule for role in held for rule in document["roles"][role]["rules"]]
    found += [{"allow": [it]} for role in held for it in document["roles"][role]["permissions"]]

    def speaks(rule: dict[str, Any]) -> bool:
        if not any(fnmatchcase(provider, glob) for glob in rule.get("provider", ["*"])):
            return False
        named = [key for key in ("tool", "prompt", "resource", "method") if key in rule]
        return not named or any(fnmatchcase(name, glob) for glob in rule.get(kind, []))

    def holds(rule: dict[str, Any]) -> bool:
        return all((arguments or {}).get(key) == value for key, value in rule.get("arguments", {}).items())

    needed = {"tool": ["execute:tools"], "method": ["admin:access"]}.get(kind, ["read:resources"])
    if kind == "tool" and any(fnmatchcase(f"{provider}/{name}", glob) for glob in document["writes"]):
        needed = [*needed, "write:resources"]
    found = [rule for rule in found if speaks(rule)]
    denying = [rule for rule in found if set(rule.get("deny", ())) & {*needed, "admin:access"}]
    giving = [[rule for rule in found if set(rule.get("allow", ())) & {it, "admin:access"}] for it in needed]
    if any("arguments" not in rule for rule in denying) or not all(giving):
        return "hidden"
    if any(map(holds, denying)) or not all(any(map(holds, group)) for group in giving):
        return "refused"
    return "allowed"


@settings(max_examples=150, deadline=None)
@given(
    document=policies(),
    roles=st.sets(st.sampled_from(ROLES)),
    arguments=st.sampled_from([{}, {"n": 1}, {"n": 2}]),
)
def test_it_decides_as_the_reference_does(document: dict[str, Any], roles: set[str], arguments: Any) -> None:
    """A9: for any policy, caller, target and arguments; asked twice, the same."""
    compiled = policy(**document)
    who = Principal("ada", roles=frozenset(roles))
    for target in TARGETS * 2:
        assert outcome(compiled, target, who, arguments) == reference(document, roles, target, arguments), target


def test_nothing_is_allowed_by_default() -> None:
    """A9: an empty policy allows nobody anything."""
    for target in TARGETS:
        assert outcome(policy(), target, Principal("ada", roles=frozenset({"admin"}))) == "hidden"
        assert outcome(policy(), target, None) == "refused"


@pytest.mark.parametrize(
    ("permission", "covered"),
    [
        ("read:resources", {"prompt", "resource"}),
        ("execute:tools", {"tool"}),
        ("write:resources", set()),
        ("admin:access", {"tool", "prompt", "resource", "method"}),
    ],
)
def test_each_permission_covers_its_own(permission: str, covered: set[str]) -> None:
    """What the README's table says."""
    given_role = policy(roles={"r": {"permissions": [permission]}})
    who = Principal("ada", roles=frozenset({"r"}))
    assert {kind for kind, *rest in TARGETS if outcome(given_role, (kind, *rest), who) == "allowed"} == covered


def test_a_tool_that_writes_needs_both() -> None:
    """`write:resources` is for tools that the operator names, and `execute:tools` alone is not enough for those."""
    roles = {"run": {"permissions": "execute:tools"}, "write": {"permissions": "write:resources"}}
    compiled = policy(roles=roles, writes=["p/drop"])
    for held, expected in (({"run"}, "hidden"), ({"write"}, "hidden"), ({"run", "write"}, "allowed")):
        assert outcome(compiled, ("tool", "p", "drop"), Principal("ada", roles=frozenset(held))) == expected
    assert outcome(compiled, ("tool", "p", "add"), Principal("ada", roles=frozenset({"run"}))) == "allowed"


def test_to_deny_admin_is_to_deny_what_it_covers() -> None:
    """A9: a refusal of it is never without effect: who has it elsewhere has nothing here."""
    roles = {"admin": {"permissions": "admin:access"}, "guest": {"rules": [{"deny": "admin:access", "provider": "p"}]}}
    compiled = policy(roles=roles)
    who = Principal("ada", roles=frozenset({"admin", "guest"}))
    for kind, provider, name in TARGETS:
        assert outcome(compiled, (kind, provider, name), who) == ("hidden" if provider == "p" else "allowed")


def test_a_tool_that_writes_does_so_in_any_case() -> None:
    """To some servers `Drop` is `drop`."""
    compiled = policy(roles={"run": {"permissions": "execute:tools"}}, writes=["*/drop"])
    assert outcome(compiled, ("tool", "p", "DROP"), Principal("ada", roles=frozenset({"run"}))) == "hidden"


def test_roles_come_from_token_groups_and_principals() -> None:
    """Whichever names one is enough; a name that is no role here is nothing."""
    compiled = policy(
        roles={"reader": {"permissions": "read:resources"}},
        principals={"ada": "reader", "https://idp": {"bob": "reader"}},
        groups={"Staff": "reader"},
    )
    callers = {
        "token": Principal("x", roles=frozenset({"reader"})),
        "group": Principal("x", roles=frozenset({"Staff"})),
        "subject": Principal("ada", "https://any"),
        "issuer": Principal("bob", "https://idp"),
        "another issuer": Principal("bob", "https://evil"),
        "named like the issuer": Principal("https://idp"),
        "another case": Principal("Ada"),
        "another role": Principal("x", roles=frozenset({"readers"})),
    }
    found = {name for name, who in callers.items() if outcome(compiled, ("resource", "p", "x"), who) == "allowed"}
    assert found == {"token", "group", "subject", "issuer"}


def test_two_roles_are_for_everybody() -> None:
    """`anonymous` for who is not authenticated, `authenticated` for who is; the first is not in the second."""
    roles = {"anonymous": {"permissions": "read:resources"}, "authenticated": {"permissions": "execute:tools"}}
    compiled = policy(roles=roles)
    resource, tool = ("resource", "p", "x"), ("tool", "p", "x")
    for stranger in (None, Principal("", tenant="acme", roles=frozenset({"authenticated"}))):
        assert (outcome(compiled, resource, stranger), outcome(compiled, tool, stranger)) == ("allowed", "hidden")
    ada = Principal("ada")
    assert (outcome(compiled, resource, ada), outcome(compiled, tool, ada)) == ("hidden", "allowed")


@pytest.mark.parametrize(
    ("mode", "roles", "scopes", "expected"),
    [
        ("ignore", {"run"}, {"read:resources"}, "allowed"),
        ("ignore", set(), {"execute:tools"}, "hidden"),
        ("grant", set(), {"execute:tools"}, "allowed"),
        ("grant", set(), {"admin:access"}, "allowed"),
        ("grant", {"run"}, set(), "allowed"),
        ("grant", {"not"}, {"execute:tools"}, "hidden"),
        ("limit", {"run"}, {"execute:tools", "openid"}, "allowed"),
        ("limit", {"run"}, {"admin:access"}, "allowed"),
        ("limit", {"run"}, {"read:resources"}, "hidden"),
        ("limit", set(), {"execute:tools"}, "hidden"),
    ],
)
def test_scopes_are_what_the_operator_says(mode: str, roles: set[str], scopes: set[str], expected: str) -> None:
    """Nothing, permissions, or the limit of them; a refusal stands above them."""
    known = {"run": {"permissions": "execute:tools"}, "not": {"rules": [{"deny": "execute:tools"}]}}
    who = Principal("ada", roles=frozenset(roles), scopes=frozenset(scopes))
    assert outcome(policy(roles=known, scopes=mode), ("tool", "p", "add"), who) == expected


def test_it_says_which_rule_decided() -> None:
    """By its place in the config, and in words."""
    rules = [
        {"allow": "execute:tools", "provider": "p", "tool": ["add", "drop"], "arguments": {"n": [1, {"max": 0}]}},
        {"deny": "execute:tools", "tool": "drop"},
    ]
    compiled = policy(roles={"r": {"rules": rules}})
    who = Principal("ada", roles=frozenset({"r"}))
    allowed = compiled.explain(who, "tool", "p", "add", {"n": 1})
    assert allowed["because"] == [
        "roles.r.rules[0]: allow execute:tools, provider p, tool add|drop, arguments n=1|max=0.0"
    ]
    refused = compiled.explain(who, "tool", "p", "add", {"n": 5})
    assert (refused["outcome"], refused["arguments"]) == ("refused", ["n"])
    assert compiled.explain(who, "tool", "p", "drop", {})["because"] == [
        "roles.r.rules[1]: deny execute:tools, tool drop"
    ]
    assert compiled.explain(who, "tool", "q", "add", {})["because"] == [
        "no rule of these roles allows execute:tools here"
    ]


def test_memory_is_bounded() -> None:
    """Names that callers invent push each other out, and long ones are not kept at all."""
    compiled = policy(roles={"r": {"permissions": "execute:tools"}})
    grants = compiled.grants(Principal("ada", roles=frozenset({"r"})))
    assert grants is not None
    for number in range(20_000):
        compiled.verdict(grants, "resource", "p", f"note://{number}")
    kept = compiled._verdicts.cache_info().currsize
    assert compiled.verdict(grants, "tool", "p", "x" * 300).free
    assert kept == compiled._verdicts.cache_info().currsize <= 16_384
