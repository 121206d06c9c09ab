"""The answer: what to load from which source, how to train, what it gains, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from paramreuse.report.start_words import instruction, training_command
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
        recommendation: What ``paramreuse recommend`` wrote, as ``Recommendation.as_json``, with
            ``validation_score``; None where it has not run.
        sources: Names of the sources, best first as far as swaps or distances tell.
        score: Name of the score, e.g. ``"Dice"``.
        folder: Run folder, quoted for a shell; empty where there is none.
        time_to_answer: How long ``paramreuse recommend`` would take, in words; empty if unknown.
        cautions: What makes every number here doubtful, one sentence each.
    """

    trials: Sequence[Trial] = ()
    recommendation: Mapping[str, Any] | None = None
    sources: Sequence[str] = ()
    score: str = "Dice"
    folder: str = ""
    time_to_answer: str = ""
    cautions: Sequence[str] = ()


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
        if any(_can_be_chosen(start) for start in starts_of(trials)):
            return _measured(facts, trials, number)
    return _open(facts)


def _can_be_chosen(start: Start) -> bool:
    return start.strategy not in CONTROLS and isfinite(start.score.mean)


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
    )


def _predicted(triple: Sequence[Any]) -> str:
    mean, low, high = (_number(value) for value in triple)
    return f"{_signed(mean)} (80 %: {_signed(low)} to {_signed(high)})"


def _measured(facts: Facts, trials: Sequence[Trial], number: int) -> Answer:
    starts = starts_of(trials)
    chosen = next(start for start in starts if _can_be_chosen(start))
    gain = gain_of(trials, chosen.key, _NO_SOURCE)
    if chosen.strategy == SCRATCH or (gain is not None and gain.mean <= 0):
        chosen = next((start for start in starts if start.key == _NO_SOURCE), chosen)
        headline = "Nothing to gain: train from scratch"
        sentences = _scratch_sentences(facts, trials, starts, number)
    else:
        headline = instruction(chosen)
        sentences = _gain_sentences(facts, trials, starts, chosen, number)
    return Answer(
        kind="measured",
        headline=headline,
        sentences=tuple(sentences),
        command=training_command(facts.folder, chosen, number),
        cautions=tuple(facts.cautions),
        starts=tuple(starts),
        chosen=chosen,
        num_subjects=number,
        sources=_ordered(facts, [s.source for s in starts if s.strategy not in CONTROLS]),
    )


def _gain_sentences(
    facts: Facts, trials: Sequence[Trial], starts: Sequence[Start], chosen: Start, number: int
) -> list[str]:
    reached = (
        f"Trained on {_count(number, 'labelled subject')} it reached "
        f"{_plain(chosen.score.mean)} {facts.score}".rstrip()
    )
    gain = gain_of(trials, chosen.key, _NO_SOURCE)
    if gain is None:
        sentences = [f"{reached}, the best of what was trained. Training from scratch was not."]
    else:
        sentences = [f"{reached}: {_with_ends(gain)} over training from scratch."]
    sentences += _over_everything(trials, starts, chosen)
    if gain is not None:
        sentences.append(_sureness(gain))
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


def _scratch_sentences(
    facts: Facts, trials: Sequence[Trial], starts: Sequence[Start], number: int
) -> list[str]:
    scratch = next(start for start in starts if start.key == _NO_SOURCE)
    others = [s for s in starts if s.key != _NO_SOURCE and _can_be_chosen(s)]
    reached = (
        f"Trained on {_count(number, 'labelled subject')}, a fresh network reached "
        f"{_plain(scratch.score.mean)} {facts.score}".rstrip()
    )
    if not others:
        return [f"{reached}. No other start was trained."]
    loss = gain_of(trials, others[0].key, _NO_SOURCE)
    behind = f" ({_with_ends(loss)})" if loss is not None else ""
    return [
        f"{reached}; the best of {len(others)} starts from a source, "
        f"“{instruction(others[0])}”, {_plain(others[0].score.mean)}{behind}."
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
    return f"{value:+.3f}".replace("-", "\u2212")


def _plain(value: float) -> str:
    return f"{value:.3f}".replace("-", "\u2212")
