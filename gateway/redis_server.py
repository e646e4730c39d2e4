"""What a Redis says of itself when it is connected to: only a primary that stands alone can be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HELLO = "HELLO"
"""The command that asks for it; since Redis 6, and everybody may send it."""


class RedisClusterError(Exception):
    """The server belongs to a Redis Cluster."""


class NotPrimaryError(Exception):
    """The server is a replica: what it holds may be old, and it takes no writes."""


def check_server(answer: object) -> None:
    """Look at the answer to HELLO.

    Args:
        answer: Names and values one after the other, or by name.

    Raises:
        RedisClusterError: It is a node of a cluster.
        NotPrimaryError: It is a replica, such as a primary that was failed over.
    """
    found: Mapping[object, object] = {}
    if isinstance(answer, Mapping):
        found = answer
    elif isinstance(answer, Sequence):
        found = dict(zip(answer[::2], answer[1::2], strict=False))
    mode, role = found.get(b"mode"), found.get(b"role")
    if mode == b"cluster":
        raise RedisClusterError(
            "expected a Redis that stands alone, or the primary of a replicated one; got a node of a Redis Cluster, "
            "which is not supported: let NEXUS_GATEWAY_REDIS_URL name another"
        )
    if role != b"master":
        raise NotPrimaryError(
            f"expected the primary; got a server whose role is {role!r}: it was failed over, or never one"
        )
