from __future__ import annotations

import pytest

from gateway.redis_server import NotPrimaryError, RedisClusterError, check_server


@pytest.mark.parametrize("form", [list, dict])
def test_a_primary_that_stands_alone_is_good(form: type) -> None:
    """Both forms of the answer to HELLO are read, whatever else is in them."""
    fields = {b"server": b"redis", b"mode": b"standalone", b"role": b"master", b"modules": []}
    check_server(fields if form is dict else [part for pair in fields.items() for part in pair])


@pytest.mark.parametrize("role", [b"replica", b"slave", None])
def test_whoever_is_no_primary_is_refused(role: bytes | None) -> None:
    """A replica by either name, and a server that does not say what it is."""
    with pytest.raises(NotPrimaryError, match="expected the primary"):
        check_server({b"mode": b"standalone", b"role": role})


def test_a_cluster_is_refused_whatever_its_role() -> None:
    """The reason names the setting to change."""
    with pytest.raises(RedisClusterError, match="NEXUS_GATEWAY_REDIS_URL"):
        check_server([b"mode", b"cluster", b"role", b"master"])


@pytest.mark.parametrize("answer", ["OK", b"OK", 1, None, []])
def test_what_is_no_answer_to_hello_is_no_primary(answer: object) -> None:
    """Anything else does not raise anything else."""
    with pytest.raises(NotPrimaryError):
        check_server(answer)
