from audit.domain._openssl import Labelled
from masking.engines.types import MaskValue

class FastMask:
    ordinary: MaskValue
    def __call__(self, value: bytes | None) -> bytes | None: ...

class FastPartial(FastMask):
    def __init__(self, ordinary: MaskValue, *, keep: int, padded: bool) -> None: ...

class FastZip3(FastMask):
    def __init__(self, ordinary: MaskValue) -> None: ...

class FastYear(FastMask):
    def __init__(self, ordinary: MaskValue, *, floor: int) -> None: ...

class FastBinaryYear(FastMask):
    def __init__(self, ordinary: MaskValue, *, floor: int, width: int) -> None: ...

class FastToken(FastMask):
    def __init__(self, ordinary: MaskValue, digests: Labelled, *, padded: bool) -> None: ...

class FastIntegerToken(FastMask):
    def __init__(self, ordinary: MaskValue, digests: Labelled, *, binary: bool, width: int) -> None: ...

class FastUuidToken(FastMask):
    def __init__(self, ordinary: MaskValue, digests: Labelled, *, binary: bool) -> None: ...

class FastScan(FastMask):
    def __init__(self, ordinary: MaskValue) -> None: ...
