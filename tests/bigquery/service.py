"""A BigQuery to test against: the emulator behind the shim that makes it as strict as the service."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn

from hoopweb.embedded.bigquery_demo import CLOUD_PROJECT, new_key, public_half
from hoopweb.embedded.bigquery_emulator import emulator_command
from hoopweb.embedded.bigquery_shim import Shim
from hoopweb.embedded.ports import free_port

PROJECT = CLOUD_PROJECT
_READY_WITHIN_S = 90.0


@dataclass(slots=True)
class Service:
    """`url` is what a connection's `api_endpoint` names; `key` the service account's key file."""

    url: str
    emulator_url: str
    shim: Shim
    key: dict[str, Any] = field(repr=False)

    def sql(self, text: str) -> dict[str, Any]:
        """Run a statement straight at the emulator, as nobody."""
        answer = httpx.post(
            f"{self.emulator_url}/bigquery/v2/projects/{PROJECT}/queries",
            json={"query": text, "useLegacySql": False, "timeoutMs": 60_000},
            timeout=90,
            trust_env=False,
        )
        body: dict[str, Any] = answer.json()
        assert answer.status_code == 200, body
        assert not body.get("errors"), body
        return body

    def make_dataset(self, name: str) -> None:
        url = f"{self.emulator_url}/bigquery/v2/projects/{PROJECT}/datasets"
        reference = {"datasetReference": {"projectId": PROJECT, "datasetId": name}}
        answer = httpx.post(url, json=reference, timeout=30, trust_env=False)
        assert answer.status_code == 200, answer.text


@contextlib.contextmanager
def running_service() -> Iterator[Service]:
    """Start both; needs the emulator's environment (`hoopweb.embedded.bigquery_emulator`)."""
    rest_port = free_port()
    command = emulator_command(rest_port=rest_port, grpc_port=free_port(excluding=frozenset({rest_port})))
    options = command.start_options() | {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command.argv, **options)
    emulator_url = f"http://127.0.0.1:{rest_port}"
    try:
        _until_answering(f"{emulator_url}/bigquery/v2/projects/{PROJECT}/datasets", process)
        with _running_shim(emulator_url) as service:
            yield service
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def _running_shim(emulator_url: str) -> Iterator[Service]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    key = new_key(f"{url}/token")
    shim = Shim(emulator_url, token_uri=f"{url}/token", client_email=key["client_email"], public_key=public_half(key))
    server = uvicorn.Server(uvicorn.Config(shim.app(), port=port, log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, name="bigquery shim", daemon=True)
    thread.start()
    deadline = time.monotonic() + _READY_WITHIN_S
    while not server.started:
        assert time.monotonic() < deadline, "the shim did not start"
        time.sleep(0.05)
    try:
        yield Service(url=url, emulator_url=emulator_url, shim=shim, key=key)
    finally:
        server.should_exit = True
        thread.join(20)


def _until_answering(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        assert process.poll() is None, f"the emulator ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"the emulator did not answer within {_READY_WITHIN_S:.0f} s"
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
