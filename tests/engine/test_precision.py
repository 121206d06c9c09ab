"""Products of float32 numbers in float32, and the caller's settings given back."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from paramreuse.engine.precision import _precision_switches, float32_arithmetic
from paramreuse.sweep.scores import NegativeMSE
from paramreuse.sweep.sweeping import sweep_sites

backends = torch.backends
newer = pytest.mark.skipif(
    not hasattr(backends, "fp32_precision"), reason="this PyTorch has the older settings alone"
)


def settings() -> list[object]:
    """Return every setting; ``None`` for one that others contradict."""
    return [switch.value() for switch in _precision_switches()]


@pytest.fixture(autouse=True)
def _settings_as_they_were() -> Iterator[None]:
    general = getattr(backends, "fp32_precision", None)
    before = settings()
    yield
    if general is not None:
        backends.fp32_precision = general  # type: ignore[attr-defined]
    for switch, value in zip(_precision_switches(), before, strict=True):
        switch.restore(value)
    assert settings() == before


def allow_tf32_in_cublas() -> None:
    backends.cuda.matmul.allow_tf32 = True


def forbid_tf32_in_cudnn() -> None:
    backends.cudnn.allow_tf32 = False


def allow_bfloat16() -> None:
    torch.set_float32_matmul_precision("medium")


def allow_tf32_everywhere() -> None:
    backends.fp32_precision = "tf32"  # type: ignore[attr-defined]


def forbid_tf32_in_convolutions() -> None:
    backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "choose",
    [
        lambda: None,
        allow_tf32_in_cublas,
        forbid_tf32_in_cudnn,
        allow_bfloat16,
        pytest.param(allow_tf32_everywhere, marks=newer),
        pytest.param(forbid_tf32_in_convolutions, marks=newer),
    ],
)
def test_float32_is_float32_inside_and_the_settings_are_given_back(
    choose: Callable[[], None],
) -> None:
    choose()
    before = settings()

    with float32_arithmetic():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not backends.cudnn.allow_tf32
        assert not backends.cuda.matmul.allow_tf32
        assert "tf32" not in settings()

    assert settings() == before


@newer
def test_what_followed_the_general_setting_follows_it_again() -> None:
    allow_tf32_everywhere()

    with float32_arithmetic():
        pass

    backends.fp32_precision = "ieee"  # type: ignore[attr-defined]
    assert backends.cudnn.conv.fp32_precision == "ieee"  # type: ignore[attr-defined]
    assert backends.cuda.matmul.fp32_precision == "ieee"  # type: ignore[attr-defined]


def test_settings_are_given_back_after_an_error() -> None:
    before = settings()

    with pytest.raises(ZeroDivisionError), float32_arithmetic():
        _ = 1 / 0

    assert settings() == before


class Telling(nn.Linear):
    """Tells what TF32 was allowed when it, or a copy of it, ran."""

    seen: ClassVar[list[bool]] = []

    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(backends.cudnn.allow_tf32 or backends.cuda.matmul.allow_tf32)
        return super().forward(x)


@pytest.mark.parametrize("engine", ["full", "partial"])
def test_a_sweep_allows_no_tf32(engine: str) -> None:
    allow_tf32_in_cublas()
    Telling.seen.clear()
    target, source = Telling().eval(), nn.Linear(1, 1)
    batches = [(torch.ones(1, 1), torch.zeros(1, 1), "p")]

    sweep_sites(target, source, batches, NegativeMSE(), engine=engine, controls=())

    assert Telling.seen
    assert not any(Telling.seen[1:])  # the first run tells in which order layers are used
    assert backends.cuda.matmul.allow_tf32
