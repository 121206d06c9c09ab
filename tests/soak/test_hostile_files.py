"""Files made to run code, to reach elsewhere or to fill memory: tried, refused, none ran."""

import builtins
import codecs
import json
import os
import pickle
import resource
import runpy
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from paramreuse.checkpoint import read_checkpoint
from paramreuse.errors import ParamReuseError
from paramreuse.reuse.plan_file import read_plan
from paramreuse.study.study_file import read_study
from samples.image_files import write_nifti
from samples.reader_sets import SHAPE, SPACING, WRITERS, marked_labels
from samples.soak import note

SECRET = 4242
"""The value of what lies outside the folder that was named."""

SECONDS, MEGABYTES = 5.0, 500
"""What refusing a file may take."""


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *values: object) -> None:
        self.call = function, values

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


def calls_that_leave(trace: Path) -> Iterator[object]:
    """Yield what leaves a file or folder at a path where it is unpickled carelessly."""
    script = trace.with_suffix(".py")
    code = f"import os; os.mkdir({str(trace)!r})"
    script.write_text(code)
    yield Call(os.mkdir, str(trace))
    yield Call(os.system, f"mkdir {trace}")
    yield Call(os.popen, f"mkdir {trace}")
    yield Call(os.mkfifo, str(trace))
    yield Call(os.symlink, os.devnull, str(trace))
    yield Call(subprocess.call, ["mkdir", str(trace)])
    yield Call(subprocess.check_output, ["mkdir", str(trace)])
    yield Call(eval, f"__import__('os').mkdir({str(trace)!r})")
    yield Call(exec, code)
    yield Call(builtins.open, str(trace), "w")
    yield Call(codecs.open, str(trace), "w")
    yield Call(shutil.copy, str(script), str(trace))
    yield Call(runpy.run_path, str(script))
    yield Call(Path.touch, trace)
    yield Call(np.save, str(trace.with_suffix("")), np.ones(1))
    yield Call(torch.save, {}, str(trace))
    yield Call(pickle.loads, pickle.dumps(Call(os.mkdir, str(trace))))
    yield Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.mkdir, str(trace))))
    yield Call(Call(os.mkdir, str(trace)).__reduce__()[0], str(trace))
    yield Call(map, os.mkdir, [str(trace)])


def hostile_pickles(folder: Path, trace: Path) -> Iterator[Path]:
    """Yield checkpoints that call each of them, in every format that pickles."""
    for number, call in enumerate(calls_that_leave(trace)):
        for protocol in (2, 3, 4, 5):
            for form in ("zip", "legacy", "bare"):
                path = folder / f"{number}-{protocol}-{form}.pt"
                content = {"state_dict": {"w": torch.ones(2), "x": call}}
                if form == "bare":
                    path.write_bytes(pickle.dumps(content, protocol))
                else:
                    is_zip = form == "zip"
                    torch.save(
                        *(content, path),
                        pickle_protocol=protocol,
                        _use_new_zipfile_serialization=is_zip,
                    )
                yield path


@pytest.mark.slow
def test_no_hostile_pickle_runs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    tried = 0
    for path in hostile_pickles(tmp_path, trace):
        if trace.is_dir() and not trace.is_symlink():
            trace.rmdir()
        with pytest.raises(ParamReuseError):
            read_checkpoint(path)
        assert not trace.exists(), path.name
        tried += 1
        path.unlink()
    note("hostile pickles", tried=tried, refused=tried, ran=0)
    # They are real: one that is unpickled carelessly leaves its trace.
    pickle.loads(pickle.dumps(next(calls_that_leave(trace))))  # noqa: S301
    assert trace.exists()


OUTSIDE = (
    *("../secret.nii.gz", "../../secret.nii.gz", "imagesTr/../../secret.nii.gz"),
    *("..\\secret.nii.gz", "./../secret.nii.gz", "imagesTr/./../../secret.nii.gz"),
    *("/ROOT/secret.nii.gz", "//ROOT/secret.nii.gz", "file:///ROOT/secret.nii.gz"),
    *("~/secret.nii.gz", "C:\\secret.nii.gz", "\\\\host\\secret.nii.gz"),
    *("imagesTr/organ_1.nii.gz/../../../secret.nii.gz", "imagesTr/secret.nii.gz\0.nii.gz"),
)


def spoil(root: Path, name: str, outside: str) -> None:
    """Have the list of a small set name another file."""
    place = outside.replace("/ROOT", str(root.parent))
    path = root / "dataset.json"
    content = json.loads(path.read_text())
    if name == "decathlon image":
        content["training"][0]["image"] = place
    elif name == "decathlon labels":
        content["training"][0]["label"] = place
    else:
        content["dataset"] = {"case": {"images": [place], "label": "labelsTr/case.nii.gz"}}
        if name == "nnunet labels":
            content["dataset"]["case"] = {
                "images": ["imagesTr/case_0000.nii.gz"],
                "label": place,
            }
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name", ["decathlon image", "decathlon labels", "nnunet image", "nnunet labels"]
)
def test_no_list_of_a_set_reaches_outside_its_folder(name: str, tmp_path: Path) -> None:
    refused = 0
    for number, outside in enumerate(OUTSIDE):
        small = WRITERS[name.split(maxsplit=1)[0]](tmp_path / str(number) / "set")
        for above in (small.root.parent, small.root.parent.parent):
            secret = np.full(SHAPE, SECRET, np.int16) if "image" in name else marked_labels(*SHAPE)
            write_nifti(above / "secret.nii.gz", secret, SPACING)
        spoil(small.root, name, outside)
        with pytest.raises(ParamReuseError):
            small.slices()
        refused += 1
    note(f"traversals, {name}", tried=refused, refused=refused, reached=0)


