"""Sessions of earlier revisions, each of the tenant that opened it (H1)."""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakValueDictionary

from mcp.server.connection import Connection


class Sessions:
    """Whose each session is. They are forgotten when they end."""

    def __init__(self) -> None:
        self._tenants: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()
        self._by_id: WeakValueDictionary[str, Connection] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._tenants)

    def bind(self, connection: Connection, tenant: str) -> bool:
        """Give a session to the tenant whose first call it is; says whether it is this tenant's."""
        owner = self._tenants.setdefault(connection, tenant)
        if connection.session_id is not None:
            self._by_id[connection.session_id] = connection
        return owner == tenant

    def owner(self, session_id: str) -> str | None:
        """The tenant of a session; `None` if no tenant has it."""
        connection = self._by_id.get(session_id)
        return self._tenants.get(connection) if connection is not None else None
