"""The compiled reader of stored trees and the Python one: the same nodes, the same refusals."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import nodes
from tests.analysis.turns import counting_turns
from tests.turn import examples

pytest.importorskip("analysis._fast", reason="no C compiler or no Cython on this machine")

LEXEMES = [
    "{",
    "}",
    "(",
    ")",
    ":resname",
    ":colnames",
    ":resjunk",
    "true",
    "[",
    "]",
    "<>",
    ":field",
    ":",
    "TAG",
    '"a b"',
    '""',
    '"',
    "4",
    "\\",
    "\\(",
    "a\\ b",
    "ä",
    "\r",
]
TEXTS = st.lists(st.sampled_from(LEXEMES), max_size=30).flatmap(
    lambda lexemes: st.sampled_from([" ".join(lexemes), "".join(lexemes), "\n\t".join(lexemes)])
)


def _interpreted() -> Any:
    """`analysis.nodes` as it is where nobody compiled anything."""
    spec = importlib.util.spec_from_file_location("interpreted_nodes", str(nodes.__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    compiled, sys.modules["analysis._fast"] = sys.modules["analysis._fast"], None  # type: ignore[assignment]
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules["analysis._fast"] = compiled
    return module


interpreted = _interpreted()


def plain(module: Any, value: Any) -> Any:
    """A value as lists and tuples."""
    if isinstance(value, module.Node):
        fields = [(name, plain(module, found)) for name, found in value.fields.items()]
        return (value.tag, fields, [plain(module, below) for below in value.below])
    return [plain(module, item) for item in value] if isinstance(value, list) else value


def outcome(module: Any, text: str) -> Any:
    try:
        return plain(module, module.read_tree(text))
    except module.TreeError:
        return "refused"


def apart(module: Any, text: str) -> Any:
    try:
        return module.without_names(text)
    except (ValueError, IndexError) as error:
        return type(error)


# Characters of a stored tree; `make soak` reads long ones as well.
LONGEST_VIEW = 30_000 if os.environ.get("HOOPWEB_SOAK") else 12_000


def test_both_are_what_they_say() -> None:
    assert nodes.Node is not interpreted.Node
    assert Path(sys.modules[nodes.Node.__module__].__file__ or "").suffix == ".so"
    assert interpreted.Node.__module__ == "interpreted_nodes"


def test_same_nodes_of_the_servers_views(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        rows = connection.execute(
            "SELECT ev_action::text FROM pg_rewrite WHERE length(ev_action::text) < %s", (LONGEST_VIEW,)
        )
        trees = [tree for (tree,) in rows]

    assert len(trees) > 20
    for tree in trees:
        assert outcome(nodes, tree) == outcome(interpreted, tree) != "refused"
        assert apart(nodes, tree) == apart(interpreted, tree)
    mine, theirs = (sorted(node.tag for node in each.walk(each.read_tree(trees[0]))) for each in (nodes, interpreted))
    assert mine == theirs


def test_other_threads_have_turns_while_a_large_tree_is_read() -> None:
    tree = f"({{QUERY :args ({'1 ' * 200_000})}})"

    _, turns = counting_turns(lambda: nodes.read_tree(tree))

    assert turns > 20


@settings(max_examples=examples(1500), deadline=None)
@given(text=TEXTS)
def test_same_answer_to_anything(text: str) -> None:
    assert outcome(nodes, text) == outcome(interpreted, text)
    assert apart(nodes, text) == apart(interpreted, text)


@settings(max_examples=examples(300), deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 400), st.sampled_from(LEXEMES)), min_size=1, max_size=3))
def test_same_answer_to_a_tree_that_was_altered(places: list[tuple[int, str]]) -> None:
    tree = '({QUERY :commandType 1 :rtable ({RTE :eref {ALIAS :aliasname p\\ q :colnames ("a" "b")} :relid 16390}) '
    tree += ":targetList ({TARGETENTRY :expr {CONST :consttype 23 :constvalue 4 [ 7 0 -1 0 ]} :resname <>})})"
    for place, lexeme in places:
        at = place % len(tree)
        tree = tree[:at] + lexeme + tree[at + len(lexeme) :]

    assert outcome(nodes, tree) == outcome(interpreted, tree)
    assert apart(nodes, tree) == apart(interpreted, tree)


@pytest.mark.parametrize("module", [nodes, interpreted])
@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        (r"{Q :targetList ({T :resname a :resno 1})}", r"{Q :targetList ({T :resname b\\ :resno 1})}", ["b\\"]),
        (r"{Q :targetList ({T :resname a :resjunk true})}", r"{Q :targetList ({T :resname <> :resjunk true})}", []),
        (r"{Q :a {A :aliasname a :colnames (\"b\")}}", r"{Q :a {A :aliasname :colnames :colnames <>}}", []),
        (r"{Q :a {A :colnames (\"b\" \"c\")} :location 5}", r"{Q :a {A :colnames (\"\)\")} :location -1}", []),
    ],
)
def test_trees_that_differ_in_names_alone(module: Any, one: str, other: str, names: list[str]) -> None:
    assert module.without_names(one)[0] == module.without_names(other)[0]
    assert module.without_names(other)[1] == names


@pytest.mark.parametrize("module", [nodes, interpreted])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"{Q :ctename a}", r"{Q :ctename b}"),
        (r"{Q :ctename :resname :relid 1}", r"{Q :ctename :resname :relid 2}"),
        (r"{Q :resname :resno :resno 1}", r"{Q :resname :resno :resno 2}"),
        (r"{Q :value 4 [ :resname 1 ] :relid 1}", r"{Q :value 4 [ :resname 2 ] :relid 1}"),
        (r"{Q :names (:resname a)}", r"{Q :names (:resname b)}"),
        (r"{Q :resname {A :relid 1}}", r"{Q :resname {A :relid 2}}"),
    ],
)
def test_trees_that_differ_in_more(module: Any, one: str, other: str) -> None:
    assert module.without_names(one)[0] != module.without_names(other)[0]


@pytest.mark.parametrize("module", [nodes, interpreted])
def test_fields_by_what_they_hold(module: Any) -> None:
    node = module.read_tree("{A :n 12 :none <> :t x\\ y :yes true :list (1 {B :z 0} <> (2)) :one {C :z 1}}")

    assert [node.number(name) for name in ("n", "none", "list", "absent")] == [12, 0, 0, 0]
    assert [node.text(name) for name in ("t", "none", "one", "absent")] == ["x y", "", "", ""]
    assert [node.flag(name) for name in ("yes", "t", "none", "absent")] == [True, False, False, False]
    assert [below.tag for below in node.nodes("list")] == ["B"]
    assert len(node.items("list")) == 4
    assert node.items("n") == []
    assert node.node("one").tag == "C"
    assert node.node("list") is None
    assert [below.tag for below in node.below] == ["B", "C"]
    with pytest.raises(ValueError, match="invalid literal"):
        node.number("t")
