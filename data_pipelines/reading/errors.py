"""The errors that a bad video raises."""


class VideoError(Exception):
    """A video cannot be read, or not as exactly as was asked.

    Attributes:
      name: path of the file, or ``<bytes>``.
      reason: what is wrong with it, without the name.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)  # both in args: the error survives pickling between workers
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class VideoTimeoutError(VideoError):
    """A video took longer than the time limit; another time it might not."""


class ListedAsBadError(VideoError):
    """A video was not tried, since a manifest that the config trusts calls it bad."""
