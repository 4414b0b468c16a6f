from typing import Any


class Watch:
    seen: Any = None

    def __init__(self, *a: Any) -> None: ...
    def close(self) -> None: ...


def difference_message(seen: Any) -> str:
    return ""
