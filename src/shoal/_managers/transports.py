"""Which listener and which client a serializer means."""

from __future__ import annotations

from shoal import connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["listener_client"]

# Replaceable, as in the standard library; both sides are found here when they are needed.
listener_client: dict[str, tuple[Any, Any]] = {
    "pickle": (connection.Listener, connection.Client),
    "xmlrpclib": (connection.XmlListener, connection.XmlClient),
}
