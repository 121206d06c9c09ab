"""Summaries over all arms: shares of reusable layers, distances between models, the ablation."""

from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np

from paramreuse.papers.evidence import Arm, Evidence
from paramreuse.papers.model_words import letter_of, model_words
from paramreuse.papers.rules.arms import mean_by_subject
from paramreuse.papers.rules.estimate import estimate_mean
from paramreuse.plain_text import Row
from paramreuse.reuse.judgement import Judgement, Word
from paramreuse.reuse.verdict import Verdict
from paramreuse.sites.layers import Kind
from paramreuse.sites.swaps import SOURCE, Swap
from paramreuse.sweep.outcomes import MEAN, Sweep


def head_of(arm: Arm) -> Row:
    """Return the columns that say which arm a row is of."""
    return {"arm": arm.name, "network": arm.network, "start": arm.start}


def share_rows(evidence: Evidence) -> Iterator[Row]:
    """Yield per arm, source and kind which share of the layers can be reused, by which rule.

    Args:
        evidence: What the arms measured.

    Yields:
        Rows with ``paper_share`` (the papers' rule: the point estimate, no control), ``share``
        (reusable or identical, with interval and control), ``indifferent_share`` (anything would
        do), ``recalibrated_paper_share`` (the papers' rule with the BatchNorm statistics recomputed
        after each swap, NaN where that was not measured; such swaps have no control, so there is no
        ``share`` of them), and the layers' numbers.
    """
    for arm in evidence.arms:
        for source, sweep in arm.sweeps.items():
            verdict = arm.judge(sweep)
            again = arm.recalibrated.get(source)
            after = arm.judge(again) if again is not None else None
            for kind in Kind:
                layers = _layers_of(verdict, kind)
                if layers:
                    recalibrated = _layers_of(after, kind) if after is not None else []
                    yield _source_head(arm, source) | _shares(layers, recalibrated)


def _source_head(arm: Arm, source: str) -> Row:
    return head_of(arm) | {
        "source": letter_of(source),
        "source_words": model_words(arm).get(source, source),
        "tolerance": arm.tolerance,
    }


def _layers_of(verdict: Verdict, kind: Kind) -> list[Judgement]:
    """Return the judgements of single swaps of a kind, the output layer aside, as in the papers."""
    singles = [j for j in verdict.judgements if j.swap.is_single and j.swap.kind == kind]
    return [j for j in singles if not j.swap.sites[0].is_output]


def _shares(layers: Sequence[Judgement], recalibrated: Sequence[Judgement]) -> Row:
    by_paper = [j for j in layers if j.paper is Word.REUSABLE]
    return {
        "kind": layers[0].swap.kind,
        "layers": len(layers),
        "paper_share": len(by_paper) / len(layers),
        "share": _share([j.can_be_loaded for j in layers]),
        "indifferent_share": _share([j.verdict is Word.INDIFFERENT for j in layers]),
        "recalibrated_paper_share": _share([j.paper is Word.REUSABLE for j in recalibrated]),
        "paper_layers": number_ranges([j.swap.anchor.layer for j in by_paper]),
        "reusable_layers": number_ranges([j.swap.anchor.layer for j in layers if j.can_be_loaded]),
    }


def _share(passed: Sequence[bool]) -> float:
    return sum(passed) / len(passed) if passed else float("nan")


def number_ranges(numbers: Sequence[int]) -> str:
    """Write layer numbers shortly: ``1 3-5`` for 1, 3, 4 and 5.

    Args:
        numbers: Layer numbers, in any order.
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def distance_rows(evidence: Evidence) -> Iterator[Row]:
    """Yield per arm and pair of models the medians over the kernels, the output layer aside.

    Args:
        evidence: What the arms measured.
    """
    for arm in evidence.arms:
        pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for distance in arm.distances:
            if distance.kind == Kind.W and not distance.is_output:
                rmses = pairs.setdefault((distance.first, distance.second), [])
                rmses.append((distance.rmse, distance.relative_rmse))
        words = model_words(arm)
        for (first, second), values in pairs.items():
            rmse, relative = np.median(np.array(values), axis=0)
            yield head_of(arm) | {
                "first": letter_of(first),
                "second": letter_of(second),
                "first_words": words.get(first, ""),
                "second_words": words.get(second, ""),
                "kernels": len(values),
                "median_rmse": rmse,
                "median_relative_rmse": relative,
            }


def ablation_rows(evidence: Evidence) -> Iterator[Row]:
    """Yield per start and variant of the UNet what a kernel of the first source costs on average.

    Args:
        evidence: What the arms measured; variants that have not run have no row.

    Yields:
        Rows with ``drop`` of the foreground mean and its interval over subjects, ``subjects`` (how
        many that is over: those on which every kernel was scored), ``control_drop`` (the smallest
        among the controls) and the shares of reusable kernel layers.
    """
    for start in ("shared", "independent"):
        for residual in (True, False):
            for long_skips in (True, False):
                arm = evidence.unet(start, residual=residual, long_skips=long_skips)
                if arm is None or not arm.sources or arm.sources[0] not in arm.sweeps:
                    continue
                sweep = arm.sweeps[arm.sources[0]]
                verdict = arm.judge(sweep)
                kernels = [j.swap for j in verdict.kernel_judgements]
                yield {
                    "start": start,
                    "short_connections": "residual" if residual else "plain",
                    "long_skips": "yes" if long_skips else "none",
                    "arm": arm.name,
                    "source": letter_of(arm.sources[0]),
                    "baseline": sweep.baseline_scores()[MEAN],
                    **_mean_kernel_drop(arm, sweep, kernels),
                    "kernels": len(kernels),
                    "paper_share": verdict.paper_kernel_share,
                    "share": verdict.kernel_share,
                }


def _mean_kernel_drop(arm: Arm, sweep: Sweep, kernels: Sequence[Swap]) -> Row:
    """Return the drop of the foreground mean, over the kernels of each subject first."""
    by_subject = _drops_by_subject(sweep, kernels, SOURCE)
    controls = [_drops_by_subject(sweep, kernels, control) for control in sweep.controls]
    drop = estimate_mean(by_subject, confidence=arm.confidence)
    return {
        "drop": drop.value,
        "drop_low": drop.low,
        "drop_high": drop.high,
        "subjects": len(by_subject),
        "control_drop": min((fmean(drops) for drops in controls if drops), default=np.nan),
    }


def _drops_by_subject(sweep: Sweep, kernels: Sequence[Swap], replacement: str) -> list[float]:
    """Return the mean drops of the subjects on which every kernel was scored."""
    return list(mean_by_subject(sweep, kernels, replacement).values()) if kernels else []
