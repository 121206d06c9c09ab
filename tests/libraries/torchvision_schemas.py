"""Let torchvision import beside a CPU build of torch; import this first. No tests.

Its wheel brings operators that link against another build, so they are not registered, and
declaring what they compute without data fails. Declared here by name, they exist and cannot be run;
no network of ours runs one.
"""

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# Has to stay alive: what it declares goes with it.
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _schema in _SCHEMAS:
    LIBRARY.define(_schema)
