"""Two names of one tensor are told alike by everything that asks, however they came to share it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.alignment.aligning import align_models
from paramreuse.checkpoint import load_checkpoint, read_checkpoint, write_checkpoint
from paramreuse.checkpoint.tied import first_names, further_names, place_of
from paramreuse.engine.operations import tensors_by_key
from paramreuse.engine.plain import run_with
from paramreuse.sites.matching import sites_of
from paramreuse.sweep.scores import Accuracy
from paramreuse.sweep.sweeping import sweep_sites


class Tied(nn.Module):
    """Two convolutions with one kernel, and a head."""

    def __init__(self, tie: Callable[[nn.Module, nn.Module], None]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.a = nn.Conv2d(3, 3, 3, padding=1)
        self.b = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3 * 4 * 4, 2)
        tie(self.a, self.b)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(F.relu(self.stem(x))))
        return self.head(F.relu(self.b(x)).flatten(1))


def by_object(a: nn.Module, b: nn.Module) -> None:
    b.weight = a.weight


def by_data(a: nn.Module, b: nn.Module) -> None:
    b.weight.data = a.weight.data


def with_tied_weights(tie: Callable[[nn.Module, nn.Module], None], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Tied(tie).eval()


BOTH = pytest.mark.parametrize("tie", [by_object, by_data])


@BOTH
def test_a_tied_kernel_is_one_site(tie: Callable[[nn.Module, nn.Module], None]) -> None:
    sites = {site.key: site.aliases for site in sites_of(with_tied_weights(tie, 0))}

    assert sites["a.weight"] == ("b.weight",)
    assert "b.weight" not in sites


@BOTH
def test_a_swap_replaces_both_holders(tie: Callable[[nn.Module, nn.Module], None]) -> None:
    """With one of them replaced, outputs are those of a network that does not exist."""
    target, other = with_tied_weights(tie, 0), with_tied_weights(tie, 1)
    inputs = torch.randn(2, 1, 4, 4)
    with torch.no_grad():
        outputs = run_with(target, {"a.weight": other.a.weight}, inputs)
        target.a.weight.copy_(other.a.weight)
        torch.testing.assert_close(outputs, target(inputs), rtol=0, atol=0)


@BOTH
@pytest.mark.parametrize("engine", ["full", "partial"])
def test_a_sweep_scores_what_a_network_with_the_kernel_written_in_scores(
    tie: Callable[[nn.Module, nn.Module], None], engine: str
) -> None:
    target, source = with_tied_weights(tie, 0), with_tied_weights(tie, 3)
    images = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2
    sweep = sweep_sites(
        target, source, [(images, labels, ["p"] * 40)], Accuracy(2), controls=(), engine=engine
    )

    with torch.no_grad():
        target.a.weight.copy_(source.a.weight)
        right = target(images).argmax(1) == labels

    swap = next(swap for swap in sweep.swaps if swap.sites[0].key == "a.weight")
    wanted = [float(right[labels == label].double().mean()) for label in (0, 1)]
    assert sweep.scores[swap.name, "source"].tolist() == [wanted]


@BOTH
def test_the_captured_graph_knows_both_by_one_name(
    tie: Callable[[nn.Module, nn.Module], None],
) -> None:
    tensors, canonical = tensors_by_key(with_tied_weights(tie, 0))

    assert canonical["b.weight"] == canonical["a.weight"] == "a.weight"
    assert "b.weight" not in tensors


@BOTH
def test_a_file_holds_it_once_and_fills_both(
    tie: Callable[[nn.Module, nn.Module], None], tmp_path: Path
) -> None:
    model = with_tied_weights(tie, 0)
    path = write_checkpoint(tmp_path / "tied.safetensors", model)

    assert read_checkpoint(path).aliases == {"b.weight": "a.weight"}
    fresh = with_tied_weights(tie, 5)
    half = {key: t for key, t in model.state_dict().items() if key != "b.weight"}
    report = load_checkpoint(fresh, half)
    assert report.counts()["missing"] == 0
    assert torch.equal(fresh.b.weight, model.a.weight)


@BOTH
def test_alignment_permutes_a_tied_kernel_as_one(
    tie: Callable[[nn.Module, nn.Module], None],
) -> None:
    target, source = with_tied_weights(tie, 0), with_tied_weights(tie, 1)
    inputs = torch.randn(2, 1, 4, 4)

    alignment = align_models(target, source, inputs)
    with torch.no_grad():
        wanted = source(inputs)
        source.load_state_dict(alignment.apply(source))

        torch.testing.assert_close(source(inputs), wanted, rtol=1e-5, atol=1e-5)


def test_a_view_of_another_shape_is_another_tensor() -> None:
    whole = torch.arange(6.0)
    tensors = {"whole": whole, "again": whole.view(6), "table": whole.view(2, 3), "part": whole[:3]}

    assert further_names(tensors) == {"whole": ("again",), "table": (), "part": ()}


def test_tensors_without_memory_are_alone() -> None:
    tensors = {
        "meta": torch.empty(2, device="meta"),
        "meta too": torch.empty(2, device="meta"),
        "empty": torch.empty(0),
        "empty too": torch.empty(0),
    }

    assert first_names(tensors) == {name: name for name in tensors}
    assert place_of(tensors["meta"]) != place_of(tensors["meta too"])
