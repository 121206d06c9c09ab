"""What a sweep measured: scores per swap, replacement, subject and class, and tables of them."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paramreuse.notebook import html_sentence, html_table
from paramreuse.sites.matching import SkippedTensor
from paramreuse.sites.swaps import SOURCE, Swap
from paramreuse.sweep.intervals import FEWEST_SUBJECTS, estimate_means, mean_interval
from paramreuse.sweep.scores import foreground_names, subject_means
from paramreuse.sweep.stopping import Side

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

MEAN = "mean"
"""The class of the rows that hold a subject's mean over its foreground classes."""

SWEEP_COLUMNS = (
    *("swap", "family", "layer", "path", "kind", "replacement", "class"),
    *("baseline", "score", "drop", "drop_low", "drop_high", "subjects"),
)


@dataclass(frozen=True, slots=True)
class MeanDrop:
    """Drop of one trial on the foreground mean.

    Attributes:
        mean: Mean over subjects.
        low: Lower end of its interval; NaN with one subject, ``mean`` where no subjects are known.
        high: Upper end; NaN or ``mean`` where ``low`` is.
        error: Standard error of the mean; NaN with one subject, 0 where no subjects are known.
        skew: Skewness of the studentised mean, as in ``Means``.
        subjects: Number of subjects that count; 0 where no subjects are known.
    """

    mean: float
    low: float
    high: float
    error: float
    skew: float
    subjects: int

    @property
    def has_too_few(self) -> bool:
        """Whether too few subjects count for the interval to keep its promise."""
        return 0 < self.subjects < FEWEST_SUBJECTS

    def side(self, bound: float) -> Side:
        """Tell on which side of a bound the mean lies, as far as the interval tells.

        Args:
            bound: Largest mean that counts as below.
        """
        return Side.OPEN if self.has_too_few else self.side_of_interval(bound)

    def side_of_interval(self, bound: float) -> Side:
        """Tell on which side of a bound the interval lies, however many subjects it rests on.

        Args:
            bound: As for ``side``.
        """
        if self.low > bound:
            return Side.ABOVE
        return Side.BELOW if self.high <= bound else Side.OPEN


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What was measured: the score of every swap, per subject and class.

    Attributes:
        swaps: The swaps, in the order in which they were asked for.
        replacements: ``"source"`` and the controls.
        classes: Names of the classes, K of them.
        foreground: For each class, whether it enters a subject's mean.
        subjects: Subject ids, P of them; empty when ``evaluate`` gave one number for all.
        baseline: Scores of the untouched target, shape ``(P, K)``; NaN where a class does not
            count for a subject.
        scores: Scores by (swap name, replacement), shape ``(P, K)``, the mean over the draws of a
            control; NaN also where a subject was not looked at any more, and all over for a trial
            that is not finite.
        identical: Trials that would have put in what the target already holds.
        skipped: Tensors of either side that could not be swapped, with the reason.
        seed: Seed of controls and intervals.
        notes: What the reader should know, e.g. why the fast engine was not used.
        not_finite: Trials that would have put in NaN or infinite values, or whose outputs are not
            finite.
        alike: Trials of controls that put in the same values as the source, so they show nothing.
        lineage: Whether source and target share a start; empty where it was not looked at.
        constant: Best mean score that the same class everywhere reaches; None where not known.
        draws: Scores of each draw of the controls that were drawn several times, by (swap name,
            control), shape ``(P, K)`` each; ``scores`` has their mean.
    """

    swaps: tuple[Swap, ...]
    replacements: tuple[str, ...]
    classes: tuple[str, ...]
    foreground: tuple[bool, ...]
    subjects: tuple[Hashable, ...]
    baseline: Array
    scores: Mapping[tuple[str, str], Array]
    identical: frozenset[tuple[str, str]]
    skipped: tuple[SkippedTensor, ...] = ()
    seed: int = 0
    notes: tuple[str, ...] = ()
    not_finite: frozenset[tuple[str, str]] = frozenset()
    alike: frozenset[tuple[str, str]] = frozenset()
    lineage: str = ""
    constant: float | None = None
    draws: Mapping[tuple[str, str], tuple[Array, ...]] = field(default_factory=dict)

    @property
    def controls(self) -> tuple[str, ...]:
        """The replacements other than the source."""
        return tuple(name for name in self.replacements if name != SOURCE)

    @property
    def kernels(self) -> tuple[Swap, ...]:
        """The single swaps of kernels, the output layer aside, as in the papers."""
        return tuple(swap for swap in self.swaps if swap.is_kernel)

    @property
    def foreground_classes(self) -> tuple[str, ...]:
        """Names of the classes that enter a subject's mean."""
        return foreground_names(self.classes, self.foreground)

    def drops(self, swap: str, replacement: str = SOURCE) -> Array:
        """Return baseline minus score, paired by subject.

        Args:
            swap: Name of a swap, e.g. ``"W 6"``.
            replacement: ``"source"`` or a control.

        Returns:
            Shape ``(P, K + 1)``: the classes, then the subject's mean over its foreground classes.

        Raises:
            KeyError: No such swap or replacement was measured.
        """
        return self._with_mean(self.baseline) - self._with_mean(self.scores[swap, replacement])

    def foreground_drops(self, swaps: Sequence[Swap], replacement: str = SOURCE) -> Array:
        """Return the drops of each subject's foreground mean.

        Args:
            swaps: Swaps of the sweep, M of them, at least one.
            replacement: ``"source"`` or a control.

        Returns:
            Shape ``(P, M)``, one column per swap; NaN where a subject was not scored.
        """
        return np.column_stack([self.drops(swap.name, replacement)[:, -1] for swap in swaps])

    def mean_drop(self, swap: str, replacement: str = SOURCE) -> float:
        """Return the drop of the foreground mean of one swap, over the subjects that count.

        Args:
            swap: Name of a swap, e.g. ``"W 6"``.
            replacement: ``"source"`` or a control.

        Returns:
            NaN where no subject was scored.
        """
        return float(column_means(self.drops(swap, replacement))[-1])

    def draw_drops(self, swap: str, control: str) -> tuple[float, ...]:
        """Return the mean drop of each draw of a control, over the subjects that count.

        Args:
            swap: Name of a swap, e.g. ``"RM 6"``.
            control: Name of a control.

        Returns:
            One number per draw; the one of ``mean_drop`` where a single draw was made.
        """
        draws = self.draws.get((swap, control), (self.scores[swap, control],))
        base = self._with_mean(self.baseline)
        drops = (column_means(base - self._with_mean(scores))[-1] for scores in draws)
        return tuple(map(float, drops))

    @property
    def num_trials(self) -> int:
        """How many swaps were scored, every draw of every replacement counted."""
        return len(self.scores) + sum(len(draws) - 1 for draws in self.draws.values())

    def by_cost(self, swaps: Iterable[Swap]) -> list[tuple[Swap, float]]:
        """Return swaps of the source with their mean drop, the costliest first.

        Args:
            swaps: Swaps of the sweep; those without a finite drop are left out.
        """
        drops = [(swap, self.mean_drop(swap.name)) for swap in swaps]
        finite = [(swap, drop) for swap, drop in drops if np.isfinite(drop)]
        return sorted(finite, key=lambda pair: -pair[1])

    def mean_drops(self, *, confidence: float = 0.95) -> dict[tuple[str, str], MeanDrop]:
        """Return the drop of every trial on the foreground mean, by swap and replacement.

        Args:
            confidence: Coverage of the intervals.
        """
        names = [(swap.name, name) for swap in self.swaps for name in self.replacements]
        values = np.column_stack([self.drops(*name)[:, -1] for name in names])
        if not self.subjects:
            return {
                n: MeanDrop(v, v, v, 0.0, 0.0, 0)
                for n, v in zip(names, values[0].tolist(), strict=True)
            }
        means = estimate_means(values)
        columns = (means.mean, *means.interval(confidence), means.error, means.skew, means.subjects)
        drops = zip(*(column.tolist() for column in columns), strict=True)
        return {name: MeanDrop(*drop) for name, drop in zip(names, drops, strict=True)}

    def _with_mean(self, scores: Array) -> Array:
        return np.column_stack([scores, subject_means(scores, self.foreground)])

    def baseline_scores(self) -> dict[str, float]:
        """Return the mean over subjects of the untouched target's score, by class and ``mean``."""
        means = column_means(self._with_mean(self.baseline)).tolist()
        return dict(zip((*self.classes, MEAN), means, strict=True))

    @property
    def mean_baseline(self) -> float:
        """Mean over subjects of the untouched target's foreground mean."""
        return self.baseline_scores()[MEAN]

    def rows(self, *, confidence: float = 0.95) -> Iterator[dict[str, object]]:
        """Yield the rows of ``frame``."""
        trials = [(s, r) for s in self.swaps for r in self.replacements]
        drops = np.concatenate([self.drops(s.name, r) for s, r in trials], axis=1)
        if self.subjects:
            low, high = mean_interval(drops, confidence=confidence)
        else:
            low, high = np.full((2, drops.shape[1]), np.nan)
        means = column_means(drops)
        base = self._with_mean(self.baseline)
        names = (*self.classes, MEAN)
        for index, (swap, replacement) in enumerate(trials):
            for offset, name in enumerate(names):
                column = index * len(names) + offset
                counted = np.isfinite(drops[:, column])
                start = float(base[counted, offset].mean()) if counted.any() else np.nan
                yield {
                    "swap": swap.name,
                    "family": swap.anchor.family,
                    "layer": swap.anchor.layer,
                    "path": swap.anchor.path,
                    "kind": swap.kind,
                    "replacement": replacement,
                    "class": name,
                    "baseline": start,
                    "score": start - means[column],
                    "drop": means[column],
                    "drop_low": low[column],
                    "drop_high": high[column],
                    "subjects": int(counted.sum()) if self.subjects else 0,
                }

    def _repr_html_(self) -> str:
        """Show a notebook what was swept, and the swaps that cost most."""
        subjects = f" on {len(self.subjects)} subjects" if self.subjects else ""
        baseline = self.baseline_scores()[MEAN]
        told = (
            f"{len(self.swaps)} swaps of {', '.join(self.replacements)}{subjects}; score of the "
            f"untouched target {baseline:.3f}"
        )
        rows = ({"swap": swap.name, "drop": drop} for swap, drop in self.by_cost(self.swaps))
        return html_sentence(told) + html_table(rows, total=len(self.swaps))

    def frame(self, *, confidence: float = 0.95) -> "pd.DataFrame":
        """Return one row per swap, replacement and class, and one for the foreground mean.

        Args:
            confidence: Coverage of ``drop_low`` to ``drop_high``.

        Returns:
            Columns ``swap family layer path kind replacement class baseline score drop drop_low
            drop_high subjects``. ``baseline`` and ``score`` are means over the same subjects;
            ``subjects`` is their number, 0 when a single number was measured for all.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows(confidence=confidence)), columns=list(SWEEP_COLUMNS))


def column_means(values: Array) -> Array:
    """Return the mean of each column over the rows that count; NaN where none does.

    Args:
        values: Shape ``(P, M)``, NaN where a subject does not count.
    """
    counted = np.isfinite(values)
    counts = counted.sum(axis=0)
    totals = np.where(counted, values, 0.0).sum(axis=0)
    means: Array = np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)
    return means
