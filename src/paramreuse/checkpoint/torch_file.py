"""Files of ``torch.save``, zip and legacy, read without running what they hold."""

import contextlib
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import torch

from paramreuse.checkpoint.names import cut_at_ten
from paramreuse.errors import CheckpointError

ZIP_START = b"PK\x03\x04"
PICKLE_START = b"\x80"
# A legacy file is a magic number, a version, the system, the content and its storages' keys.
_LEGACY_PICKLES = 5
# What torch and pickle raise on damaged bytes; a damaged stream can ask for anything.
_DAMAGE = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    ArithmeticError,
    EOFError,
    OSError,
    MemoryError,
    ImportError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# What training scripts leave beside the weights (a numpy score, the options, a path). Their names
# lead to an inert stand-in, so neither numpy's code nor anybody's is run for them.
_LEFTOVERS = (
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    "numpy.dtype",
    "numpy.ndarray",
    "argparse.Namespace",
    *(f"pathlib.{flavour}Path" for flavour in ("Posix", "Windows", "PurePosix", "PureWindows")),
)
_CONVERT = """
    import torch
    state = torch.load({path!r}, map_location="cpu", weights_only=False)
    torch.save(state["state_dict"], {new!r})
(or state["model"], wherever the tensors are; of a whole pickled model: state.state_dict())"""


class UnreadObject:
    """Stands where a file held a leftover of training; takes what it is given and keeps nothing."""

    def __new__(cls, *_: object) -> Self:
        """Take the arguments of whatever it stands for."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def read_torch_file(path: Path, *, start: bytes) -> tuple[object, str]:
    """Read what ``torch.save`` wrote, with torch's weights-only unpickler and no other.

    That unpickler builds tensors and plain containers and refuses every other name, so nothing in
    the file is run; numpy scalars, options and paths beside the weights become ``UnreadObject``.
    Names that the process has allowed with
    ``torch.serialization.add_safe_globals`` are refused too: what a file may do must not depend on
    which libraries were imported before.

    Args:
        path: The file.
        start: Its first bytes, which tell the zip format from the legacy one.

    Returns:
        The content, tensors on the CPU, and the name of the format.

    Raises:
        CheckpointError: The file is damaged, a TorchScript archive, or needs code to be run.
    """
    zipped = start.startswith(ZIP_START)
    if zipped:
        _check_archive(path)
    try:
        with _only_tensors_allowed(), warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")  # about pickle protocols; what fails is raised below
            # torch decides by the ending and would take a zip called *.safetensors for one.
            mapped = zipped and path.suffix != ".safetensors"
            content = torch.load(
                str(path) if mapped else stream, map_location="cpu", weights_only=True, mmap=mapped
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, zipped, str(error))) from error
    except _DAMAGE as error:
        raise CheckpointError(
            f"cannot read {str(path)!r}: expected a whole file of torch.save, got "
            f"{path.stat().st_size} bytes on which torch fails with {type(error).__name__}"
            f"{_first_line(error)}. Copy or download the file again."
        ) from error
    return content, "torch zip" if zipped else "torch legacy"


@contextlib.contextmanager
def _only_tensors_allowed() -> Iterator[None]:
    """Take back, while reading, the names that the process has allowed to be run."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([(UnreadObject, name) for name in _LEFTOVERS])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


def _check_archive(path: Path) -> None:
    """Check what torch does not: each part against its checksum, and that it is not a program."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {info.filename.rpartition("/")[2] for info in archive.infolist()}
            _check_unpacked(path, archive)
            damaged = _damaged_part(archive)
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(
            f"cannot read {str(path)!r}: expected a whole zip file of torch.save, got "
            f"{path.stat().st_size} bytes ({_first_line(error).removeprefix(': ')}). The file is "
            "truncated or corrupt: copy or download it again."
        ) from error
    if "constants.pkl" in parts:
        raise CheckpointError(
            f"cannot read {str(path)!r}: it is a TorchScript archive, a program and not a state "
            "dict. Where you trust it, run torch.save(torch.jit.load(path).state_dict(), new) "
            "and read the new file."
        )
    if "data.pkl" not in parts:
        raise CheckpointError(
            f"cannot read {str(path)!r}: expected a file of torch.save, got a zip file of "
            f"{cut_at_ten(parts)}. Unpack it, or name the checkpoint inside."
        )
    if damaged:
        raise CheckpointError(
            f"cannot read {str(path)!r}: its part {damaged!r} does not have the checksum it was "
            "written with, so values changed. Copy or download the file again."
        )


def _check_unpacked(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose parts are together larger than itself, before any is unpacked."""
    size, unpacked = path.stat().st_size, sum(info.file_size for info in archive.infolist())
    packed = [info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    if packed or unpacked > size:
        raise CheckpointError(
            f"cannot read {str(path)!r}: its {size} bytes would become {unpacked} bytes, expected "
            "parts that are not compressed, as torch.save writes them. Where you trust the file, "
            "unpack it and store it with zip -0, or get it from its source again."
        )


def _damaged_part(archive: zipfile.ZipFile) -> str | None:
    # torch.serialization.set_crc32_options(False) writes 0 for every checksum.
    if all(info.CRC == 0 for info in archive.infolist()):
        return None
    return archive.testzip()


def _refusal(path: Path, zipped: bool, reason: str) -> str:
    named = set(re.findall(r"GLOBAL ([\w.]+)", reason)) or set(_code_names(path, zipped))
    wants = f"it asks for {cut_at_ten(named)}" if named else f"torch says {_last_words(reason)}"
    script = _CONVERT.format(path=str(path), new=f"{path.stem}-tensors.pt")
    return (
        f"cannot read {str(path)!r}: expected tensors and plain containers, got a pickle that may "
        f"run code: {wants}. Nothing of it was run. Only where you trust the file, convert it "
        f"once and read the result:{script}"
    )


def _code_names(path: Path, zipped: bool) -> list[str]:
    """List the names outside torch's tensors that a pickle asks for, by reading its opcodes."""
    names: list[str] = []
    with contextlib.suppress(*_DAMAGE), contextlib.ExitStack() as stack:
        stream: IO[bytes]
        if zipped:
            archive = stack.enter_context(zipfile.ZipFile(path))
            inner = next(n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl")
            stream = stack.enter_context(archive.open(inner))
        else:
            stream = stack.enter_context(path.open("rb"))
        for _ in range(1 if zipped else _LEGACY_PICKLES):
            names.extend(_globals_of(stream))
    return [name for name in names if not name.startswith(("torch.", "collections."))]


def _globals_of(stream: IO[bytes]) -> Iterator[str]:
    """Yield the ``module.name`` of each global opcode; nothing is imported."""
    texts: list[str] = []
    memo: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in {"GLOBAL", "INST"}:
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif opcode.name == "MEMOIZE":
            memo.append(texts[-1] if texts else "")
        elif opcode.name in {"BINGET", "LONG_BINGET"} and isinstance(argument, int):
            texts += memo[argument : argument + 1]
        elif isinstance(argument, str):
            texts.append(argument)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f": {text}" if text else ""


def _last_words(reason: str) -> str:
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    kept = [line for line in lines if "http" not in line and "weights_only" not in line]
    return repr((kept or lines or ["nothing"])[-1])
