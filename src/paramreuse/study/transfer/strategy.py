"""The strategies: what a training of the transfer starts from, and what that takes."""

from enum import StrEnum


class Strategy(StrEnum):
    """One way to start the target afresh.

    To add one, give it a member here and a plan in ``starts``.

    Attributes:
        needs_source: Whether something of a source is loaded.
        follows_plan: Whether what is loaded comes from a plan, or is a random choice as large.
        freezes: Whether what is loaded stays as it is.
    """

    needs_source: bool
    follows_plan: bool
    freezes: bool

    SCRATCH = "scratch", False
    """Nothing is loaded."""
    FULL = "full"
    """Everything is loaded that fits, and trained along."""
    PLAN_FREEZE = "plan-freeze", True, True, True
    """What the plan loads is frozen."""
    PLAN_FINETUNE = "plan-finetune", True, True
    """What the plan loads is trained along."""
    RANDOM_PLAN = "random-plan", True, True
    """As many sites of each kind as the plan loads, drawn at random: the control for the plan."""
    STATISTICS = "statistics"
    """Values drawn with each source tensor's mean and variance: a control for everything."""

    def __new__(
        cls,
        word: str,
        needs_source: bool = True,
        follows_plan: bool = False,
        freezes: bool = False,
    ) -> "Strategy":
        """Make a member: the word in a study file, then what it takes."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.needs_source = needs_source
        member.follows_plan = follows_plan
        member.freezes = freezes
        return member
