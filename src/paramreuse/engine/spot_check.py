"""A few swaps computed as the engine does and by a fresh copy of the network, to be compared.

What an engine takes for granted of a network holds for most, and where it does not (a branch on a
value, a cache that outlives a swap) no score shows it. A swap of every kind tells most of it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from paramreuse.engine.agreement import AGREEMENT, difference
from paramreuse.engine.examination import Examined
from paramreuse.engine.plain import Engine, run_fresh


def disagreement(
    engine: Engine,
    examined: Examined,
    variants: Mapping[str, Mapping[str, Tensor]],
    inputs: Tensor,
) -> str | None:
    """Name a swap whose outputs are not those of a fresh copy with its tensors written in.

    Args:
        engine: Computes the swaps; a few samples become its current batch.
        examined: The network.
        variants: For each swap the tensors to put in, by name of the swap.
        inputs: Some samples.

    Returns:
        Name and difference in words; ``None`` where all agree.
    """
    with torch.no_grad():
        engine.baseline(inputs)
        outputs = engine.swapped(list(variants.values()))
        for (name, tensors), output in zip(variants.items(), outputs, strict=True):
            wanted = run_fresh(
                examined.model, tensors, inputs, moves_tensors=examined.moves_tensors
            )
            off = difference(output, wanted)
            # Twice the rounding that the engine owns up to: that of one pass and of the other.
            is_near = off <= max(AGREEMENT, 2 * engine.rounding)
            if not is_near and bool(torch.isfinite(wanted).all()):
                return f"{name} is off by {off:.1e} of the largest output"
    return None
