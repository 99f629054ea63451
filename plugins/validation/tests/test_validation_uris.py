"""Which URIs clients may name."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost_validation._uris import RefusedURI, URIPattern, URIPolicy, is_private, traversal


def refusal(uri: str, *allowed: str, private: bool = False, listed: bool = False) -> str | None:
    """The rule that a URI breaks."""
    patterns = [URIPattern.parse(item) for item in allowed] or None
    try:
        URIPolicy(patterns, private=private).check(uri, listed=listed)
    except RefusedURI as error:
        return error.rule
    return None


@pytest.mark.parametrize(
    "uri",
    [
        "note://today",
        "file:///srv/data/a.txt",
        "https://example.com/a..b/...",
        "https://example.com/a?next=../b#../c",
        "https://example.com/%7Ealice/r%C3%A9sum%C3%A9",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "urn:isbn:0451450523",
        "test://a/b;v=1",
        "test://a?range=main...next&q=100%25+%ff%0a",
    ],
)
def test_ordinary_uris(uri: str) -> None:
    """What is neither malformed, nor leads out, nor in, is allowed."""
    assert refusal(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        "file:///srv/../etc/passwd",
        "file:///srv/%2e%2e/etc/passwd",
        "file:///srv/%2E./etc/passwd",
        "file:///srv/..%2fetc/passwd",
        "file:///srv/%252e%252e/etc/passwd",
        "file:///srv/%25252e%25252e%25252f/etc",
        "file:///srv/%5c..%5cetc",
        "file:///srv/..;/etc",
        "file:///..",
        "file:..",
        "test://host/..",
        "https://example.com/a/../../b",
        "file:///srv/a%00.txt",
        "file:///srv/a%0d%0a",
        "file:///srv/%c0%ae%c0%ae/etc",
        "file:///srv/%2525252525252525252e",
        "file:///srv/a%3f/../../b",
        "note://..",
        "note://..%2f..%2fetc%2fpasswd",
        "note://%2e%2e/x",
        "note://..;a/x",
        "note://read?path=../../etc",
        "note://read?path=%252e%252e%252fetc",
        "note://read?a=1&path=..",
    ],
)
def test_traversal(uri: str) -> None:
    """A path that leads out of where it stands is refused, however it is encoded (S1)."""
    assert refusal(uri) == "traversal"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",  # noqa: RUF001 - what the parser must see through
        "0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::127.0.0.1]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::169.254.169.254]",
        "192.0.0.192",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "api.localhost",
        "printer.local",
        "metadata.google.internal",
        "metadata",
        "metadata.",
        "kubernetes.default.svc",
        "127.0.0.1:8080",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https", "HTTP", "ws", "ftp"])
def test_private_addresses(scheme: str, host: str) -> None:
    """No spelling of a private, local or metadata address passes, unless all do, or a provider lists it (S1)."""
    uri = f"{scheme}://{host}/latest"
    assert refusal(uri) == "address"
    assert refusal(uri, listed=True) is None
    assert refusal(uri, private=True) is None


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        ("http://user:pw@example.com/", "address"),
        ("http://127.0.0.1#@example.com/", "address"),
        ("http://example.com\\@127.0.0.1/", "syntax"),
        ("http://exa mple.com/", "syntax"),
        ("http://example.com/\n", "syntax"),
        ("http:127.0.0.1/", "address"),
        ("http:///127.0.0.1/", "address"),
        ("http://", "address"),
        ("http://[::1", "address"),
        ("http://example.com:99999/", "address"),
        ("/etc/passwd", "syntax"),
        ("", "syntax"),
        ("../x", "syntax"),
        ("note://\ud800", "syntax"),
        ("note://" + "x" * 9000, "length"),
    ],
)
def test_tricks(uri: str, rule: str) -> None:
    """What parsers read differently is refused."""
    assert refusal(uri) == rule


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("note://*", ["note://today", "NOTE://today"], ["note://today/2", "notes://today", "xnote://today"]),
        (
            "https://*.example.com/docs/**",
            ["https://a.example.com/docs/x/y", "https://A.Example.com/docs/"],
            [
                "https://example.com/docs/x",
                "https://a.example.com/other",
                "http://a.example.com/docs/x",
                "https://a.example.com.evil.org/docs/x",
                "https://evil.org/?.example.com/docs/x",
                "https://evil.org#.example.com/docs/x",
                "https://a.example.com/docs/../secret",
            ],
        ),
        ("file:///srv/data/*", ["file:///srv/data/a.txt"], ["file:///srv/data/a/b", "file:///srv/dataX/a"]),
        ("file:///srv/**", ["file:///srv/a/b/c"], ["file:///etc", "file://other/srv/a"]),
        ("urn:isbn:*", ["urn:isbn:1"], ["urn:issn:1"]),
        ("test://a/b+c(1)", ["test://a/b+c(1)"], ["test://a/bbc(1)"]),
        ("https://[2606:4700::1111]/**", ["https://[2606:4700::1111]/a"], ["https://2/a"]),
    ],
)
def test_allow_lists(pattern: str, matching: list[str], others: list[str]) -> None:
    """A pattern names scheme, host and path; what no pattern matches is refused, also what a provider lists."""
    for uri in matching:
        assert refusal(uri, "never://x", pattern) is None, uri
    for uri in others:
        assert refusal(uri, pattern) is not None, uri
        assert refusal(uri, pattern, listed=True) is not None or ".." in uri, uri


@pytest.mark.parametrize("pattern", ["note://h/**a**a**a**a**a", "note://h/*a*a*a*a*a", "note://*a*a*a*a*a/**"])
def test_matching_is_quick(pattern: str) -> None:
    """No URI makes a pattern of an allow-list try all ways to match (P6)."""
    begin = time.process_time()
    for text in ("h/" + "a" * 8000 + "/x", "a" * 8000, "h/" + "a/" * 4000):
        refusal(f"note://{text}", pattern)
    assert time.process_time() - begin < 1


def test_what_is_not_allowed_is_hidden() -> None:
    """Only what the allow-list lacks must look as if it did not exist."""
    policy = URIPolicy([URIPattern.parse("note://*")])
    with pytest.raises(RefusedURI) as caught:
        policy.check("test://x")
    assert caught.value.hidden
    with pytest.raises(RefusedURI) as caught:
        policy.check("note://x/..")
    assert not caught.value.hidden


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "..", ".", "b.c", "..."]), min_size=1, max_size=5), st.integers(0, 3), st.data())
def test_traversal_is_found_at_each_depth_of_encoding(segments: list[str], times: int, data: st.DataObject) -> None:
    """However many of its characters are encoded, however often, a path leads out exactly if it has a '..'."""
    path = "/".join(segments)
    for _ in range(times):
        chosen = data.draw(st.lists(st.booleans(), min_size=len(path), max_size=len(path)))
        path = "".join(
            f"%{ord(letter):02x}" if encode or letter == "%" else letter
            for letter, encode in zip(path, chosen, strict=True)
        )
    assert (traversal(path) is not None) == (".." in segments)


@settings(max_examples=50)
@given(st.ip_addresses(v=4))
def test_addresses_within_addresses(address: object) -> None:
    """An IPv4 address is as private inside an IPv6 address as alone."""
    assert is_private(f"[::ffff:{address}]") == is_private(str(address))
    assert is_private(f"[64:ff9b::{address}]") or not is_private(str(address))


@pytest.mark.parametrize("text", ["", "note", "*://x", "http://a b/", "http:\\\\x"])
def test_patterns_that_match_nothing(text: str) -> None:
    """A pattern without a scheme, or with what no URI holds, is an error."""
    with pytest.raises(ValueError, match="is no URI pattern; write for example"):
        URIPattern.parse(text)


def test_a_pattern_says_what_it_is() -> None:
    """Its text is what was written."""
    assert str(URIPattern.parse("note://*")) == "note://*"
