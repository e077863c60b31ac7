"""From a YAML text to a checked Document. Mistakes are named by their path in the file: `connections[0].tls`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gateway.domain.configuration.schema import CloudCredentials, Document, Secret
from gateway.domain.secret_uris import SecretUnavailable, read_secret

MAX_CHARS = 10_000_000


class DocumentProblem(ValueError):
    """What is wrong, one `(path, message)` per mistake. Messages never quote a secret."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("\n".join(f"{path}: {message}" if path else message for path, message in problems))
        self.problems = problems


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys; here the second is a mistake."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, str) and key in seen:
            raise yaml.MarkedYAMLError(problem=f"{key!r} is given twice", problem_mark=key_node.start_mark)
        seen.add(key if isinstance(key, str) else id(key_node))
    return dict(loader.construct_mapping(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_document(text: str) -> Document:
    """Parse and check a document. Raises DocumentProblem."""
    try:
        raw = yaml.load(text[: MAX_CHARS + 1], Loader=_Loader)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DocumentProblem([(place, str(error.problem or "is not YAML"))]) from None
    except (yaml.YAMLError, RecursionError):
        raise DocumentProblem([("", "the file is not YAML")]) from None
    if not isinstance(raw, dict):
        raise DocumentProblem([("", "the file holds no mapping, expected apiVersion and sections")])
    return parse_document(raw)


def parse_document(raw: dict[str, Any]) -> Document:
    """Check a document that is already a mapping. Raises DocumentProblem."""
    try:
        document = Document.model_validate(raw)
    except ValidationError as error:
        raise DocumentProblem([_problem(item) for item in error.errors(include_input=False)]) from None
    _refuse_repeated_names(document)
    return document


def resolve_secret(secret: Secret, *, path: str, base: Path) -> str:
    """The secret's text: from the environment of this command, a file beside the document, or the document itself."""
    if secret.value is not None:
        return secret.value
    if secret.uri is not None:
        try:
            return read_secret(secret.uri)
        except SecretUnavailable as problem:
            raise DocumentProblem([(f"{path}.uri", str(problem))]) from None
    return _from_env_or_file(secret.env, secret.file, path=path, base=base)


def resolve_cloud_credentials(credentials: CloudCredentials, *, path: str, base: Path) -> str | None:
    """The service-account key, None when there is none to keep (anonymous, the machine's own identity)."""
    if credentials.anonymous or credentials.metadata:
        return None
    if credentials.value is not None:
        return credentials.value
    return _from_env_or_file(credentials.env, credentials.file, path=path, base=base)


def _from_env_or_file(env: str | None, file: str | None, *, path: str, base: Path) -> str:
    if env is not None:
        # The document names the variable, so this one read cannot go through hoopweb.env's prefix.
        text = os.environ.get(env, "")
        if not text:
            raise DocumentProblem([(f"{path}.env", f"the variable {env} is not set")])
        return text
    try:
        return (base / str(file)).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentProblem([(f"{path}.file", f"cannot be read: {type(error).__name__}")]) from None


def _refuse_repeated_names(document: Document) -> None:
    problems = []
    for section in Document.model_fields:
        names: set[str] = set()
        items = getattr(document, section)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if item.name in names:
                problems.append((f"{section}[{index}].name", f"{item.name!r} is given twice"))
            names.add(item.name)
    if problems:
        raise DocumentProblem(problems)


def _problem(error: Any) -> tuple[str, str]:
    """pydantic's location as a path. The discriminator of a union (`postgres`) is no place in the file."""
    path = ""
    location = list(error["loc"])
    if len(location) > 2 and location[0] == "connections" and location[2] in {"postgres", "bigquery"}:
        del location[2]
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step not in {"Text", "ReviewerGroup", "constrained-str"}:
            path += f".{step}" if path else str(step)
    return path, _message(error)


def _message(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        return f"is not known, expected {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    text = str(error["msg"])
    return _MESSAGES.get(kind, text[:1].lower() + text[1:])


_UNKNOWN_KIND = "kind is not one this version serves, expected 'postgres' or 'bigquery'"
_MESSAGES = {
    "extra_forbidden": "is not a known key",
    "missing": "is missing",
    "union_tag_invalid": _UNKNOWN_KIND,
    "union_tag_not_found": _UNKNOWN_KIND,
    "string_pattern_mismatch": "expected lower-case letters, digits, '-' and '_', at most 63 characters",
}
