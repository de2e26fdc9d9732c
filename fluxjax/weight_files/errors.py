"""The one error that readers of weight files raise about a file's content."""


class WeightsError(ValueError):
    """A weight file is damaged, hostile, or of a kind that is not read; the message says which."""


def shown(value: object, limit: int = 80) -> str:
    """A short, printable form of something that came out of an untrusted file."""
    text = ascii(value) if isinstance(value, str | int | float | bytes) else type(value).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
