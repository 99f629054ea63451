"""`StoreURL`: where a plugin keeps its state, as the type of a config field."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from plughost import StateURL

CLIENT_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""The scheme in a URL → the same in the words of the client, which speaks to both servers alike."""
OPTIONS = frozenset({"client_name", "db", "timeout"})
"""What may stand behind the question mark, besides `ssl_*`."""


class StoreURL(StateURL):
    """`memory://`, or the URL of a Redis or Valkey server; as text, in dumps and messages without its password.

    `redis://`, `rediss://` (TLS), `valkey://`, `valkeys://` (TLS), `unix:///path.sock?db=0`. `?timeout=0.25` is the
    time limit of one question, in seconds; `ssl_ca_certs` and the like are the client's.

    Raises:
        ValueError: It is none of these.
    """

    schemes = ("memory", *CLIENT_SCHEMES)
    example = "'redis://localhost:6379/0'"

    __slots__ = ("timeout",)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.timeout: float | None = None
        """The time limit that the URL names."""
        if self.scheme in CLIENT_SCHEMES:
            self._check()

    def _check(self) -> None:
        try:
            parts = urlsplit(self._text)
            _ = parts.port
        except ValueError:  # its text may hold a part of the password
            raise ValueError(f"what follows the host is no port; write for example {self.example}") from None
        path = parts.path
        if self.scheme == "unix" and not path:
            raise ValueError("unix:// needs the path of a socket; write for example 'unix:///run/redis.sock?db=0'")
        if self.scheme != "unix":
            if not parts.hostname:
                raise ValueError(f"{self.scheme}:// needs a host; write for example '{self.scheme}://localhost:6379/0'")
            if path.strip("/") and not path.strip("/").isdecimal():
                raise ValueError(f"the path {path!r} is no number of a database; write for example '/0'")
        options = parse_qs(parts.query, keep_blank_values=True)
        for option in options:
            if option not in OPTIONS and not option.startswith("ssl_"):
                known = ", ".join(sorted(OPTIONS))
                raise ValueError(f"the option {option!r} is unknown; there are {known} and ssl_*")
        if "timeout" in options:
            try:
                self.timeout = float(options["timeout"][-1])
            except ValueError:
                self.timeout = 0.0
            if not 0 < self.timeout < 60:
                raise ValueError("timeout is a number of seconds between 0 and 60; write for example '?timeout=0.25'")

    def for_client(self) -> str:
        """The URL as the client understands it, with its password."""
        base, _, query = self._text.partition("://")[2].partition("?")
        kept = "&".join(option for option in query.split("&") if option and not option.startswith("timeout="))
        return f"{CLIENT_SCHEMES[self.scheme]}://{base}{'?' if kept else ''}{kept}"
