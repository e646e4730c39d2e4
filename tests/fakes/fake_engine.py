"""A fake engine: an OpenAI-shaped HTTP server as one process, started by the same argument vector as vLLM's.

Knobs are ordinary engine arguments, so they come from a document like any other:

    fake-delay-seconds        wait before listening              fake-never-answers    /health green, completions hang
    fake-exit-code            say why and exit at once           fake-broken           /health green, completions 500
    fake-tokens               words of an answer (default 4)     fake-token-seconds    pause before each of them
    fake-die-after            exit after so many completions     fake-ignore-term      do not end on SIGTERM
    fake-helper               start a helper process, as vLLM does

`POST /fake/hang` makes every later completion hang. On SIGTERM it finishes what it is answering, then ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Engine(ThreadingHTTPServer):
    """The server and its state."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__((options.host, options.port), Handler)
        self.options = options
        self.lock = threading.Lock()
        self.completions = 0
        self.running = 0
        self.hang = options.fake_never_answers


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Engine
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the overridden argument
        print(f'INFO: "{format % args}"', flush=True)

    def do_GET(self) -> None:
        name = self.server.options.served_model_name
        if self.path == "/health":
            self._answer(200, {})
        elif self.path == "/v1/models":
            self._answer(200, {"object": "list", "data": [{"id": name, "object": "model"}]})
        elif self.path == "/metrics":
            lines = [f'vllm:num_requests_running{{model_name="{name}"}} {self.server.running}.0']
            lines += [f'vllm:num_requests_waiting{{model_name="{name}"}} 0.0']
            self._send(200, "text/plain", "\n".join([*lines, ""]).encode())
        else:
            self._answer(404, {"error": {"message": f"no {self.path}"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))) or b"{}")
        if self.path == "/fake/hang":
            self.server.hang = True
            self._answer(200, {})
        elif self.path not in ("/v1/completions", "/v1/chat/completions"):
            self._answer(404, {"error": {"message": f"no {self.path}"}})
        elif body.get("model") != self.server.options.served_model_name:
            self._answer(404, {"error": {"message": f"The model `{body.get('model')}` does not exist."}})
        else:
            self._complete(body)

    def _complete(self, body: dict[str, Any]) -> None:
        options = self.server.options
        with self.server.lock:
            self.server.completions += 1
            self.server.running += 1
            last = options.fake_die_after is not None and self.server.completions >= options.fake_die_after
        try:
            if self.server.hang:
                time.sleep(3600)
            if options.fake_broken:
                self._answer(500, {"error": {"message": "_C has no attribute cpu_gemm_wna16"}})
            elif body.get("stream"):
                self._stream(body)
            else:
                self._whole(body)
        finally:
            with self.server.lock:
                self.server.running -= 1
        if last:
            print("fake engine: died as told", flush=True)
            os._exit(9)

    def _words(self, body: dict[str, Any]) -> list[str]:
        return [f"word{number} " for number in range(min(self.server.options.fake_tokens, body.get("max_tokens", 16)))]

    def _whole(self, body: dict[str, Any]) -> None:
        words = self._words(body)
        time.sleep(self.server.options.fake_token_seconds * len(words))
        text = "".join(words)
        chat = self.path.endswith("chat/completions")
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = {"prompt_tokens": 5, "completion_tokens": len(words), "total_tokens": 5 + len(words)}
        self._answer(200, {"id": "fake", "model": body["model"], "choices": [choice], "usage": usage})

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        chat = self.path.endswith("chat/completions")
        for word in self._words(body):
            time.sleep(self.server.options.fake_token_seconds)
            part = {"delta": {"content": word}} if chat else {"text": word}
            self._event(json.dumps({"id": "fake", "choices": [{"index": 0, **part, "finish_reason": None}]}))
        self._event(json.dumps({"id": "fake", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        raw = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, content_type: str, raw: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(raw)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(raw)


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the options; those of the real engine are taken and ignored."""
    options = argparse.ArgumentParser()
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--served-model-name", required=True)
    options.add_argument("--fake-delay-seconds", type=float, default=0.0)
    options.add_argument("--fake-token-seconds", type=float, default=0.0)
    options.add_argument("--fake-tokens", type=int, default=4)
    options.add_argument("--fake-exit-code", type=int)
    options.add_argument("--fake-die-after", type=int)
    for flag in ("never-answers", "broken", "ignore-term", "helper"):
        options.add_argument(f"--fake-{flag}", action="store_true")
    return options.parse_known_args(argv)[0]


def main() -> int:
    """Serve until SIGTERM."""
    options = parse(sys.argv[1:])
    print(f"fake engine: {' '.join(sys.argv[1:])}", flush=True)
    if options.fake_exit_code is not None:
        print("fake engine: ValueError: told to fail", flush=True)
        return int(options.fake_exit_code)
    if options.fake_helper:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    time.sleep(options.fake_delay_seconds)
    engine = Engine(options)

    def stop(*_: object) -> None:
        if not options.fake_ignore_term:
            threading.Thread(target=engine.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    engine.serve_forever(poll_interval=0.05)
    engine.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
