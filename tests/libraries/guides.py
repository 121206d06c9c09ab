"""The pages under docs/guides, run as they stand; no tests."""

import os
import re
import tempfile
from pathlib import Path

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def blocks_of(page: str) -> list[str]:
    text = (GUIDES / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run_guide(page: str) -> None:
    """Run the blocks of a page one after the other, each with what those before it left."""
    blocks = blocks_of(page)
    assert blocks
    names = {"__name__": "guide"}
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for block in blocks:
                exec(compile(block, f"{page}.md", "exec"), names)  # noqa: S102 - our own file
        finally:
            os.chdir(home)
