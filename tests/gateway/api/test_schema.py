from __future__ import annotations

from io import StringIO

import yaml
from django.core.management import call_command
from django.test import Client


def test_openapi_document_is_valid_without_a_warning() -> None:
    output = StringIO()

    call_command("spectacular", "--validate", "--fail-on-warn", stdout=output)

    assert "/api/v1/connections/{name}/statements" in yaml.safe_load(output.getvalue())["paths"]


def test_openapi_document_is_served(db: None) -> None:
    response = Client().get("/api/v1/schema/")

    assert response.status_code == 200
    assert b"openapi" in response.content
