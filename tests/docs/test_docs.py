"""The documentation names nothing that is not there, and leaves out nothing that can be set."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from pydantic import BaseModel

from approvals.domain.parse import PARTS
from docs.site_links import on_page_markdown
from gateway.domain.configuration import schema
from masking.domain.rules import Technique
from tests.stack import PROJECT

DOCS = PROJECT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *PROJECT.glob("*.md")])
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)")
_CODE = re.compile(r"`([^`\n]+)`")
_ROOMS = ("analysis", "approvals", "audit", "benchmarks", "docs", "gateway", "hoopweb", "masking", "templates", "tests")
_PATH = re.compile(rf"(?:{'|'.join(_ROOMS)})/[\w./-]*")
_HELPER = re.compile(r"env_(?:str|bool|int|list|path|secret)")
# Written and read by the embedded stack about its own demo; nobody sets them.
_INTERNAL = {"CLINIC_APP_URL", "CLINIC_OWNER_URL", "DEMO_AGENT_SECRET"}
_DOCUMENT = [
    part
    for part in vars(schema).values()
    if isinstance(part, type) and issubclass(part, BaseModel) and part.model_fields
]


def identified(page: Path) -> str:
    return str(page.relative_to(PROJECT))


@pytest.mark.parametrize("page", PAGES, ids=identified)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    for target, _ in _LINK.findall(text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_site_links_to_nothing_it_does_not_hold() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="decisions/0001.md"))
    text = "[`a`](../../analysis/text.py) [b](../mcp.md#x) [c](https://a/../b) [d](0002.md) [e](../../README.md#f)"

    assert on_page_markdown(text, page=page) == "`a` [b](../mcp.md#x) [c](https://a/../b) [d](0002.md) e"


@pytest.mark.parametrize("page", PAGES, ids=identified)
def test_paths_named_in_code_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    named = [code for code in _CODE.findall(text) if _PATH.fullmatch(code)]

    generated = ("benchmarks/results/",)
    assert [path for path in named if not (PROJECT / path).exists() and not path.startswith(generated)] == []


@pytest.mark.parametrize("page", PAGES, ids=identified)
def test_commands_named_exist(page: Path) -> None:
    commands = {path.stem for path in PROJECT.glob("*/management/commands/*.py")}
    django = {"check", "collectstatic", "makemigrations", "migrate", "createsuperuser", "runserver"}

    named = set(re.findall(r"manage\.py ([a-z_]+)", page.read_text(encoding="utf-8")))

    assert named - commands - django == set()


@pytest.mark.parametrize("part", _DOCUMENT, ids=lambda part: part.__name__)
def test_every_key_of_the_document_is_explained(part: type[BaseModel]) -> None:
    assert [name for name in part.model_fields if not re.search(rf"\b{name}\b", CONFIGURATION)] == []


def test_every_condition_is_explained() -> None:
    assert [key for key in PARTS if f"`{key}`" not in CONFIGURATION] == []


def test_every_technique_is_explained() -> None:
    assert [name for name in Technique if f"`{name}`" not in CONFIGURATION] == []


def test_every_variable_is_explained_and_every_explained_one_is_read() -> None:
    explained = set(re.findall(r"`HOOPWEB_([A-Z_]+)`", CONFIGURATION.partition("## Environment")[2]))

    assert variables_read() - _INTERNAL == explained


def variables_read() -> set[str]:
    """The names given to the env helpers anywhere in the product."""
    names = set()
    for room in ("hoopweb", "gateway", "approvals", "masking", "audit"):
        for path in (PROJECT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and _HELPER.fullmatch(getattr(node.func, "id", "")):
                    first = node.args[0]
                    if isinstance(first, ast.Constant):
                        names.add(str(first.value))
    return names


def test_documents_in_the_guides_are_valid() -> None:
    found = 0
    for page in DOCS.glob("*.md"):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines = block.splitlines()
            indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
            document = yaml.safe_load("\n".join(line[indent:] for line in lines))
            schema.Document.model_validate({"apiVersion": "hoopweb/v1", **document})
            found += 1
    assert found >= 3


def test_compose_and_example_name_only_variables_that_are_read() -> None:
    known = {f"HOOPWEB_{name}" for name in variables_read()}
    text = (PROJECT / "compose.yaml").read_text(encoding="utf-8") + (PROJECT / ".env.example").read_text(
        encoding="utf-8"
    )

    named = {
        name.removesuffix("_FILE") if name.removesuffix("_FILE") in known else name
        for name in re.findall(r"HOOPWEB_[A-Z_]+", text)
    }

    assert named - known - {"HOOPWEB_"} == set()


def test_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is installed by `make docs`")

    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").exists()
