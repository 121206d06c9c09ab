"""What several tests are given: a page opened in Chromium, a training that takes no time."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# The rest is imported where it is used: tests of other libraries run where it is not installed.
if TYPE_CHECKING:
    from paramreuse.report.contents import ReportData
    from samples.opened_page import Opened
    from samples.transfers import Trainer

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


@pytest.fixture(scope="module")
def study_page(tmp_path_factory: pytest.TempPathFactory) -> tuple["ReportData", Path]:
    from paramreuse.report.page import write_report
    from samples.report import pspnet_study

    study = pspnet_study()
    path = tmp_path_factory.mktemp("study") / "report.html"
    write_report(study, path)
    return study, path


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., "Opened"]]:
    from paramreuse.report.page import write_report
    from samples.opened_page import Opened

    shown: list[Opened] = []

    def show_data(data: "ReportData | Path", **options: Any) -> "Opened":
        path = data if isinstance(data, Path) else tmp_path / "report.html"
        if not isinstance(data, Path):
            write_report(data, path)
        shown.append(Opened(browser, path, **options))
        return shown[-1]

    yield show_data
    for opened in shown:
        opened.page.close()


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> "Trainer":
    from paramreuse.study.transfer import training
    from samples.transfers import Trainer

    trainer = Trainer()
    monkeypatch.setattr(training, "train_model", trainer)
    return trainer
