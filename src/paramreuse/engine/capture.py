"""From a model to a graph of calls: torch.fx first, which is quick, then torch.export."""

import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from typing import TypeVar

from torch import Tensor, nn

from paramreuse.engine.exported import exported
from paramreuse.engine.graph import Graph
from paramreuse.engine.operations import CaptureError
from paramreuse.engine.traced import traced

T = TypeVar("T")


def capture(model: nn.Module, example_input: Tensor, accept: Callable[[Graph], T]) -> T:
    """Capture the calls of one forward pass of a model in evaluation mode.

    Args:
        model: Left as it is.
        example_input: One batch; the graph serves every number of samples, where the model allows.
        accept: Makes of a graph what is wanted, or raises ``CaptureError``: then the next way to
            capture is tried.

    Returns:
        What ``accept`` made of the first graph that it took.

    Raises:
        CaptureError: Neither torch.fx nor torch.export gives a graph that is accepted.
    """
    _refuse_hooks(model)
    reasons = []
    for tracer in (traced, exported):
        try:
            # torch.export prints the whole graph when it refuses a branch.
            with warnings.catch_warnings(), redirect_stderr(StringIO()):
                warnings.simplefilter("ignore")
                graph = tracer(model, example_input)
            return accept(graph)
        except CaptureError as error:
            reasons.append(f"{tracer.__name__}: {error}")
        # Tracing runs the caller's code on stand-ins for tensors: it may raise anything at all.
        except Exception as error:
            reasons.append(f"{tracer.__name__}: {_first_line(error)}")
    raise CaptureError("; ".join(reasons))


def _refuse_hooks(model: nn.Module) -> None:
    """Refuse to run the caller's hooks on stand-ins, which they would go on holding.

    Raises:
        CaptureError: There is a forward hook that does not come with PyTorch.
    """
    for path, module in model.named_modules():
        hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        if any(not type(hook).__module__.startswith("torch.") for hook in hooks):
            raise CaptureError(f"forward hooks of {path or 'the model'!r} change what it computes")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
