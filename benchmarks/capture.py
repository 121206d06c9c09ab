"""What a sweep pays before its first batch: capture, comparison with the model, what to keep.

python benchmarks/capture.py          as a table
python benchmarks/capture.py --json   as JSON
Each network in a process of its own that has imported torch and nothing else of what capturing
takes; "first_s" has what is paid once per process in it, "again_s" has not.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from paramreuse.engine.partial import PartialEngine
from paramreuse.networks import pspnet, unet

CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "10 layers of 16 features, 64 x 64, batch 8": (lambda: stack(10), (8, 64)),
    "UNet width 16, 128 x 128, batch 8": (lambda: unet(width=16), (8, 128)),
    "PSPNet width 64, 128 x 128, batch 4": (lambda: pspnet(width=64), (4, 128)),
}


def stack(layers: int) -> nn.Module:
    parts: list[nn.Module] = []
    for index in range(layers):
        parts += [nn.Conv2d(16 if index else 1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*parts, nn.Conv2d(16, 4, 1))


def seconds(function: Callable[[], object]) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


def measure(name: str) -> dict[str, object]:
    torch.manual_seed(0)
    make, (size, side) = CASES[name]
    model, images = make().eval(), torch.randn(size, 1, side, side)

    def forward_pass() -> Tensor:
        with torch.no_grad():
            return model(images)  # type: ignore[no-any-return]

    forward_pass()
    first = seconds(lambda: PartialEngine(model, images))
    again = [seconds(lambda: PartialEngine(model, images)) for _ in range(5)]
    return {
        "network": name,
        "first_s": first,
        "again_s": median(again),
        "forward_pass_s": median([seconds(forward_pass) for _ in range(5)]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child)))
        return
    rows = []
    for name in CASES:
        command = [sys.executable, __file__, "--child", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout))
        if not options.json:
            print("  ".join(f"{k}={v:.3g}" if k != "network" else v for k, v in rows[-1].items()))
    if options.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
