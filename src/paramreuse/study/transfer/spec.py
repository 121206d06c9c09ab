"""The section ``transfer`` of a study file."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, WithJsonSchema, field_validator, model_validator

from paramreuse.study.transfer.strategy import Strategy
from paramreuse.study.values import SECTION, AtLeastOne, Once, different

# Strict, a study file's text were refused where a member is expected.
NamedStrategy = Annotated[
    Strategy,
    Field(strict=False),
    WithJsonSchema({"enum": [strategy.value for strategy in Strategy], "type": "string"}),
]


class TransferSpec(BaseModel):
    """What is trained to see what reuse gains.

    Attributes:
        subjects: Numbers of training subjects.
        strategies: ``scratch``; ``full`` (load everything); ``plan-freeze`` and ``plan-finetune``;
            ``random-plan`` (as many sites, drawn at random, trained along); ``statistics`` (only
            mean and variance of each source tensor); ``head`` (everything, the output layer alone
            trained); ``body`` (everything but the output layer); ``prefix`` and ``suffix`` (the
            front or the rear half of the layers), ``prefix-quarter`` and
            ``prefix-three-quarters``; ``norms`` (everything, normalisations and output layer alone
            trained); ``recalibrated`` and ``mixed`` (everything, its statistics recomputed at the
            end, and a quarter of the way back to the source); ``gentle`` (a low rate and a pull
            towards the source), ``lpft`` (the output layer first), ``auto-rgn`` (each block at its
            relative gradient norm) and ``rewind`` (by what putting each block back costs), which
            need steps; ``recommended`` (whatever ``pr.recommend`` chooses of all sources).
        seeds: Repetitions, each with its own fresh weights and its own choice of subjects.
        epochs: Passes over the training set; the target's if not given.
        steps: Optimiser steps with a complete schedule, instead of epochs: no validation subject
            chooses among them, the last weights are scored.
        check_convergence: Whether every training is repeated at twice its length, which keeps what
            is gained at the end apart from what is gained in speed; three times the work.
        sources: ``all``, ``best`` (the one that is ranked first), or names.
        plan_from: Source whose verdict says which sites every plan loads, as in the papers; each
            source's own if not given.
        keep_seeds: Number of repetitions whose trained models are kept.
        train: ``package.module:function`` that trains instead of the package, called with (model,
            batches, plan, steps, seed); it returns the model.
    """

    model_config = SECTION

    subjects: Annotated[list[Annotated[int, Field(ge=1)]], AtLeastOne, Once] = [10]
    strategies: Annotated[list[NamedStrategy], AtLeastOne, Once] = [
        Strategy.SCRATCH,
        Strategy.FULL,
        Strategy.PLAN_FREEZE,
        Strategy.PLAN_FINETUNE,
    ]
    seeds: Annotated[int, Field(ge=1)] = 1
    epochs: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    check_convergence: bool = False
    sources: Literal["all", "best"] | Annotated[list[str], AtLeastOne, Once] = "all"
    plan_from: str | None = None
    keep_seeds: Annotated[int, Field(ge=0)] = 0
    train: str | None = None

    @field_validator("sources", mode="before")
    @classmethod
    def _one_form(cls, value: object) -> object:
        """Refuse here what fits neither form, since pydantic would tell of the first form alone."""
        is_list = isinstance(value, list) and value and all(isinstance(v, str) for v in value)
        if not is_list and value not in ("all", "best"):
            raise ValueError(f"expected 'all', 'best' or a list of names, got {value!r}")
        return different(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _strategies_are_possible(self) -> "TransferSpec":
        by_steps = [s.value for s in self.strategies if s.needs_steps]
        if by_steps and (self.steps is None or self.train is not None):
            raise ValueError(
                f"strategies: {by_steps[0]!r} is trained by steps, which know rates and anchors. "
                "Set steps, and leave train out"
            )
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps: they stand instead of epochs. Leave one of them out")
        holding_out = [s for s in (Strategy.RECOMMENDED, Strategy.REWIND) if s in self.strategies]
        if holding_out and min(self.subjects) < 2:
            raise ValueError(
                f"strategies: {holding_out[0].value!r} holds out subjects in turn, and needs two "
                "or more. Leave 1 out of subjects"
            )
        return self
