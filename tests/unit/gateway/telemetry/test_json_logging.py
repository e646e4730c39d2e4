from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from gateway.telemetry.logging import JsonFormatter, LogThrottle


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("test-json-logging")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)


def test_nothing_a_client_sends_can_forge_a_line(output: io.StringIO) -> None:
    """A message and a field with line ends and JSON in them make one line that holds them unchanged."""
    evil = 'x\n{"level":"ERROR","message":"forged"}\r\x1b[31m\u2028'
    logging.getLogger("test-json-logging").warning(evil, extra={"fields": {"request_id": evil}})
    (line,) = output.getvalue().split("\n")[:-1]
    document = json.loads(line)
    assert (document["message"], document["request_id"], document["level"]) == (evil, evil, "WARNING")


def test_an_exception_stays_on_one_line(output: io.StringIO) -> None:
    """A traceback with line ends is one line of JSON that names the exception."""
    try:
        int("a\nb")
    except ValueError:
        logging.getLogger("test-json-logging").exception("failed")
    assert output.getvalue().count("\n") == 1
    assert "ValueError" in json.loads(output.getvalue())["exception"]


def test_an_outage_fills_no_disk_and_says_what_it_kept_back(
    output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100 warnings in a second three are written, and the next second's first one counts the other 97."""
    now = [100.0]
    monkeypatch.setattr("gateway.telemetry.logging.time.monotonic", lambda: now[0])
    throttle = LogThrottle(logging.getLogger("test-json-logging"), per_second=3)
    for _ in range(100):
        throttle.warning("engine failed", {})
    now[0] += 1
    throttle.warning("engine failed", {})
    documents = [json.loads(line) for line in output.getvalue().splitlines()]
    assert len(documents) == 4
    assert documents[-1]["lines_kept_back"] == 97
