class Alarm:
    """Closed when it is forgotten. Raises OSError where there can be no more files."""

    @property
    def file(self) -> int:
        """Readable when it rings."""

    def set(self, seconds: float) -> None:
        """Ring once, in so many seconds from now; what was set before is forgotten."""

    def stop(self) -> None:
        """Do not ring."""

    def rang(self) -> bool:
        """Whether it rang since it was set, or asked this."""

    def close(self) -> None: ...
