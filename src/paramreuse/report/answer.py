"""The answer: what to load from which source, how to train, what it gains, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from paramreuse.report.ends import (
    can_be_chosen,
    choose_start,
    is_faster,
    mean_steps,
    speed_sentences,
    trials_at_end,
)
from paramreuse.report.start_words import instruction, plain_number, training_command
from paramreuse.report.starts import (
    CONTROLS,
    FULL,
    SCRATCH,
    Interval,
    Start,
    Trial,
    gain_of,
    starts_of,
)

_NO_SOURCE = (SCRATCH, "")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the answer is computed from.

    Attributes:
        trials: Trainings of the transfer table.
        long_trials: The same trainings made twice as long, where the study asks for that.
        recommendation: What ``paramreuse recommend`` wrote, as ``Recommendation.as_json``, with
            ``validation_score``; None where it has not run.
        sources: Names of the sources, best first as far as swaps or distances tell.
        score: Name of the score, e.g. ``"Dice"``.
        folder: Run folder, quoted for a shell; empty where there is none.
        time_to_answer: How long ``paramreuse recommend`` would take, in words; empty if unknown.
        cautions: What makes every number here doubtful, one sentence each.
        steps: Optimiser steps of a training of the transfer; None where it is told in epochs.
        epochs: Its epochs; None where they are the target's.
    """

    trials: Sequence[Trial] = ()
    long_trials: Sequence[Trial] = ()
    recommendation: Mapping[str, Any] | None = None
    sources: Sequence[str] = ()
    score: str = "Dice"
    folder: str = ""
    time_to_answer: str = ""
    cautions: Sequence[str] = ()
    steps: int | None = None
    epochs: int | None = None

    def length(self, times: int) -> str:
        """Return how long a training of the transfer is, as an option of ``paramreuse train``."""
        if self.steps is not None:
            return f"--steps {self.steps * times}"
        return "" if self.epochs is None else f"--epochs {self.epochs * times}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What to do, in words, with what was tried.

    Attributes:
        kind: ``recommended``, ``measured``, or ``open`` where nothing was trained.
        headline: What to do, as an instruction.
        sentences: What it gains, and how sure that is.
        command: Command that does just that; empty where there is none.
        cautions: What makes the numbers doubtful.
        starts: Every start that was tried, the best first.
        chosen: The start to use; None where nothing was trained.
        num_subjects: Labelled subjects that each of the starts was trained on; None if not known.
        sources: Names of the sources, best first.
        is_long: Whether ``starts`` were trained twice as long as the study says.
        gain: What the start to use gained over scratch, or is predicted to; None where not known.
    """

    kind: str
    headline: str
    sentences: tuple[str, ...] = ()
    command: str = ""
    cautions: tuple[str, ...] = ()
    starts: tuple[Start, ...] = ()
    chosen: Start | None = None
    num_subjects: int | None = None
    sources: tuple[str, ...] = ()
    is_long: bool = False
    gain: Interval | None = None


def answer_of(facts: Facts) -> Answer:
    """Return the answer: the recommendation, else the best measured start, else how to get one.

    Args:
        facts: What is known.
    """
    if facts.recommendation is not None:
        return _recommended(facts, facts.recommendation)
    # With several numbers of subjects, the largest: it comes closest to training on all of them.
    numbers = {trial.num_subjects for trial in facts.trials if isfinite(trial.mean)}
    for number in sorted(numbers, reverse=True):
        trials = [trial for trial in facts.trials if trial.num_subjects == number]
        if any(can_be_chosen(start) for start in starts_of(trials)):
            longer = [trial for trial in facts.long_trials if trial.num_subjects == number]
            return _measured(facts, _Compared(number, trials, longer))
    return _open(facts)


def _recommended(facts: Facts, recommendation: Mapping[str, Any]) -> Answer:
    starts = tuple(
        Start(
            str(row["candidate"]),
            str(row["source"]),
            Interval(_number(row["score"]), _number(row["low"]), _number(row["high"]), "80 %"),
        )
        for row in recommendation["candidates"]
    )
    name, source = str(recommendation["candidate"]), str(recommendation["source"])
    same = [start for start in starts if start.key == (name, source)]
    chosen = same[0] if same else Start(name, source, Interval(nan))
    if source:
        headline = instruction(chosen)
        over = [("over training from scratch", recommendation["gain"])]
        if name != FULL:
            over.append(("over loading everything", recommendation["gain_over_full"]))
        gains = "; ".join(f"{_predicted(triple)} {words}" for words, triple in over)
        sentences = [f"Predicted gain in {facts.score} on new subjects: {gains}."]
    else:
        headline, sentences = "Nothing to gain: train from scratch", [str(recommendation["reason"])]
    validated = _number(recommendation.get("validation_score"))
    if isfinite(validated):
        sentences.append(
            f"The model it trained scores {_plain(validated)} on the validation subjects, which "
            "chose nothing"
            + (f": {facts.folder}/recommend/model.safetensors." if facts.folder else ".")
        )
    order = [str(row["name"]) for row in recommendation["sources"]]
    return Answer(
        kind="recommended",
        headline=headline,
        sentences=tuple(sentences),
        command=training_command(facts.folder, chosen),
        cautions=tuple(facts.cautions),
        starts=starts,
        chosen=chosen,
        sources=_ordered(facts, order),
        gain=_interval(recommendation["gain"]) if source else None,
    )


def _interval(triple: Sequence[Any]) -> Interval:
    mean, low, high = (_number(value) for value in triple)
    return Interval(mean, low, high, "80 %")


def _predicted(triple: Sequence[Any]) -> str:
    mean, low, high = (_number(value) for value in triple)
    return f"{_signed(mean)} (80 %: {_signed(low)} to {_signed(high)})"


@dataclass(frozen=True, slots=True)
class _Compared:
    """Trainings on as many subjects each: as long as the study says, and twice as long."""

    number: int
    trials: Sequence[Trial]
    long_trials: Sequence[Trial]

    @property
    def ends(self) -> list[Trial]:
        """Those by which starts are compared."""
        return trials_at_end(self.trials, self.long_trials)

    @property
    def is_long(self) -> bool:
        """Whether those are twice as long as the study says."""
        return self.ends == list(self.long_trials)

    @property
    def trained(self) -> str:
        """How they were trained, as the beginning of a sentence."""
        longer = ", twice as long as the study says," if self.is_long else ""
        return f"Trained on {_count(self.number, 'labelled subject')}{longer}"


def _measured(facts: Facts, compared: _Compared) -> Answer:
    starts, steps = starts_of(compared.ends), mean_steps(compared.trials)
    chosen = choose_start(starts, steps)
    gain = gain_of(compared.ends, chosen.key, _NO_SOURCE)
    loses = gain is not None and gain.mean <= 0 and not is_faster(chosen, steps)
    if chosen.strategy == SCRATCH or loses:
        chosen = next((start for start in starts if start.key == _NO_SOURCE), chosen)
        headline = "Nothing to gain: train from scratch"
        sentences = _scratch_sentences(facts, compared, starts)
    else:
        headline = instruction(chosen)
        sentences = _gain_sentences(facts, compared, starts, chosen)
    return Answer(
        kind="measured",
        headline=headline,
        sentences=tuple(sentences),
        command=training_command(
            facts.folder, chosen, compared.number, facts.length(2 if compared.is_long else 1)
        ),
        cautions=tuple(facts.cautions),
        starts=tuple(starts),
        chosen=chosen,
        num_subjects=compared.number,
        sources=_ordered(facts, [s.source for s in starts if s.strategy not in CONTROLS]),
        is_long=compared.is_long,
        gain=None if chosen.strategy == SCRATCH else gain,
    )


def _gain_sentences(
    facts: Facts, compared: _Compared, starts: Sequence[Start], chosen: Start
) -> list[str]:
    reached = f"{compared.trained} it reached {_plain(chosen.score.mean)} {facts.score}".rstrip()
    gain = gain_of(compared.ends, chosen.key, _NO_SOURCE)
    if gain is None:
        sentences = [f"{reached}, the best of what was trained. Training from scratch was not."]
    else:
        sentences = [f"{reached}: {_with_ends(gain)} over training from scratch."]
    sentences += _over_everything(compared.ends, starts, chosen)
    if gain is not None:
        sentences.append(_sureness(gain))
    short, longer = (
        gain_of(trials, chosen.key, _NO_SOURCE)
        for trials in (compared.trials, compared.long_trials)
    )
    sentences += speed_sentences(chosen, mean_steps(compared.trials), (short, longer))
    return sentences + _control_sentence(starts, chosen)


def _over_everything(trials: Sequence[Trial], starts: Sequence[Start], chosen: Start) -> list[str]:
    full = [start for start in starts if start.strategy == FULL and isfinite(start.score.mean)]
    if chosen.strategy == FULL or not full:
        return []
    same = next((start for start in full if start.source == chosen.source), full[0])
    gain = gain_of(trials, chosen.key, same.key)
    if gain is None:
        return []
    return [f"Over loading everything{_of(same)} it gained {_with_ends(gain)}."]


def _scratch_sentences(facts: Facts, compared: _Compared, starts: Sequence[Start]) -> list[str]:
    scratch = next(start for start in starts if start.key == _NO_SOURCE)
    others = [s for s in starts if s.key != _NO_SOURCE and can_be_chosen(s)]
    reached = (
        f"{compared.trained.rstrip(',')}, a fresh network reached "
        f"{_plain(scratch.score.mean)} {facts.score}".rstrip()
    )
    if not others:
        return [f"{reached}. No other start was trained."]
    loss = gain_of(compared.ends, others[0].key, _NO_SOURCE)
    behind = f", a difference of {_with_ends(loss)}" if loss is not None else ""
    which = f"best of {len(others)} starts" if len(others) > 1 else "only start"
    return [
        f"{reached}; the {which} from a source, “{instruction(others[0])}”, "
        f"{_plain(others[0].score.mean)}{behind}."
    ]


def _sureness(gain: Interval) -> str:
    if not gain.is_known:
        return "How sure that is cannot be told from one number: repeat it with more seeds."
    if gain.low > 0:
        return f"The interval over {gain.over} does not contain 0: a gain is certain enough."
    return f"The interval over {gain.over} contains 0: the gain could be chance."


def _control_sentence(starts: Sequence[Start], chosen: Start) -> list[str]:
    control = next((s for s in starts if s.strategy in CONTROLS), None)
    if control is None or not control.score.mean >= chosen.score.mean:
        return []
    return [
        f"A control, “{instruction(control)}”, reached {_plain(control.score.mean)}: "
        "what helps is not what the source learned."
    ]


def _open(facts: Facts) -> Answer:
    time = f", which takes {facts.time_to_answer}" if facts.time_to_answer else ""
    if not facts.sources:
        headline, sentence = "Name a source to find out what can be reused", ""
    else:
        headline = "What to load has not been measured yet"
        sentence = (
            "What single swaps cost, below, does not tell what a start gains. "
            f"`paramreuse recommend` trains from every source and compares{time}."
        )
    study = f"{facts.folder}/study.yaml"
    return Answer(
        kind="open",
        headline=headline,
        sentences=(sentence,) if sentence else (),
        command=f"paramreuse recommend {study} --out {facts.folder}"
        if facts.folder and facts.sources
        else "",
        cautions=tuple(facts.cautions),
        sources=tuple(facts.sources),
    )


def _ordered(facts: Facts, best_first: Sequence[str]) -> tuple[str, ...]:
    """Return the known sources by what their best start reached, the others after them."""
    known = [name for name in dict.fromkeys(best_first) if name in facts.sources]
    return (*known, *(name for name in facts.sources if name not in known))


def _of(start: Start) -> str:
    return f" from {start.source}" if start.source else ""


def _with_ends(gain: Interval) -> str:
    if not gain.is_known:
        return _signed(gain.mean)
    return f"{_signed(gain.mean)} (95 %: {_signed(gain.low)} to {_signed(gain.high)})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _number(value: Any) -> float:
    return nan if value is None else float(value)


def _signed(value: float) -> str:
    return plain_number(value, sign="+")


def _plain(value: float) -> str:
    return plain_number(value)
