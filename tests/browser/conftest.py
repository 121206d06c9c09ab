"""A page opened in Chromium, as the tests of this folder see it."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paramreuse.report.contents import ReportData
from paramreuse.report.page import write_report
from samples.report import pspnet_study

CHROMIUM = os.environ.get("PARAMREUSE_CHROMIUM") or shutil.which("chromium") or ""
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no chromium found: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield running
        running.close()


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


@pytest.fixture(scope="module")
def study_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportData, Path]:
    study = pspnet_study()
    path = tmp_path_factory.mktemp("study") / "report.html"
    write_report(study, path)
    return study, path


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    shown: list[Opened] = []

    def show_data(data: ReportData | Path, **options: Any) -> Opened:
        path = data if isinstance(data, Path) else tmp_path / "report.html"
        if not isinstance(data, Path):
            write_report(data, path)
        shown.append(Opened(browser, path, **options))
        return shown[-1]

    yield show_data
    for opened in shown:
        opened.page.close()
