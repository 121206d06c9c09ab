"""Checks of the options that the networks share."""

from paramreuse.errors import ParamReuseError


def check_counts(network: str, **counts: int) -> None:
    """Refuse a number of channels, classes or features that is not a whole number from 1 up.

    Args:
        network: Name of the network, for the message.
        counts: Options by name.

    Raises:
        ParamReuseError: A count is below 1, or is not an ``int``.
    """
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ParamReuseError(
                f"cannot build {network}: {name} is {count!r}, expected a whole number from 1 up"
            )
