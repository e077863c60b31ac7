"""What a select item is called, and whether it stands for many."""

from __future__ import annotations

from sqlglot import exp


def output_name(node: exp.Expr) -> str:
    """The name BigQuery gives a select item; empty where it makes one up."""
    if isinstance(node, exp.Alias):
        return str(node.alias)
    if isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier):
        return str(node.this.this)
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        return str(node.expression.this)
    if isinstance(node, exp.Paren):
        return output_name(node.this) if isinstance(node.this, (exp.Column, exp.Dot)) else ""
    return ""


def star_of(item: exp.Expr) -> exp.Star | None:
    """The star of a select item that is one: `*`, `t.*`, `t.record.*`, `f(x).*`."""
    star = item if isinstance(item, exp.Star) else item.args.get("this")
    if isinstance(item, exp.Dot):
        star = item.expression
    return star if isinstance(star, exp.Star) and isinstance(item, (exp.Star, exp.Column, exp.Dot)) else None
