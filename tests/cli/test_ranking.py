"""paramreuse rank PILOT SOURCES..."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from paramreuse.cli import main

Rank = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rank(capsys: pytest.CaptureFixture[str]) -> Rank:
    """Run the command; its exit status, stdout and stderr."""

    def status_and_streams(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["rank", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return status_and_streams


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A pilot, and beside it a folder with a twin, a stranger and a file that is damaged."""
    generator = torch.Generator().manual_seed(0)
    twin, stranger = (
        {name: torch.randn(4, 4, generator=generator) for name in ("a.weight", "b.weight")}
        for _ in range(2)
    )
    (tmp_path / "sources").mkdir()
    save_file(twin, tmp_path / "pilot.safetensors")
    save_file(twin, tmp_path / "sources" / "twin.safetensors")
    save_file(stranger, tmp_path / "sources" / "stranger.safetensors")
    (tmp_path / "sources" / "bad.safetensors").write_bytes(b"no")
    return tmp_path


def test_rank_shows_the_nearest_of_a_folder_and_names_what_is_damaged(
    hub: Path, rank: Rank
) -> None:
    index = hub / "sketches"
    asked = (hub / "pilot.safetensors", hub / "sources", "--index", index, "--workers", 2)

    status, out, err = rank(*asked, "--json")

    found = json.loads(out)
    assert status == 0
    assert [Path(row["source"]).stem for row in found["sources"]] == ["twin", "stranger"]
    assert found["sources"][0] | {"source": "", "estimate": 0} == {
        **{"rank": 1, "source": "", "distance": 0.0, "rmse": 0.0, "kernels": "1 of 1"},
        **{"lineage": "shared", "estimate": 0},
    }
    assert [Path(item["source"]).name for item in found["left_out"]] == ["bad.safetensors"]
    assert "3 sources read, 0 known from the index" in err
    assert f"left out: {hub / 'sources' / 'bad.safetensors'}: cannot read" in err

    status, out, err = rank(*asked, "--top", 1, "--quiet")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["rank", "1"]
    assert err == ""


def test_rank_of_what_is_not_there_ends_with_2_and_one_message(hub: Path, rank: Rank) -> None:
    pilot, empty = hub / "pilot.safetensors", hub / "empty"
    empty.mkdir()
    for arguments, message in (
        ((pilot, empty), "there is no checkpoint in"),
        ((pilot, hub / "none"), "there is no file or folder"),
        ((hub / "none.pt", hub / "sources"), "there is no such file"),
        ((pilot, "bogus://bucket"), "expected an address that begins s3://"),
    ):
        status, out, err = rank(*arguments)
        assert (status, out) == (2, ""), message
        assert message in " ".join(err.split())
        assert "Traceback" not in err
