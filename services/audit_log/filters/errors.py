"""What is wrong with a filter, and where."""


class FilterWrong(ValueError):
    """The filter cannot be read; the message is for the caller."""

    def __init__(self, message: str, position: int) -> None:
        """`position` counts characters from 0; people count from 1."""
        super().__init__(f"{message} (at character {position + 1})")
        self.position = position
