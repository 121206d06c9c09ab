"""The papers' claims C1 to C10: by which rule each is judged, and under which conditions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from paramreuse.papers.evidence import Evidence, NotMeasuredError
from paramreuse.papers.rules.condition import CONDITIONS, Condition, Variant
from paramreuse.papers.rules.finding import Finding, Outcome
from paramreuse.papers.rules.kernels_by_place import predicted_kernels_are_not_reusable
from paramreuse.papers.rules.kinds import (
    deeper_means_matter_less,
    first_mean_matters,
    kernels_matter_most,
    statistics_matter_more,
)
from paramreuse.papers.rules.likeness import likeness_does_not_predict
from paramreuse.papers.rules.transfer import nearest_transfers_best
from paramreuse.papers.rules.whole_networks import (
    only_pspnet_is_reusable,
    short_connections_generalise,
    unet_suffers_more,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of the papers.

    Attributes:
        name: ``C1`` to ``C10``.
        statement: What the papers say.
        rule: How it is judged, in words.
        judge: The rule.
        variants: What can be varied besides the start.
    """

    name: str
    statement: str
    rule: str
    judge: Callable[[Evidence, Condition], Finding]
    variants: tuple[Variant, ...] = ()

    def applies(self, condition: Condition) -> bool:
        """Tell whether the condition makes a difference to the rule."""
        return condition.variant is Variant.PLAIN or condition.variant in self.variants


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What became of one claim.

    Attributes:
        claim: The claim.
        findings: Finding by name of the condition, for the conditions that apply.
    """

    claim: Claim
    findings: Mapping[str, Finding]


CLAIMS = (
    Claim(
        "C1",
        "PSPNet (short connections) is a reusable network, UNet (long connections) is not.",
        "At least half of PSPNet's kernels are reusable, and fewer than half of UNet's.",
        only_pspnet_is_reusable,
        (Variant.CONTROL, Variant.RECALIBRATED),
    ),
    Claim(
        "C2",
        "The running mean of the first normalisation matters: it is not reusable in either "
        "network.",
        "In both networks the drop of RM 1 is above the tolerance.",
        first_mean_matters,
    ),
    Claim(
        "C3",
        "RM and RV matter more than RW and RB, which are almost entirely reusable.",
        "In both networks the mean drop of all RM and RV is above that of all RW and RB, and at "
        "least 90 % of the RW and RB are reusable.",
        statistics_matter_more,
        (Variant.CONTROL,),
    ),
    Claim(
        "C4",
        "The bias of a convolution is reusable, and its weight is the sensitive kind.",
        "In both networks every B behind layer 1 is reusable, and the share of the score lost "
        "at W is above that at B, RM, RV, RW and RB each. PSPNet is the one with biases in its "
        "backbone where that has run.",
        kernels_matter_most,
        (Variant.CONTROL, Variant.RECALIBRATED),
    ),
    Claim(
        "C5",
        "In PSPNet the kernels that cannot be reused are the first, those where the number of "
        "features changes, and those right behind them.",
        "Of the kernels of layers 1-20, the 1x1 of the short connections aside, the predicted ones "
        "(layer 1, unequal numbers of features in and out, the layer right behind) are not "
        "reusable more often than the others: one-sided Fisher exact test, p at most 0.05. It does "
        "not hold if fewer than half of the not reusable kernels are predicted.",
        predicted_kernels_are_not_reusable,
        (Variant.CONTROL, Variant.RECALIBRATED),
    ),
    Claim(
        "C6",
        "UNet suffers more from swaps than PSPNet, at RMSEs of one order of magnitude.",
        "The share of the score lost at UNet's kernels is above that at PSPNet's, paired by "
        "subject, and the medians over kernels of the RMSE to the first source differ by a "
        "factor of at most 10.",
        unet_suffers_more,
        (Variant.RELATIVE, Variant.RECALIBRATED),
    ),
    Claim(
        "C7",
        "The deeper the layer, the more reusable RM is in UNet.",
        "The rank correlation of RM's mean drop with the layer is below 0, subjects resampled.",
        deeper_means_matter_less,
    ),
    Claim(
        "C8",
        "Same data or same task does not predict a small RMSE: it has to be measured.",
        "In PSPNet some source that shares neither data nor task with the target has kernel "
        "RMSEs smaller by at least 5 % than some source that shares one, paired by layer, or no "
        "source that shares one has RMSEs that much smaller than any that shares none. It does "
        "not hold if every source that shares one is nearer by that much than every source that "
        "shares none.",
        likeness_does_not_predict,
        (Variant.RELATIVE,),
    ),
    Claim(
        "C9",
        "The source with the smallest RMSE gives the best transfer, and one with a large RMSE can "
        "do worse than nothing loaded.",
        "In PSPNet, at the smallest number of training subjects and in at least 3 repetitions, "
        "the source with the smallest median kernel RMSE has a higher mean Dice than every "
        "other source, both frozen and not frozen, by the interval over repetitions and "
        "subjects and in every repetition. It does not hold if one other source has a higher "
        "one in both.",
        nearest_transfers_best,
        (Variant.RELATIVE,),
    ),
    Claim(
        "C10",
        "A residual network generalises its features: by the short connection, not by the change "
        "of the number of features.",
        "The share of the score lost at kernels is lower in a residual UNet than in a plain one "
        "of the same widths, both with and without long connections, over all kernels and over "
        "those alone that keep the number of features.",
        short_connections_generalise,
        (Variant.RECALIBRATED,),
    ),
)
"""The claims, as ``docs/claims.md`` explains them."""


def judge_claims(evidence: Evidence) -> tuple[ClaimResult, ...]:
    """Judge every claim under every condition that makes a difference to its rule.

    Args:
        evidence: What the arms measured. Where something that a rule needs is missing, the claim
            cannot be told, and the reason names it.
    """
    return tuple(
        ClaimResult(
            claim,
            {c.name: judge_claim(claim, evidence, c) for c in CONDITIONS if claim.applies(c)},
        )
        for claim in CLAIMS
    )


def judge_claim(claim: Claim, evidence: Evidence, condition: Condition) -> Finding:
    """Judge one claim under one condition; what was not measured makes it ``cannot tell``."""
    try:
        return claim.judge(evidence, condition)
    except NotMeasuredError as missing:
        return Finding(Outcome.CANNOT_TELL, "", str(missing))


def claims_rows(results: Sequence[ClaimResult]) -> list[dict[str, str]]:
    """Return the claims table, one row per claim.

    Returns:
        Columns ``claim statement rule``, then the outcome under each condition, ``""`` where the
        condition makes no difference to the rule.
    """
    return [
        {
            "claim": result.claim.name,
            "statement": result.claim.statement,
            "rule": result.claim.rule,
        }
        | {
            c.name: result.findings[c.name].outcome.value if c.name in result.findings else ""
            for c in CONDITIONS
        }
        for result in results
    ]


def claim_number_rows(results: Sequence[ClaimResult]) -> list[dict[str, str]]:
    """Return the numbers behind the claims table, one row per claim and condition that applies.

    Returns:
        Columns ``claim condition outcome numbers reason``.
    """
    return [
        {
            "claim": result.claim.name,
            "condition": name,
            "outcome": finding.outcome.value,
            "numbers": finding.numbers,
            "reason": finding.reason,
        }
        for result in results
        for name, finding in result.findings.items()
    ]
