"""What a page of Markdown shows: its blocks of code, and the commands in them; no tests."""

import re
from pathlib import Path


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Calls of the command line, each as one line without its remark."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("paramreuse ")]
