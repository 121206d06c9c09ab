"""The page before axe-core's rules: no fault that it calls serious or critical."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe-core, from PARAMREUSE_AXE or from the npm registry."""
    given = os.environ.get("PARAMREUSE_AXE")
    if given:
        return Path(given).read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "axe-core@4"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"axe-core cannot be had from npm: {error}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_axe_finds_no_serious_fault(show, study_page, axe: str, scheme: str, width: int) -> None:
    opened = show(
        study_page[1],
        color_scheme=scheme,
        viewport={"width": width, "height": 900},
        bypass_csp=True,
    )

    # The page's own policy lets no foreign script in, hence bypass_csp.
    opened.page.evaluate(axe)
    audit = opened.page.evaluate("axe.run()")

    assert len(audit["passes"]) > 15, "axe looked at the page"
    serious = [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]} ({len(fault['nodes'])} places)"
        for fault in audit["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
