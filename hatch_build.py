"""The README as a package index shows it: an index has none of the repository's files, so links become absolute."""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

IMAGE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)")


def for_index(text: str, repository: str) -> str:
    """Makes the README's relative links absolute.

    Args:
        text: the README.
        repository: its web address, such as ``https://github.com/OWNER/NAME``; without one, captions and link texts
            remain and nothing points to a file that the index does not have.
    """
    if not repository:
        return LINK.sub(r"\1", IMAGE.sub(r"*\1*", text))
    base = repository.rstrip("/")
    return LINK.sub(rf"[\1]({base}/blob/HEAD/\2)", IMAGE.sub(rf"![\1]({base}/raw/HEAD/\2)", text))


class Readme(MetadataHookInterface):
    """Fills in ``readme``; reads the address from ``Repository`` of ``[project.urls]``."""

    def update(self, metadata: dict) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository", "")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_index(text, repository)}
