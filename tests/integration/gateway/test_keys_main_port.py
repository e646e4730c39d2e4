from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.gateway_process import GatewayProcess, free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

TOKEN = "admin-token-for-tests-" * 2


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    engine = FakeUpstream().start_in_thread()
    port = str(free_port())
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"), engine, ADMIN_PORT=port, ADMIN_TOKEN=TOKEN)
    try:
        yield process.start()
    finally:
        process.stop()
        engine.stop_thread()


TARGETS = [
    "/admin/v1/keys",
    "/admin/v1/snapshot",
    "//admin/v1/keys",
    "/./admin/v1/keys",
    "/v1/../admin/v1/keys",
    "/v1/models/../../admin/v1/keys",
    "/v1/models/..%2f..%2fadmin%2fv1%2fkeys",
    "/v1/models/%2e%2e/%2e%2e/admin/v1/keys",
    "/%61dmin/v1/keys",
    "/admin%2Fv1%2Fkeys",
    "/admin%00/v1/keys",
    "/admin;x/v1/keys",
    "/Admin/V1/Keys",
    "/\\admin/v1/keys",
    "/v1/chat/completions/../../../admin/v1/keys",
    "/admin/v1/keys?x=/v1/models",
    "/admin/v1/keys#/v1/models",
    "http://127.0.0.1:{port}/admin/v1/keys",
    "http://admin/admin/v1/keys",
    "*",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("target", TARGETS)
def test_no_path_of_the_main_port_leads_to_the_admin_api(gateway: GatewayProcess, method: str, target: str) -> None:
    """Whatever stands for the path, and whatever headers say, the admin token opens nothing on the main port."""
    port = gateway.settings["ADMIN_PORT"]
    request = (
        f"{method} {target.replace('{port}', port)} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"authorization: Bearer {TOKEN}\r\nx-forwarded-host: 127.0.0.1:{port}\r\nx-forwarded-prefix: /admin\r\n"
        "x-original-url: /admin/v1/keys\r\nx-rewrite-url: /admin/v1/keys\r\nx-forwarded-for: 127.0.0.1\r\n"
        "content-length: 2\r\nconnection: close\r\n\r\n{}"
    )
    answer = gateway.raw(request.encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split(b" ")[1]) in {400, 401, 404, 405}
    assert "error" in json.loads(body)
    assert b"snapshot" not in body
    assert TOKEN.encode() not in answer


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "PUT", "DELETE", "PATCH", "HEAD"])
def test_no_method_of_the_main_port_leads_to_the_admin_api(gateway: GatewayProcess, method: str) -> None:
    """Other methods find nothing there, either, and TRACE reflects no credential."""
    port = gateway.settings["ADMIN_PORT"]
    target = f"127.0.0.1:{port}" if method == "CONNECT" else "/admin/v1/keys"
    request = f"{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    answer = gateway.raw(request.encode())
    assert not answer or int(answer.split(b" ")[1]) in {400, 401, 404, 405, 501}
    assert TOKEN.encode() not in answer


def test_the_admin_token_is_no_credential_of_the_main_port(gateway: GatewayProcess) -> None:
    """The log of a gateway that was sent the admin token everywhere does not hold it."""
    gateway.call("POST", "/v1/chat/completions", '{"model":"m"}', {"authorization": f"Bearer {TOKEN}"})
    assert TOKEN not in gateway.log.read_text()
