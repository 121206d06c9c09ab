"""The pages under docs/guides whose libraries are in our environment."""

from pathlib import Path

import pytest
from guides import GUIDES, blocks_of, run_guide


@pytest.mark.slow
@pytest.mark.parametrize("page", ["plain-loop", "lightning", "monai", "recommend"])
@pytest.mark.filterwarnings("default")  # they are the libraries' own
def test_every_block_of_a_guide_runs(page: str) -> None:
    run_guide(page)


def test_every_guide_with_code_is_run_somewhere() -> None:
    here = Path(__file__).parent
    run = "".join(path.read_text(encoding="utf-8") for path in here.glob("*.py"))

    pages = [path.stem for path in GUIDES.glob("*.md") if blocks_of(path.stem)]
    assert len(pages) >= 7
    assert [page for page in pages if f'"{page}"' not in run] == []
