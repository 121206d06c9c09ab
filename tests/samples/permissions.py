"""Acting as a user whom permissions bind: root reads and writes everything."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def without_privileges(folder: Path, closed: Path) -> Iterator[None]:
    """Close a file or folder, and act as somebody who is not its owner.

    Args:
        folder: What everybody may otherwise enter, with all that is above it.
        closed: What nobody may read.
    """
    is_root = os.geteuid() == 0
    above = [place for place in (folder, *folder.parents) if is_root and place.stat().st_uid == 0]
    modes = {place: place.stat().st_mode for place in (*above, closed)}
    for place in above:
        place.chmod(modes[place] | 0o055)
    closed.chmod(0)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for place, mode in modes.items():
            place.chmod(mode)
