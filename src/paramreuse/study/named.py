"""Things that are named in a study or on the command line: networks and readers."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.study.values import unknown_name

READERS: Mapping[str, str] = {
    "acdc": "paramreuse.data.acdc:read_acdc",
    "decathlon": "paramreuse.data.decathlon:read_decathlon",
    "folder": "paramreuse.data.folder:read_folder",
    "mnms": "paramreuse.data.mnms:read_mnms",
    "nnunet": "paramreuse.data.nnunet:read_nnunet",
    "phantom": "paramreuse.data.phantom:read_phantom",
    "rvsc": "paramreuse.data.rvsc:read_rvsc",
    "sunnybrook": "paramreuse.data.sunnybrook:read_sunnybrook",
    "t1": "paramreuse.data.t1:read_t1",
}
NETWORKS: Mapping[str, str] = {
    "pspnet": "paramreuse.networks.pspnet:pspnet",
    "unet": "paramreuse.networks.unet:unet",
}


def load_named(name: str, known: Mapping[str, str], what: str) -> Callable[..., Any]:
    """Import a reader or a network factory by its short name or as ``package.module:function``.

    Args:
        name: One of ``known``, or a dotted path of the caller's own.
        known: Place of each short name.
        what: What is looked for, for messages.

    Raises:
        StudyError: There is no such name, module or function.
    """
    place = known.get(name, name)
    module, colon, attribute = place.partition(":")
    if not colon or not module or not attribute:
        raise StudyError(unknown_name(name, known, what))
    try:
        with _current_folder():
            loaded = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise StudyError(
            f"cannot load the {what} {name!r}: no module {error.name!r}. "
            "Run this in the folder that holds it, or put that folder into the environment "
            "variable PYTHONPATH"
        ) from error
    except AttributeError as error:
        if error.name != attribute:
            raise
        close = difflib.get_close_matches(attribute, dir(error.obj), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "Check the name, and save the file"
        raise StudyError(
            f"cannot load the {what} {name!r}: module {module!r} has no {attribute!r}: {hint}"
        ) from error
    if not callable(loaded):
        raise StudyError(f"cannot use the {what} {name!r}: it is not callable")
    return loaded  # type: ignore[no-any-return]


@contextmanager
def _current_folder() -> Iterator[None]:
    """Find modules in the current folder, too: a console script does not by itself."""
    folder = os.getcwd()
    if folder in sys.path or "" in sys.path:
        yield
        return
    # Last, so that no file there can take the place of a library.
    sys.path.append(folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
