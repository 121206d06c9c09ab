"""The page of results: which files there are, what stands in them, and that nothing breaks out."""

import hashlib
import re
from base64 import b64encode
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from paramreuse.errors import StudyError
from paramreuse.papers.evidence import Evidence, Role
from paramreuse.papers.figures.drawing import redraw
from paramreuse.papers.figures.svg import svg_text
from paramreuse.papers.page.content import shown_table, shown_value
from paramreuse.papers.page.writing import write_results
from samples.paper_figures import (
    biased_arm,
    made_up_evidence,
    made_up_sites,
    paper_arm,
    paper_sweep,
)

CLAIMS = [
    {"claim": "C1", "statement": "one", "rule": "a rule", "shared": "holds", "independent": ""},
    {"claim": "C2", "statement": "two", "rule": "b", "shared": "does not hold", "independent": "x"},
]
NUMBERS = [{"claim": "C1", "condition": "shared", "outcome": "holds", "numbers": "0.9 > 0.5"}]
EVIL = "<script>alert('x')</script> | [a](b) `c` *d* $e$"


class Reader(HTMLParser):
    """What a browser finds: tags with their attributes, and the text in the cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "td":
            self.cells[-1] += data.rstrip("\n")

    def values(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.tags if name in attributes]


def small_evidence(name: str = "papers") -> Evidence:
    """Evidence for figure 5 alone, which is quickly drawn."""
    arm = paper_arm(num_layers=2, sweeps={}, distances=())
    return replace(made_up_evidence(arm), name=name)


@pytest.fixture(scope="module")
def results_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results")
    arm = path / "arms" / "unet-shared"
    arm.mkdir(parents=True)
    (arm / "report.html").touch()
    evidence = made_up_evidence(
        paper_arm(num_layers=2), biased_arm(sweeps={}, distances=(), batchnorms={})
    )
    write_results(evidence, path, CLAIMS, NUMBERS, provenance={"seed": 3, "command": "run it"})
    return path


@pytest.fixture(scope="module")
def page(results_folder: Path) -> Reader:
    return Reader((results_folder / "results.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def markdown(results_folder: Path) -> str:
    return (results_folder / "results.md").read_text(encoding="utf-8")


def test_every_figure_and_table_is_a_file(results_folder: Path) -> None:
    tables = {path.name for path in (results_folder / "tables").iterdir()}
    figures = {path.name for path in (results_folder / "figures").iterdir()}

    assert tables == {
        *("arms.csv", "claims.csv", "rules.csv", "claim-numbers.csv", "table-1.csv"),
        *("ablation.csv", "shares.csv", "distances.csv"),
    }
    assert figures == {
        f"figure-0{number}.{ending}" for number in (3, 4, 5, 6) for ending in ("svg", "csv")
    }


@pytest.mark.slow
def test_the_whole_protocol_has_every_figure_and_table(tmp_path: Path) -> None:
    page = write_results(made_up_evidence(), tmp_path, CLAIMS, NUMBERS)

    assert page == tmp_path / "results.html"
    for number in range(3, 15):
        assert (tmp_path / "figures" / f"figure-{number:02d}.svg").is_file()
    for name in ("table-1", "table-2", "table-3"):
        assert (tmp_path / "tables" / f"{name}.csv").is_file()
    assert "Not here" not in page.read_text(encoding="utf-8")
    ids = Reader(page.read_text(encoding="utf-8")).values("id")
    assert max(Counter(ids).values()) == 1


def test_a_figure_is_drawn_again_from_the_file_beside_it(results_folder: Path) -> None:
    drawn = (results_folder / "figures" / "figure-05.svg").read_text(encoding="utf-8")

    assert svg_text(redraw(results_folder / "figures" / "figure-05.csv"), "f05") == drawn
    # The same drawing stands in the page.
    assert drawn.strip() in (results_folder / "results.html").read_text(encoding="utf-8")


def test_both_pages_tell_how_the_results_came_about(page: Reader, markdown: str) -> None:
    assert "- seed: 3\n- command: run it\n" in markdown
    assert "- profile: smoke\n" in markdown
    assert ("dt", {}) in page.tags


def test_numbers_are_the_same_in_both_pages_and_the_file(
    results_folder: Path, page: Reader, markdown: str
) -> None:
    row = ["unet-shared", "shared", "LV", "0.900", "0.900", "0.900", "0.920"]

    assert f"| {' | '.join(row)} |" in markdown
    place = page.cells.index("LV")
    assert page.cells[place - 2 : place + 5] == row
    written = pd.read_csv(results_folder / "tables" / "table-1.csv").query("`class` == 'LV'")
    assert written[["dice", "paper"]].to_numpy().tolist() == [[0.9, 0.92]]


def test_claims_stand_with_their_outcomes_and_the_rules_apart(page: Reader, markdown: str) -> None:
    assert "| claim | statement | shared | independent |\n| --- | --- | --- | --- |" in markdown
    assert "| C1 | one | holds |  |" in markdown
    assert "| C1 | a rule |" in markdown
    assert "| C1 | shared | holds | 0.9 &gt; 0.5 |" in markdown
    assert ("td", {"class": "good"}) in page.tags
    assert ("td", {"class": "bad"}) in page.tags


def test_shares_after_recalibration_are_told_to_be_without_a_control(markdown: str) -> None:
    assert "such swaps have no control, so it compares with the paper share alone" in markdown
    assert "| recalibrated paper share |" in markdown
    assert "recalibrated share" not in markdown


def test_links_lead_to_files_that_are_there(
    results_folder: Path, page: Reader, markdown: str
) -> None:
    in_page = [to for to in page.values("href") if not to.startswith(("#", "data:"))]
    in_markdown = re.findall(r"\]\(([^)]*)\)", markdown)

    assert "arms/unet-shared/report.html" in in_page
    assert "arms/unet-shared/report.html" in in_markdown
    # This arm has no report of its own.
    assert "pspnet-bias/report.html" not in markdown
    assert all((results_folder / to).is_file() for to in (*in_page, *in_markdown))


def test_what_is_missing_is_named_with_the_reason(page: Reader, markdown: str) -> None:
    assert "- figure-12: the arm 'pspnet-bias' has no distance in W" in markdown
    assert "- table-2: no arm with a PSPNet was swept" in markdown
    assert "missing" in page.values("id")


def test_the_page_needs_no_script_and_no_address(results_folder: Path, page: Reader) -> None:
    text = (results_folder / "results.html").read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None

    digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    (policy,) = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert f"style-src 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "iframe", "object"})
    assert not page.values("style")
    assert not [to for to in page.values("href") if "//" in to]
    ids = page.values("id")
    assert max(Counter(ids).values()) == 1


def test_no_name_breaks_out_of_the_page(tmp_path: Path) -> None:
    evil = Role(EVIL, EVIL, EVIL)
    classes = ("background", EVIL, "LV")
    sweep = paper_sweep(made_up_sites(2, biased=True))
    odd = replace(
        sweep,
        classes=classes,
        foreground=(False, True, True),
        baseline=sweep.baseline[:, :3],
        scores={name: scores[:, :3] for name, scores in sweep.scores.items()},
    )
    arm = paper_arm(
        num_layers=2, name=EVIL, sweeps={"A2": odd}, distances=(), roles={"target": evil}
    )
    evidence = Evidence(EVIL, EVIL, (arm,))
    claims = [{"claim": EVIL, "statement": EVIL, "rule": EVIL, EVIL: "holds"}]

    write_results(evidence, tmp_path, claims, [{EVIL: EVIL}], provenance={EVIL: EVIL})

    page = Reader((tmp_path / "results.html").read_text(encoding="utf-8"))
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "script" not in {tag for tag, _ in page.tags}
    assert EVIL in page.cells
    assert "<script" not in text
    assert not re.findall(r"(?<!\\)[`*$]", text.replace("**", ""))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1
    for drawing in (tmp_path / "figures").glob("*.svg"):
        assert "script" not in drawing.read_text(encoding="utf-8")


def test_what_can_no_longer_be_made_is_taken_away(tmp_path: Path) -> None:
    for name in (
        "figures/figure-03.svg",
        "figures/figure-11-independent.csv",
        "tables/table-3.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    mine = [tmp_path / "figures" / "my-own.svg", tmp_path / "tables" / "my-own.csv"]
    for path in mine:
        path.touch()

    write_results(small_evidence(), tmp_path, [], [])

    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        *("figure-05.csv", "figure-05.svg", "my-own.svg"),
    }
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"arms.csv", "my-own.csv"}


def test_the_same_evidence_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        written = write_results(small_evidence(), tmp_path / name, CLAIMS, NUMBERS)
        texts.append([p.read_bytes() for p in sorted(written.parent.rglob("*.*")) if p.is_file()])

    assert len(texts[0]) == 8
    assert texts[0] == texts[1]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StudyError, match=r"cannot write into .*file"):
        write_results(small_evidence(), tmp_path / "file", [], [])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *[(None, ""), (True, "yes"), (False, "no"), (3, "3"), (float("nan"), ""), ("a", "a")],
        *[(0.81249, "0.812"), (-0.5, "-0.500"), (0.0, "0.000"), (0.00123, "0.0012")],
        *[(float("inf"), "inf"), (0.01, "0.010")],
    ],
)
def test_a_value_is_shown_in_as_few_digits_as_matter(value: object, shown: str) -> None:
    assert shown_value(value) == shown


def test_hidden_columns_are_left_to_the_file() -> None:
    table = shown_table("t", [{"a": 1, "b_c": 2.0}, {"a": 3, "b_c": None}], "t.csv", hidden=("a",))

    assert table.columns == ("b c",)
    assert table.rows == (("2.000",), ("",))
