"""Every outcome of the command: its exit code, JSON on stdout where it is asked for, words for people elsewhere."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from nexus.cli import demo as demo_command
from nexus.cli import install as install_command
from nexus.cli.main import main
from nexus.client import NexusClient
from nexus.outcome import ReleaseOutcome
from nexus.release_run import model_lock
from serving import release_state
from serving.contracts.node_status import NodeStatus
from serving.gitops import GitOps
from serving.local.errors import NodeError
from serving.local.reconciler_client import reconciler_runs
from serving.settings import NexusSettings
from tests.fakes.gateway_process import free_port
from tests.fakes.releases import make_registration, make_release

SPECS = Path(__file__).resolve().parents[4] / "manifests/models/support-assistant"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process."""
    monkeypatch.setattr(sys, "argv", ["nexus", *arguments])
    return main()


def error(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Read the error that stdout holds, and nothing else."""
    found: dict[str, str] = json.loads(capsys.readouterr().out)["error"]
    return found


def refuse(self: NexusClient, *_: object) -> None:
    """Fail as a node does."""
    raise NodeError("expected [this]; got that")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("release", "absent.yaml"), 2, "document"),
        (("report",), 1, "not-found"),
        (("report", "../x"), 2, "not-found"),
        (("report", "m-0123456789ab"), 2, "not-found"),
        (("release", "."), 2, "document"),
        (("release", "absent.yaml", "--again", "--abandon"), 2, "usage"),
        (("chat",), 2, "usage"),
        (("chat", "m", "Hello"), 1, "gateway"),
        (("keys", "issue", "demo", "laptop", "--days", "-1"), 2, "usage"),
        (("keys", "issue", "demo", "laptop", "--scope", "all"), 2, "usage"),
        (("keys", "issue", "demo", "laptop"), 1, "gateway"),
        (("keys", "rotate", "id", "--overlap-hours", "-1"), 2, "usage"),
        (("keys", "list", "--url", "localhost"), 2, "usage"),
        (("keys", "list", "--url", "http://[::1"), 2, "usage"),
        (("keys", "list", "--url", "http://127.0.0.1:80x"), 2, "usage"),
        (("keys", "list", "--url", "http://127.0.0.1:8081/a b"), 2, "usage"),
        (("keys", "list", "--url", "http://127.0.0.1:8081/ä"), 2, "usage"),
        (("policy", "check", "absent"), 2, "usage"),
        (("status", "surplus"), 2, "usage"),
        (("install", "unheard-of"), 2, "usage"),
        (("clean", "--keep", "0"), 2, "usage"),
        (("no-such-command",), 2, "usage"),
    ],
)
def test_every_error_is_one_json_object(
    arguments: tuple[str, ...],
    exit_code: int,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With `--json` the error is on stdout, named, with the exit code that the README promises."""
    monkeypatch.setenv("NEXUS_GATEWAY_PORT", str(free_port()))
    assert run(monkeypatch, *arguments, "--json") == exit_code
    assert error(capsys)["code"] == code


def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The variable, in words, as JSON and for people."""
    monkeypatch.setenv("NEXUS_GATEWAY_PORT", "abc")
    assert run(monkeypatch, "up", "--json") == 2
    assert "NEXUS_GATEWAY_PORT" in error(capsys)["message"]
    assert run(monkeypatch, "up") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "error: NEXUS_GATEWAY_PORT" in shown.err


def test_an_environment_without_a_policy_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started, and the message says what to correct."""
    monkeypatch.setenv("NEXUS_ENVIRONMENT", "prodd")
    assert run(monkeypatch, "up", "--json") == 2
    told = error(capsys)
    assert told["code"] == "setting"
    assert "NEXUS_ENVIRONMENT: expected an environment with a gateway policy" in told["message"]
    assert "got 'prodd'" in told["message"]


def test_a_second_release_of_a_model_is_refused_with_the_first_ones_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own exit code, the id in the message, and nothing was started or recorded."""
    settings, running = NexusSettings.load(), make_release(1)
    spec = SPECS / "base.yaml"
    first = running.model_copy(update={"spec": running.spec.model_copy(update={"model": "support-assistant"})})
    with model_lock(settings, first):
        assert run(monkeypatch, "release", str(spec), "--json") == 5
    told = error(capsys)
    assert told["code"] == "release-busy"
    assert first.release_id in told["message"]
    assert not (settings.home / "releases").exists()
    assert reconciler_runs(settings) is None


def test_a_release_waits_for_no_other_that_is_not_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was left between states is named with both ways out, before any step of the second one has run."""
    settings, other = NexusSettings.load(), make_release(7)
    other = other.model_copy(update={"spec": other.spec.model_copy(update={"model": "support-assistant"})})
    gitops = GitOps.of(settings)
    release_state.seed_environment(gitops, settings.environment)
    release_state.deploy_candidate(gitops, other, make_registration(other), settings.environment)
    assert run(monkeypatch, "release", str(SPECS / "base.yaml"), "--json") == 5
    told = error(capsys)
    assert told["code"] == "release-busy"
    assert other.release_id in told["message"]
    assert "--abandon" in told["message"]
    assert not (settings.home / "releases").exists()


@pytest.mark.parametrize("arguments", [(), ("--abandon",)])
def test_a_home_releases_to_one_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path, arguments: tuple[str, ...]
) -> None:
    """Its records would make a second environment believe what the first one's users saw; nothing is touched."""
    home.mkdir()
    (home / "environment").write_text("prod\n")
    assert run(monkeypatch, "release", str(SPECS / "base.yaml"), *arguments, "--json") == 2
    told = error(capsys)
    assert told["code"] == "setting"
    assert "NEXUS_HOME" in told["message"]
    assert [path.name for path in home.iterdir()] == ["environment"]


