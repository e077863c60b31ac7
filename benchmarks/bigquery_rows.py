"""A BigQuery that has as many rows as it is asked for, made while they are read: what is large is the result alone.

Only what one SELECT needs: the table, the dry run, the job, its state and its pages. Loopback, no credentials.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROJECT, DATASET, TABLE = "bench-project", "bench", "rows"
COLUMNS = (("id", "INTEGER"), ("ssn", "STRING"), ("name", "STRING"), ("score", "FLOAT"), ("note", "STRING"))
NOTE = "a line of text that is as long as such lines are"
_LIMIT = re.compile(r"LIMIT (\d+)")
_FIELDS = [{"name": name, "type": type_, "mode": "NULLABLE"} for name, type_ in COLUMNS]
_REFERENCE = {"projectId": PROJECT, "datasetId": DATASET, "tableId": TABLE}


def text_for(rows: int) -> str:
    return f"SELECT id, ssn, name, score, note FROM {DATASET}.{TABLE} LIMIT {rows}"


@contextmanager
def running_rows() -> Iterator[str]:
    """The address of the service."""
    totals: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            parts = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            content = json.dumps(_answer(parts.path, parse_qs(parts.query), body, totals)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_: Any) -> None:
            """The benchmark prints its figures alone."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _answer(path: str, query: dict[str, list[str]], body: dict[str, Any], totals: dict[str, int]) -> dict[str, Any]:
    last = path.rsplit("/", 1)[-1]
    if last == TABLE:
        return {"tableReference": _REFERENCE, "type": "TABLE", "schema": {"fields": _FIELDS}}
    if last == "datasets":
        return {"datasets": [{"datasetReference": {"projectId": PROJECT, "datasetId": DATASET}}]}
    if last == "jobs":
        return _job(body, totals)
    if "/queries/" in path:
        return _page(totals[last], int(query.get("startIndex", query.get("pageToken", ["0"]))[0]), query)
    return _described(last)


def _job(body: dict[str, Any], totals: dict[str, int]) -> dict[str, Any]:
    configuration = body["configuration"]
    limit = _LIMIT.search(configuration["query"]["query"])
    job_id = body.get("jobReference", {}).get("jobId", "")
    if not configuration.get("dryRun"):
        totals[job_id] = int(limit[1]) if limit else 1
    return _described(job_id)


def _described(job_id: str) -> dict[str, Any]:
    facts = {"statementType": "SELECT", "referencedTables": [_REFERENCE], "schema": {"fields": _FIELDS}}
    return {
        "jobReference": {"projectId": PROJECT, "jobId": job_id},
        "status": {"state": "DONE"},
        "configuration": {"query": {}},
        "statistics": {"totalBytesProcessed": "10", "query": {**facts, "totalBytesProcessed": "10"}},
    }


def _page(total: int, begin: int, query: dict[str, list[str]]) -> dict[str, Any]:
    end = min(total, begin + int(query.get("maxResults", ["10000"])[0]))
    rows = [
        {"f": [{"v": str(n)}, {"v": f"078-05-{n}"}, {"v": f"Name {n}"}, {"v": str(n * 1.5)}, {"v": NOTE}]}
        for n in range(begin, end)
    ]
    more = {"pageToken": str(end)} if end < total else {}
    return {"jobComplete": True, "schema": {"fields": _FIELDS}, "totalRows": str(total), "rows": rows, **more}