@pytest.mark.parametrize("form", ["index", "zip"])
def test_no_checkpoint_reaches_outside_its_folder(form: str, tmp_path: Path) -> None:
    names = [
        name.replace(".nii.gz", ".safetensors").replace("/ROOT", str(tmp_path)) for name in OUTSIDE
    ]
    save_file({"w": torch.full((2,), float(SECRET))}, tmp_path / "secret.safetensors")
    for number, name in enumerate(names):
        folder = tmp_path / "a" / str(number)
        folder.mkdir(parents=True)
        if form == "index":
            (folder / "x.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"w": name}})
            )
        else:
            torch.save({"w": torch.ones(2)}, folder / "a.pt")
            whole = zipfile.ZipFile(folder / "a.pt")
            with whole, zipfile.ZipFile(folder / "b.pt", "w") as spoilt:
                for info in whole.infolist():
                    spoilt.writestr(info.filename, whole.read(info))
                spoilt.writestr(name.replace("\0", ""), b"written")
            (folder / "a.pt").unlink()
        before = sorted(tmp_path.rglob("*"))
        try:
            checkpoint = read_checkpoint(folder if form == "index" else folder / "b.pt")
            assert checkpoint["w"].tolist() == [1.0, 1.0]
        except ParamReuseError:
            pass
        assert sorted(tmp_path.rglob("*")) == before
    note(f"traversals, checkpoint {form}", tried=len(names), reached=0)


def bombs(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield files of at most a few megabytes that ask for gigabytes, with what reads each."""
    for repeats in (10**9, 10**12):
        torch.save({"w": torch.zeros(1).expand(repeats)}, folder / f"{repeats}.pt")
        yield f"tensor of {repeats}", partial(read_checkpoint, folder / f"{repeats}.pt")
    for size in (1 << 31, 1 << 35):
        with zipfile.ZipFile(folder / "zip.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
            archive.writestr("a/data/0", bytes(1 << 22))
        content = (folder / "zip.pt").read_bytes()
        claimed = min(size, 2**32 - 2).to_bytes(4, "little")
        path = folder / f"zip{size}.pt"
        path.write_bytes(content.replace((1 << 22).to_bytes(4, "little"), claimed))
        yield f"zip part of {size} bytes", partial(read_checkpoint, path)
    for length in (2**31, 2**62, 2**64 - 1):
        path = folder / f"{length}.safetensors"
        path.write_bytes(length.to_bytes(8, "little") + b"{}")
        yield f"header of {length} bytes", partial(read_checkpoint, path)
    for name, text in yaml_bombs().items():
        for read in (read_study, read_plan):
            path = folder / f"{name}.yaml"
            path.write_text(text)
            yield f"YAML, {name}, {read.__name__}", partial(read, path)
    yield from image_bombs(folder)


def yaml_bombs() -> dict[str, str]:
    names = "abcdefghij"
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]\n" for before, name in pairwise(names)
    )
    return {
        "aliases": laughs,
        "brackets": "name: " + 100_000 * "[",
        "braces": "name: " + 100_000 * "{a: ",
        "digits": "seed: " + "9" * 1_000_000,
        "values": "name: [" + "1," * 3_000_000 + "]",
    }


def image_bombs(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    import gzip

    for name in ("acdc", "decathlon", "mnms", "nnunet", "folder of NIfTI"):
        for edge in (1024, 32767):
            small = WRITERS[name](folder / f"{name}-{edge}")
            header = bytearray(gzip.decompress(small.image.read_bytes())[:352])
            header[42:48] = np.array([edge] * 3, "<i2").tobytes()
            small.image.write_bytes(gzip.compress(bytes(header) + bytes(1 << 22)))
            yield f"NIfTI of {edge} cubed, {name}", small.slices
    for name in ("rvsc", "sunnybrook"):
        small = WRITERS[name](folder / f"{name}-long")
        with small.labels.open("r+b") as file:
            file.truncate(200 * 10**6)
        yield f"contour of 200 MB, {name}", small.slices
    small = WRITERS["folder of PNG"](folder / "png")
    content = bytearray(small.image.read_bytes())
    content[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    small.image.write_bytes(content)
    yield "PNG of 2^31 squared", small.slices


@pytest.mark.slow
def test_no_bomb_takes_more_than_five_seconds_or_500_megabytes(tmp_path: Path) -> None:
    tried, longest = 0, 0.0
    for name, read in bombs(tmp_path):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        with pytest.raises(ParamReuseError):
            read()
        seconds = time.process_time() - started
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert seconds < SECONDS, name
        assert sys.platform != "linux" or more < MEGABYTES, name
        tried, longest = tried + 1, max(longest, seconds)
    note("bombs", tried=tried, refused=tried, longest_s=round(longest, 2))
