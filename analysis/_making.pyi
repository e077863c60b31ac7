from typing import TypeVar

T = TypeVar("T")

def quickly_made(cls: type[T]) -> type[T]: ...
