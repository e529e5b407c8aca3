"""The order of the examples in the gallery."""

from pathlib import Path

ORDER = (
    "tutorial",
    "time_series",
    "tagger",
    "transformer",
    "hugging_face",
    "language_model",
)


class Order:
    """The place of an example; one that is not listed is an error."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> int:
        """Return the place of a file."""
        return ORDER.index(Path(name).stem)
