"""Read PostgreSQL's stored trees (`pg_node_tree`: src/backend/nodes/outfuncs.c, read.c) into plain nodes.

A tree is the database's own reading of a statement: every column is a relation OID and an attribute number, every
function and operator an OID. The grammar is positional: `{TAG :field value …}`, lists in parentheses, `<>` for NULL, a
datum as `length [ bytes ]`. Inside lexemes blanks, brackets and backslashes are escaped, so a name can never forge
structure. Fields are read by name, because their order changes between major versions.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Union

# "Value" is a lexeme, a list, a node or NULL.
Value = Union[str, "list[Value]", "Node", None]

_LEXEME = re.compile(r"[(){}]|(?:\\.|[^ \n\t(){}\\])+", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
MAX_TREE = 16 * 1024 * 1024


class TreeError(ValueError):
    """The text is not a stored tree as this reader knows them."""


@dataclass(slots=True, eq=False)
class Node:
    tag: str
    fields: dict[str, Value]
    below: list[Node] = field(default_factory=list)  # the nodes directly below, through lists, in order

    def node(self, name: str) -> Node | None:
        value = self.fields.get(name)
        return value if isinstance(value, Node) else None

    def items(self, name: str) -> list[Value]:
        value = self.fields.get(name)
        return value if isinstance(value, list) else []

    def nodes(self, name: str) -> list[Node]:
        return [item for item in self.items(name) if isinstance(item, Node)]

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        value = self.fields.get(name)
        return int(value) if isinstance(value, str) and value else 0

    def flag(self, name: str) -> bool:
        return self.fields.get(name) == "true"


def read_tree(text: str) -> Value:
    """Return the tree of `text`. Iterative, so that depth cannot exhaust the stack. Raises TreeError."""
    if len(text) > MAX_TREE:
        raise TreeError(f"tree of {len(text)} characters, expected no more than {MAX_TREE}")
    try:
        return read_value(text)
    except (IndexError, ValueError) as error:
        raise TreeError("malformed tree") from error


def read_value(text: str) -> Value:  # noqa: PLR0912, one branch a kind of token
    """Raises ValueError or IndexError on what is no tree."""
    lexemes: list[str] = _LEXEME.findall(text)
    root: list[Value] = []
    stack: list[Node | list[Value]] = [root]
    nodes: list[Node] = []  # the open nodes of the stack
    fields: list[str] = []  # the field each of them is about to fill
    at, end = 0, len(lexemes)
    while at < end:
        lexeme = lexemes[at]
        top = stack[-1]
        if isinstance(top, Node) and not fields[-1]:
            if lexeme == "}":
                stack.pop()
                nodes.pop()
                fields.pop()
                _place(stack, fields, top)
            elif lexeme[0] == ":":
                fields[-1] = lexeme[1:]
            else:
                raise TreeError("a field name was expected")
            at += 1
            continue
        if lexeme == "{":
            opened = Node(lexemes[at + 1], {})
            if nodes:
                nodes[-1].below.append(opened)
            nodes.append(opened)
            stack.append(opened)
            fields.append("")
            at += 2
            continue
        if lexeme == "(":
            stack.append([])
        elif lexeme == ")":
            if not isinstance(top, list) or len(stack) == 1:
                raise TreeError("an unexpected closing parenthesis")
            stack.pop()
            _place(stack, fields, top)
        elif lexeme == "}":
            raise TreeError("a value was expected")
        elif at + 1 < end and lexemes[at + 1] == "[":
            stop = lexemes.index("]", at + 2)
            _place(stack, fields, list(lexemes[at + 2 : stop]))
            at = stop
        else:
            _place(stack, fields, _plain(lexeme))
        at += 1
    if len(stack) != 1 or len(root) != 1:
        raise TreeError("an unfinished tree")
    return root[0]


def _place(stack: list[Node | list[Value]], fields: list[str], value: Value) -> None:
    top = stack[-1]
    if isinstance(top, Node):
        top.fields[fields[-1]] = value
        fields[-1] = ""
    else:
        top.append(value)


def _plain(lexeme: str) -> str | None:
    if lexeme == "<>":
        return None
    if len(lexeme) > 1 and lexeme[0] == '"' and lexeme[-1] == '"':  # a String node, or the empty string
        lexeme = lexeme[1:-1]
    return _ESCAPE.sub(r"\1", lexeme) if "\\" in lexeme else lexeme


def walk(value: Value) -> Iterator[Node]:
    """Every node below and including `value`, in no promised order."""
    pending = _nodes_in(value)
    while pending:
        node = pending.pop()
        yield node
        pending.extend(node.below)


def _nodes_in(value: Value) -> list[Node]:
    if isinstance(value, Node):
        return [value]
    return [node for item in value for node in _nodes_in(item)] if isinstance(value, list) else []


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below `node`, through lists."""
    return iter(node.below)


