"""The strategies: what a training of the transfer starts from, and what that takes."""

from enum import StrEnum


class Strategy(StrEnum):
    """One way to start the target afresh and to train it.

    To add one, give it a member here, a plan in ``starts`` and words in ``report.start_words``.

    Attributes:
        needs_source: Whether something of a given source is loaded.
        follows_plan: Whether what is loaded comes from a plan, or is a random choice as large.
        freezes: Whether what is loaded stays as it is.
        needs_steps: Whether it asks of the training what only training by steps can do.
        measures: Whether what it does is measured on the training subjects first.
    """

    needs_source: bool
    follows_plan: bool
    freezes: bool
    needs_steps: bool
    measures: bool

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
    HEAD = "head"
    """Everything is loaded, and the output layer alone trained."""
    BODY = "body"
    """Everything is loaded but the output layer."""
    PREFIX_QUARTER = "prefix-quarter"
    """The front quarter of the layers is loaded."""
    PREFIX = "prefix"
    """The front half of the layers is loaded."""
    PREFIX_THREE_QUARTERS = "prefix-three-quarters"
    """The front three quarters of the layers are loaded."""
    SUFFIX = "suffix"
    """The rear half of the layers is loaded."""
    NORMS = "norms"
    """Everything is loaded, and normalisations and output layer alone are trained."""
    RECALIBRATED = "recalibrated"
    """Everything is loaded; running statistics are recomputed at the end."""
    MIXED = "mixed"
    """Everything is loaded; the result lies a quarter of the way back to the source."""
    GENTLE = "gentle", True, False, False, True
    """Everything is loaded, trained at a low rate and pulled back to the source (L2-SP)."""
    LPFT = "lpft", True, False, False, True
    """Everything is loaded; the output layer is trained first, then all of it."""
    AUTO_RGN = "auto-rgn", True, False, False, True, True
    """Everything is loaded; each block is trained at its relative gradient norm (Auto-RGN)."""
    REWIND = "rewind", True, False, False, True, True
    """Everything is loaded but the blocks in which the source is no use; what needs no training is
    frozen or slowed, by a rewind sweep with training subjects held out in turn."""
    RECOMMENDED = "recommended", False
    """Whatever ``recommend`` chooses of all sources, seeing the training subjects alone."""

    def __new__(
        cls,
        word: str,
        needs_source: bool = True,
        follows_plan: bool = False,
        freezes: bool = False,
        needs_steps: bool = False,
        measures: bool = False,
    ) -> "Strategy":
        """Make a member: the word in a study file, then what it takes."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.needs_source = needs_source
        member.follows_plan = follows_plan
        member.freezes = freezes
        member.needs_steps = needs_steps
        member.measures = measures
        return member
