"""The judgement of one swap: its word, and the numbers that the word rests on."""

from dataclasses import dataclass
from enum import StrEnum

from paramreuse.sites.swaps import Swap
from paramreuse.sweep.stopping import Side


class Word(StrEnum):
    """What a swap turned out to be."""

    REUSABLE = "reusable"
    """The source passes and no control does."""
    INDIFFERENT = "indifferent"
    """The source passes, but so does a control: anything would do there."""
    NOT_REUSABLE = "not reusable"
    """The drop is larger than the tolerance."""
    UNDECIDED = "undecided"
    """The interval of the source, or of a control, holds the tolerance; or no control can tell."""
    TOO_FEW = "too few subjects"
    """Fewer subjects were scored than an interval needs to keep its promise."""
    IDENTICAL = "identical"
    """Source and target hold the same values."""
    NOT_FINITE = "not finite"
    """The source's values, or the outputs with them in place, are NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one swap, on the mean of the foreground classes.

    Attributes:
        swap: What was judged.
        drop: Mean drop of the source.
        drop_low: Lower end of its interval, NaN where there is none.
        drop_high: Upper end of its interval, NaN where there is none.
        control_drop: Smallest mean drop among the controls, NaN without controls.
        control_draws: Mean drop of each draw of that control; empty without controls.
        paper: ``reusable`` or ``not reusable``: the point estimate against the tolerance.
        verdict: The same with interval and controls.
        side: On which side of the tolerance the source's drop lies.
        control_side: The same of the controls: above where all are, or where there is none; below
            where one is.
        doubt: Chance that the word is wrong, by the intervals; 0 where nothing was decided.
    """

    swap: Swap
    drop: float
    drop_low: float
    drop_high: float
    control_drop: float
    control_draws: tuple[float, ...]
    paper: Word
    verdict: Word
    side: Side
    control_side: Side
    doubt: float

    @property
    def can_be_loaded(self) -> bool:
        """Whether the source's tensors are worth loading there: reusable, or the same anyway."""
        return self.verdict in (Word.REUSABLE, Word.IDENTICAL)

    @property
    def has_too_few(self) -> bool:
        """Whether too few subjects were scored for a word."""
        return self.verdict is Word.TOO_FEW