def plain_var(node: Node) -> tuple[str, ...] | None:
    """(entry, attribute, levels up) of a bare column, a change of label aside; None for anything else."""
    while node.tag == "RELABELTYPE" and (below := node.node("arg")) is not None:
        node = below
    if node.tag != "VAR":
        return None
    return tuple(node.text(name) for name in ("varno", "varattno", "varlevelsup"))


# What nothing is looked up by: what columns are called where they come out, what stands in for a relation's names, and
# where in the text something stood.
_SPELLED = frozenset({"resname", "aliasname", "colnames", "location", "stmt_location", "stmt_len"})


def without_names(text: str) -> tuple[str, list[str]]:
    """Return the tree's text with the values of `_SPELLED` cut out, and what the columns of a SELECT are called.

    Two trees with one such text differ in these values alone. The names are those the outermost query's visible
    entries have, in order, where it is the first node. Raises ValueError or IndexError on what is no tree.
    """
    try:
        return _without_names(text)
    except StopIteration:
        raise IndexError("an unfinished tree") from None


def _without_names(text: str) -> tuple[str, list[str]]:  # noqa: PLR0912, one branch a kind of token
    pieces: list[str] = []
    names: list[str] = []
    kept = depth = 0
    inside: list[bool] = [False]  # of what is open: whether it is a node
    names_next, listed, field = False, False, ""
    lexemes = _LEXEME.finditer(text)
    for match in lexemes:
        lexeme = match[0]
        if names_next and lexeme == "}":
            inside.pop()
            depth -= 1
            names_next = inside[-1]
        elif names_next and lexeme[0] == ":":
            field, names_next = lexeme[1:], False
            if depth == 1:
                listed = field == "targetList"
        elif names_next and lexeme == "[":  # a datum, whose length was the value
            while next(lexemes)[0] != "]":
                pass
        elif names_next or lexeme == "}":
            raise ValueError("a field name or a value was expected")
        elif lexeme == "{":
            next(lexemes)
            inside.append(True)
            depth += 1
            names_next = True
        elif lexeme == "(" and inside[-1] and field in _SPELLED:
            pieces.append(text[kept : match.start()])
            while (item := next(lexemes))[0] != ")":
                if item[0] in "({}":
                    raise ValueError("a list of names was expected")
            kept, names_next = item.end(), True
        elif lexeme == "(":
            inside.append(False)
        elif lexeme == ")":
            if inside[-1] or len(inside) == 1:
                raise ValueError("an unexpected closing parenthesis")
            inside.pop()
            names_next = inside[-1]
        elif inside[-1]:
            names_next = True
            if field in _SPELLED:
                pieces.append(text[kept : match.start()])
                kept = match.end()
            if depth == 2 and listed and field == "resname":
                names.append(_plain(lexeme) or "")
            elif depth == 2 and listed and field == "resjunk" and lexeme == "true":
                names.pop()
    if len(inside) != 1:
        raise ValueError("an unfinished tree")
    return "".join([*pieces, text[kept:]]), names


with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from analysis._fast import Node, read_value, walk, without_names  # noqa: F401, for the others
