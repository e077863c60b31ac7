"""The demo's BigQuery (`make run-bigquery`): the emulator, the strict shim in front of it, and a clinic in it.

`prepare_warehouse` is called by the stack; `python -m hoopweb.embedded.bigquery_demo` is the program it then keeps
running. Everything is in the emulator's memory: a new start is a new clinic.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from hoopweb.demo.generate import COLUMNS, generate
from hoopweb.embedded.bigquery_emulator import emulator_command
from hoopweb.embedded.bigquery_shim import Shim
from hoopweb.embedded.command import Command
from hoopweb.embedded.configuration import PROJECT
from hoopweb.embedded.ports import remembered_port
from hoopweb.embedded.secrets import secrets_directory, write_secret

CLOUD_PROJECT = "demo-project"
DATASET = "clinic"
PATIENTS = 2_000
TEMPLATE = PROJECT / "hoopweb" / "demo" / "warehouse.yaml"
KEY = "warehouse_service_account"
_HOST = "127.0.0.1"
_CLIENT_EMAIL = f"gateway@{CLOUD_PROJECT}.iam.gserviceaccount.com"
_BATCH = 500
_START_WITHIN_S = 90.0
# Contact details are a record, so that the demo has a nested field to mask.
_CONTACT = ("email", "phone")
_TYPES = {"id": "INT64", "patient_id": "INT64", "dob": "DATE", "active": "BOOL"}
_TYPES |= dict.fromkeys(("registered_at", "admitted_at", "discharged_at"), "TIMESTAMP")
_TABLES = ("patients", "encounters")


@dataclass(frozen=True, slots=True)
class Warehouse:
    """What the stack starts, where it then answers, and the rules to apply."""

    command: Command
    url: str
    rules: Path


def prepare_warehouse(home: Path) -> Warehouse:
    """Make the service account's key and the rules; both are kept from one start to the next."""
    ports = {name: remembered_port(home, name) for name in ("bigquery", "bigquery_rest", "bigquery_grpc")}
    url = f"http://{_HOST}:{ports['bigquery']}"
    if not (secrets_directory(home) / KEY).exists():
        write_secret(home, KEY, json.dumps(new_key(f"{url}/token")))
    document = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    (connection,) = document["connections"]
    connection |= {"api_endpoint": url, "credentials": {"file": str(secrets_directory(home) / KEY)}}
    rules = home / "warehouse.yaml"
    rules.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    options = [f"--{name.replace('_', '-')}={port}" for name, port in ports.items()]
    argv = [sys.executable, "-m", "hoopweb.embedded.bigquery_demo", f"--home={home}", *options]
    return Warehouse(Command(name="bigquery", argv=argv, directory=PROJECT), url, rules)


def answers(url: str) -> bool:
    """Whether the shim is up, which it is once the clinic is loaded."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.post(f"{url}/token", timeout=5, trust_env=False).status_code == httpx.codes.BAD_REQUEST
    return False


def new_key(token_uri: str) -> dict[str, str]:
    """A service account's key file, as the real service hands it out."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": CLOUD_PROJECT,
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": _CLIENT_EMAIL,
        "token_uri": token_uri,
    }


def public_half(key: dict[str, str]) -> str:
    private = serialization.load_pem_private_key(key["private_key"].encode(), password=None)
    public = private.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form).decode()


def load_clinic(emulator: str) -> None:
    """Patients and encounters of the demo's clinic, at the emulator itself."""
    api = f"{emulator}/bigquery/v2/projects/{CLOUD_PROJECT}"
    with httpx.Client(timeout=120, trust_env=False) as client:
        _post(client, f"{api}/datasets", {"datasetReference": {"projectId": CLOUD_PROJECT, "datasetId": DATASET}})
        clinic = generate(patients=PATIENTS)
        for table in _TABLES:
            rows = [_record(table, row) for row in getattr(clinic, table)]
            reference = {"projectId": CLOUD_PROJECT, "datasetId": DATASET, "tableId": table}
            _post(
                client,
                f"{api}/datasets/{DATASET}/tables",
                {"tableReference": reference, "schema": {"fields": list(_fields(table))}},
            )
            for at in range(0, len(rows), _BATCH):
                batch = {"rows": [{"json": row} for row in rows[at : at + _BATCH]]}
                _post(client, f"{api}/datasets/{DATASET}/tables/{table}/insertAll", batch)


def _fields(table: str) -> Iterator[dict[str, Any]]:
    for column in COLUMNS[table]:
        if column == _CONTACT[0]:
            parts = [{"name": name, "type": "STRING", "mode": "NULLABLE"} for name in _CONTACT]
            yield {"name": "contact", "type": "RECORD", "mode": "NULLABLE", "fields": parts}
        elif column not in _CONTACT:
            yield {"name": column, "type": _TYPES.get(column, "STRING"), "mode": "NULLABLE"}


def _record(table: str, row: tuple[object, ...]) -> dict[str, Any]:
    values = {name: _plain(value) for name, value in zip(COLUMNS[table], row, strict=True)}
    if table == "patients":
        values["contact"] = {name: values.pop(name) for name in _CONTACT}
    return values


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S UTC")
    return value.isoformat() if isinstance(value, date) else value


def _post(client: httpx.Client, url: str, body: dict[str, Any]) -> None:
    answer = client.post(url, json=body)
    answer.raise_for_status()
    if answer.json().get("insertErrors"):
        raise RuntimeError("the emulator refused rows")


async def _serve(home: Path, port: int, rest_port: int, grpc_port: int) -> None:
    command = emulator_command(rest_port=rest_port, grpc_port=grpc_port)
    options = command.start_options() | {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = await asyncio.create_subprocess_exec(*command.argv, **options)
    try:
        emulator = f"http://{_HOST}:{rest_port}"
        await asyncio.wait_for(_until_up(f"{emulator}/bigquery/v2/projects/{CLOUD_PROJECT}/datasets"), _START_WITHIN_S)
        await asyncio.to_thread(load_clinic, emulator)
        key = json.loads((secrets_directory(home) / KEY).read_text(encoding="utf-8"))
        shim = Shim(emulator, token_uri=key["token_uri"], client_email=_CLIENT_EMAIL, public_key=public_half(key))
        config = uvicorn.Config(
            shim.app(), host=_HOST, port=port, log_level="warning", access_log=False, lifespan="off"
        )
        await uvicorn.Server(config).serve()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _until_up(url: str) -> None:
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            await asyncio.sleep(0.2)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    for name in ("bigquery", "bigquery-rest", "bigquery-grpc"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(_serve(options.home, options.bigquery, options.bigquery_rest, options.bigquery_grpc))


if __name__ == "__main__":
    main()
