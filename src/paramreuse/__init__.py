"""Which parameters of this pre-trained network can I reuse for my task, and what do I gain?

Names are imported when they are first used (PEP 562), so ``import paramreuse`` loads neither torch
nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from paramreuse._version import __version__

if TYPE_CHECKING:
    from paramreuse.alignment.matching import Alignment, align_models
    from paramreuse.checkpoint import Checkpoint, load_checkpoint, read_checkpoint, write_checkpoint
    from paramreuse.compare.batchnorm import compare_batchnorms, compare_effective
    from paramreuse.compare.distance import Comparison, compare_models
    from paramreuse.errors import ParamReuseError
    from paramreuse.report.figures import (
        plot_batchnorm,
        plot_distance,
        plot_map,
        plot_sweep,
        plot_transfer,
    )
    from paramreuse.reuse.freezing import (
        check_frozen,
        freeze_tensors,
        frozen_keys,
        trainable_parameters,
        unfreeze_tensors,
    )
    from paramreuse.reuse.plan import (
        Action,
        Plan,
        PlanEntry,
        apply_plan,
        plan_by_papers,
        plan_leaving,
        plan_reuse,
    )
    from paramreuse.reuse.plan_file import read_plan, write_plan
    from paramreuse.reuse.ranking import Ranking, rank_sources
    from paramreuse.reuse.schedule_export import plan_to_schedule
    from paramreuse.reuse.verdict import Verdict, judge, share_curve
    from paramreuse.sites.layers import Kind, kinds_of_torch_layer
    from paramreuse.sites.matching import Site, SiteMatch, compare_sites, match_sites, sites_of
    from paramreuse.sites.swaps import Swap, make_swaps
    from paramreuse.sweep.outcomes import Sweep
    from paramreuse.sweep.recalibrated import sweep_recalibrated
    from paramreuse.sweep.recalibration import recalibrated
    from paramreuse.sweep.scores import Accuracy, Dice, IoU, NegativeMSE, Score
    from paramreuse.sweep.sweeping import sweep_sites
    from paramreuse.training.freeze_plan import FreezePlan

_HOMES = {
    "alignment.matching": ("Alignment", "align_models"),
    "checkpoint": ("Checkpoint", "load_checkpoint", "read_checkpoint", "write_checkpoint"),
    "compare.batchnorm": ("compare_batchnorms", "compare_effective"),
    "compare.distance": ("Comparison", "compare_models"),
    "errors": ("ParamReuseError",),
    "report.figures": (
        *("plot_batchnorm", "plot_distance", "plot_map", "plot_sweep", "plot_transfer"),
    ),
    "reuse.freezing": (
        *("check_frozen", "freeze_tensors", "frozen_keys"),
        *("trainable_parameters", "unfreeze_tensors"),
    ),
    "reuse.plan": (
        *("Action", "Plan", "PlanEntry"),
        *("apply_plan", "plan_by_papers", "plan_leaving", "plan_reuse"),
    ),
    "reuse.plan_file": ("read_plan", "write_plan"),
    "reuse.ranking": ("Ranking", "rank_sources"),
    "reuse.schedule_export": ("plan_to_schedule",),
    "reuse.verdict": ("Verdict", "judge", "share_curve"),
    "sites.layers": ("Kind", "kinds_of_torch_layer"),
    "sites.matching": ("Site", "SiteMatch", "compare_sites", "match_sites", "sites_of"),
    "sites.swaps": ("Swap", "make_swaps"),
    "sweep.outcomes": ("Sweep",),
    "sweep.recalibrated": ("sweep_recalibrated",),
    "sweep.recalibration": ("recalibrated",),
    "sweep.scores": ("Accuracy", "Dice", "IoU", "NegativeMSE", "Score"),
    "sweep.sweeping": ("sweep_sites",),
    "training.freeze_plan": ("FreezePlan",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Accuracy",
    "Action",
    "Alignment",
    "Checkpoint",
    "Comparison",
    "Dice",
    "FreezePlan",
    "IoU",
    "Kind",
    "NegativeMSE",
    "ParamReuseError",
    "Plan",
    "PlanEntry",
    "Ranking",
    "Score",
    "Site",
    "SiteMatch",
    "Swap",
    "Sweep",
    "Verdict",
    "__version__",
    "align_models",
    "apply_plan",
    "check_frozen",
    "compare_batchnorms",
    "compare_effective",
    "compare_models",
    "compare_sites",
    "freeze_tensors",
    "frozen_keys",
    "judge",
    "kinds_of_torch_layer",
    "load_checkpoint",
    "make_swaps",
    "match_sites",
    "plan_by_papers",
    "plan_leaving",
    "plan_reuse",
    "plan_to_schedule",
    "plot_batchnorm",
    "plot_distance",
    "plot_map",
    "plot_sweep",
    "plot_transfer",
    "rank_sources",
    "read_checkpoint",
    "read_plan",
    "recalibrated",
    "share_curve",
    "sites_of",
    "sweep_recalibrated",
    "sweep_sites",
    "trainable_parameters",
    "unfreeze_tensors",
    "write_checkpoint",
    "write_plan",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
