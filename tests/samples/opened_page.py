"""A page opened in a browser; no tests."""

from pathlib import Path
from typing import Any


class Opened:
    """A page with what it complained about and what it asked the network for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(**({"viewport": {"width": 1280, "height": 800}} | options))
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")

    @property
    def foreign_requests(self) -> list[str]:
        return [url for url in self.requests[1:] if not url.startswith(("data:", "blob:"))]

    def set_tolerance(self, value: float) -> None:
        self.page.fill("#exact", repr(value))

    def words(self) -> dict[str, str]:
        """Verdict of each site on the map, by name of the site."""
        labels = self.page.eval_on_selector_all(
            "#map-svg .cell", "cells => cells.map(cell => cell.getAttribute('aria-label'))"
        )
        return dict(label.split(": ", 1) for label in labels)
