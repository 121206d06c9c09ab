"""What the models of an arm are called: the papers' letters, and what each was trained for."""

from collections.abc import Mapping

from paramreuse.papers.evidence import Arm

NOTHING = "nothing"
"""What a training from scratch loads."""

TREATMENTS: Mapping[str, tuple[str, str]] = {
    "scratch": ("n", "nothing loaded"),
    "plan-freeze": ("f", "loaded and frozen"),
    "plan-finetune": ("nf", "loaded, not frozen"),
}
"""The papers' signs for how a model was trained in figures 13 and 14, and their meaning."""


IDEAL_SOURCE = "B2"
"""Source of the papers' ideal model: T1's auto-encoder, trained along on the most patients."""


def letter_of(name: str) -> str:
    """Return the papers' name of a model: the target is A1, the others are called by theirs."""
    return "A1" if name == "target" else name


def model_words(arm: Arm) -> dict[str, str]:
    """Say what each model of an arm was trained for, no two in the same words.

    Args:
        arm: Gives the roles. Its readers name the data (``acdc autoencoder``); where two models
            share reader and task, the names of their image sets stand instead, and where these
            are the same as well, the model's name is added.
    """
    words = {name: role.words for name, role in arm.roles.items()}
    by_set = {name: f"{role.data} {role.task}" for name, role in arm.roles.items()}
    for name in _repeated(words):
        words[name] = by_set[name]
    for name in _repeated(words):
        words[name] = f"{words[name]} ({letter_of(name)})"
    return words


def _repeated(words: Mapping[str, str]) -> list[str]:
    all_words = list(words.values())
    return [name for name, said in words.items() if all_words.count(said) > 1]


def transfer_model(strategy: str, source: str, num_subjects: int) -> str:
    """Return the name under which the distances hold a model of the transfer."""
    return "-".join(part for part in (strategy, source, str(num_subjects)) if part)


def transfer_sign(strategy: str, num_subjects: int) -> str:
    """Return the papers' sign of a model of the transfer, e.g. ``nf50``.

    Args:
        strategy: One of ``TREATMENTS``.
        num_subjects: Number of training subjects.
    """
    return f"{TREATMENTS[strategy][0]}{num_subjects}"


def transfer_words(arm: Arm, strategy: str, source: str) -> str:
    """Say what a model of the transfer began with.

    Args:
        arm: Gives the roles.
        strategy: One of ``TREATMENTS``.
        source: Name of a model of the arm, ``""`` for none.
    """
    lender = f"{letter_of(source)} {model_words(arm)[source]} " if source else ""
    return f"{lender}{TREATMENTS[strategy][1]}"