def test_a_misspelt_environment_does_not_hold_a_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    """Once it is corrected, as the message says, the home takes the release and belongs to the right one."""
    monkeypatch.setenv("NEXUS_ENVIRONMENT", "lcoal")
    assert run(monkeypatch, "release", str(SPECS / "base.yaml"), "--json") == 2
    assert "got 'lcoal'" in error(capsys)["message"]
    monkeypatch.setenv("NEXUS_ENVIRONMENT", "local")
    running = make_release(1)
    first = running.model_copy(update={"spec": running.spec.model_copy(update={"model": "support-assistant"})})
    with model_lock(NexusSettings.load(), first):
        assert run(monkeypatch, "release", str(SPECS / "base.yaml"), "--json") == 5
    assert (home / "environment").read_text() == "local\n"


def test_what_was_never_deployed_cannot_be_taken_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Git says so at once: no node is started for it."""
    assert run(monkeypatch, "release", str(SPECS / "base.yaml"), "--abandon", "--json") == 1
    assert error(capsys)["code"] == "release-state"
    assert reconciler_runs(NexusSettings.load()) is None


def test_up_is_one_object_and_tells_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    """Progress goes to stderr line by line, and stdout holds the status alone."""

    def up(self: NexusClient, say: Callable[[str], None]) -> NodeStatus:
        say("waiting for m-1, 5 of at most 210 s")
        return NodeStatus(commit="c", synced_at=0, reconciler_pid=1)

    monkeypatch.setattr(NexusClient, "up", up)
    assert run(monkeypatch, "up", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["home"] == str(home)
    assert shown.err == "waiting for m-1, 5 of at most 210 s\n"


def test_failures_of_the_node_and_bugs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What a user can mend is a message; a bug is one too, with its trace on stderr."""
    monkeypatch.setattr(NexusClient, "up", refuse)
    assert run(monkeypatch, "up", "--json") == 1
    assert error(capsys) == {"code": "node", "message": "expected [this]; got that"}
    monkeypatch.setattr(NexusClient, "up", lambda *_: 1 / 0)
    assert run(monkeypatch, "up", "--json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["code"] == "internal"
    assert "Traceback" in shown.err


def test_a_right_demo_is_right_whatever_else_the_node_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another model's broken engine is a warning: the verdicts are shown, and they alone make the exit code."""
    results = iter(act.expected for act in demo_command.ACTS)

    def released(*_: object, **__: object) -> ReleaseOutcome:
        return ReleaseOutcome(
            release_id="m-1", name="m", result=next(results), reason="x", seconds=1.0, report=None, resumed=False
        )

    monkeypatch.setattr(demo_command, "run_with_view", released)
    monkeypatch.setattr(NexusClient, "up", refuse)
    assert run(monkeypatch, "demo", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["right"] is True
    assert "warning: expected [this]; got that" in shown.err


def test_commands_name_the_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    """Nobody has to guess which installation was looked at; stopping nothing says so."""
    assert run(monkeypatch, "status", "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"home": str(home), "running": False}
    assert run(monkeypatch, "down") == 0
    assert f"nothing ran in {home}" in capsys.readouterr().out.replace("\n", "")
    assert run(monkeypatch, "status") == 1
    assert str(home) in capsys.readouterr().out


def test_installation_progress_stays_out_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Progress goes to stderr, and stdout holds one object."""
    monkeypatch.setattr(install_command, "install_all", lambda names, home: print("install  core: up to date"))
    assert run(monkeypatch, "install", "core", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["installed"] == ["core"]
    assert "up to date" in shown.err


class _Gateway(BaseHTTPRequestHandler):
    """Serves `known`, which repeats the last message, and `guarded`, which wants the right key for it."""

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": "known"}]})

    def _refusal(self, model: str) -> tuple[int, dict[str, Any]] | None:
        key = self.headers.get("authorization", "")
        if model == "guarded" and key != "Bearer nx_right":
            status = 403 if key == "Bearer nx_narrow" else 401
            return status, {"error": {"message": f"refused {key}" if status == 401 else "not yours", "code": "x"}}
        return None

    def do_POST(self) -> None:
        if self.path.startswith("/admin/"):
            status = {"unknown": 404, "wrong": 400, "denied": 401, "broken": 503}[self.path.split("/")[-2]]
            self._send(status, {"error": {"message": "said the admin API", "code": "x"}})
            return
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if refusal := self._refusal(asked["model"]):
            self._send(*refusal)
        elif asked["model"] == "busy":
            self._send(503, {"error": {"message": "no engine is ready", "code": "no_endpoint"}})
        elif asked["model"] not in {"known", "guarded"}:
            self._send(404, {"error": {"message": "no route", "code": "model_not_found"}})
        else:
            answer = f"{len(asked['messages'])}: {asked['messages'][-1]['content']}"
            chunk = {"choices": [{"delta": {"content": answer}}]}
            self._reply(200, f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())

    def _send(self, status: int, body: dict[str, Any]) -> None:
        self._reply(status, json.dumps(body).encode())

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A gateway at the settings' port."""
    with HTTPServer(("127.0.0.1", 0), _Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("NEXUS_GATEWAY_PORT", str(server.server_address[1]))
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("gateway")
def test_unknown_model_is_answered_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The models that are served are named, and no body of the gateway is shown."""
    assert run(monkeypatch, "chat", "unknown", "Hello", "--json") == 2
    told = error(capsys)
    assert told["code"] == "model-not-found"
    assert "serves (known); got 'unknown'" in told["message"]
    assert run(monkeypatch, "chat", "busy", "Hello") == 1
    shown = capsys.readouterr().err.replace("\n", " ")
    assert "503: no engine is ready" in shown
    assert "{" not in shown


@pytest.mark.usefixtures("gateway")
def test_piped_conversation_prints_answers_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No prompt where no terminal reads it; with `--json` the whole conversation is one object."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    assert run(monkeypatch, "chat", "known") == 0
    assert capsys.readouterr().out == "1: one\n3: two\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    assert run(monkeypatch, "chat", "known", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [message["content"] for message in told["messages"]] == ["one", "1: one", "two", "3: two"]


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    ("key", "code", "said"),
    [
        (None, "credential", "expected a valid API key in NEXUS_API_KEY; got none"),
        ("", "credential", "expected a valid API key in NEXUS_API_KEY; got none"),
        ("nx_wrong", "credential", "expected a valid API key in NEXUS_API_KEY; got another"),
        (
            "nx_narrow",
            "credential",
            "expected an API key in NEXUS_API_KEY that may use 'guarded'; the gateway says: not",
        ),
        ("nx_of\ntwo lines", "setting", "NEXUS_API_KEY: expected one line"),
        ("nx_schlüssel", "setting", "NEXUS_API_KEY: expected one line of printable ASCII"),
    ],
)
def test_a_refused_key_is_named_by_its_setting_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str | None, code: str, said: str
) -> None:
    """Whoever has no key, a wrong one or one that cannot be sent learns which setting to look at, and no more."""
    if key is not None:
        monkeypatch.setenv("NEXUS_API_KEY", key)
    assert run(monkeypatch, "chat", "guarded", "Hello", "--json") == 2
    shown = capsys.readouterr()
    told = json.loads(shown.out)["error"]
    assert told["code"] == code
    assert said in told["message"]
    assert not key or key.splitlines()[-1] not in shown.out + shown.err


@pytest.mark.usefixtures("gateway")
def test_the_right_key_is_sent_to_the_gateway_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key in NEXUS_API_KEY lets the question in; a proxy that the environment names is not asked."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NEXUS_API_KEY", "nx_right\n")
    assert run(monkeypatch, "chat", "guarded", "Hello") == 0
    assert capsys.readouterr().out == "1: Hello\n"


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    ("key_id", "exit_code", "code"),
    [("unknown", 2, "usage"), ("wrong", 2, "usage"), ("denied", 2, "credential"), ("broken", 1, "gateway")],
)
def test_what_the_admin_api_refuses_is_told_from_what_it_cannot_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key_id: str, exit_code: int, code: str
) -> None:
    """An unknown key, a wrong order and a wrong token are arguments and settings to correct; the rest is a failure."""
    monkeypatch.setenv("NEXUS_GATEWAY_ADMIN_TOKEN", "hunter2-" * 5)
    url = f"http://127.0.0.1:{NexusSettings.load().gateway_port}"
    assert run(monkeypatch, "keys", "revoke", key_id, "--url", url, "--json") == exit_code
    told = error(capsys)
    assert told["code"] == code
    assert "said the admin API" in told["message"]


def test_an_admin_token_that_cannot_be_sent_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A token of two lines is a wrong setting."""
    monkeypatch.setenv("NEXUS_GATEWAY_ADMIN_TOKEN", "hunter2\nhunter3")
    assert run(monkeypatch, "keys", "revoke", "x", "--json") == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["code"] == "setting"
    assert "hunter" not in shown.out + shown.err


_CHUNKED = b"HTTP/1.1 %d x\r\nTransfer-Encoding: chunked\r\n\r\n"
_PIECE = b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n'


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n",
        _CHUNKED % 200 + b"%x\r\n%b" % (len(_PIECE) + 9, _PIECE + b"data: {"),
        _CHUNKED % 200 + b"%x\r\n%b" % (len(_PIECE), _PIECE + b"\r\n"),
        _CHUNKED % 200 + b"%x\r\n%b" % (len(_PIECE) + 7, _PIECE + b"data: {\r\n"),
        _CHUNKED % 503 + b'ff\r\n{"error',
    ],
    ids=["no HTTP", "cut in a chunk", "cut between chunks", "cut in a line", "cut in an error"],
)
@pytest.mark.parametrize("arguments", [("chat", "m", "Hello"), ("keys", "list")])
def test_what_does_not_answer_properly_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: bytes, arguments: tuple[str, ...]
) -> None:
    """A port where no HTTP is spoken, and an answer that breaks off, are told with the address."""
    monkeypatch.setenv("NEXUS_GATEWAY_ADMIN_TOKEN", "hunter2-" * 5)
    with _peer(answer) as port:
        monkeypatch.setenv("NEXUS_GATEWAY_PORT", str(port))
        monkeypatch.setenv("NEXUS_GATEWAY_ADMIN_PORT", str(port))
        assert run(monkeypatch, *arguments, "--json") == 1
    told = error(capsys)
    assert told["code"] == "gateway"
    assert f"http://127.0.0.1:{port}" in told["message"]


@contextmanager
def _peer(answer: bytes) -> Iterator[int]:
    """Answer one connection with these bytes, whatever it asks; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(65_536)
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65_536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)
