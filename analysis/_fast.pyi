from collections.abc import Iterator

from analysis.nodes import Node as Node
from analysis.nodes import Value

def read_value(text: str) -> Value: ...
def walk(value: Value) -> Iterator[Node]: ...
