"""How the admin interface says no: by naming a field, the value that it has, and what is allowed there."""

from typing import Final


class Refusal(Exception):
    """Something that cannot be done; ``status`` is HTTP's number for why."""

    def __init__(self, status: int, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field} = {value!r}: {allowed}")
        self.status: Final = status
        self.field: Final = field
        self.value: Final = value
        self.allowed: Final = allowed
