"""The command line: parse, delegate, print."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from paramreuse._version import __version__
from paramreuse.cli.workers import RayAddress, Workers, chosen_pool
from paramreuse.errors import ParamReuseError

app = typer.Typer(
    name="paramreuse",
    help="Which parameters of this pre-trained network can I reuse, and what do I gain?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130
"""Exit status after Ctrl-C."""

TERMINATED = 143
"""Exit status after SIGTERM, as a shell gives it."""


Json = Annotated[bool, Option("--json", help="Write JSON to stdout instead of a table.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Say nothing but the result.")]
Logger = Annotated[
    str | None,
    Option(help="csv, mlflow, tensorboard or wandb, for learning curves, tables and figures."),
]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:1, mps.")]
Roots = Annotated[
    list[str] | None,
    Option("--data", metavar="NAME=PATH", help="Root of an image set, instead of the study's."),
]
Run = Annotated[Path, Argument(help="Run folder of a study.")]
Source = Annotated[str | None, Option(help="Name of the source; needed if there are several.")]
Tolerance = Annotated[
    float | None,
    Option(help="Largest drop that counts as almost unchanged, instead of the study's."),
]
Confidence = Annotated[
    float | None, Option(help="Coverage of the intervals, instead of the study's.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"paramreuse {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Exit status 0: done; 2: the input is wrong; 130 or 143: stopped, and can be resumed."""


@app.command()
def demo(
    out: Annotated[Path, Option(help="Run folder.")] = Path("runs/demo"),
    device: Device = "auto",
    logger: Logger = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole method on the built-in phantom: a few minutes on two cores.

    Example: paramreuse demo --out runs/demo
    """
    from paramreuse.cli.console import Terminal, show_json
    from paramreuse.cli.showing import show_outcome
    from paramreuse.study.outcome import outcome
    from paramreuse.study.run import run_study
    from paramreuse.study.study_file import demo_study

    talk = Terminal(quiet=quiet)
    outcomes = outcome(run_study(demo_study(), out, device=device, talk=talk, logger=logger))
    (show_json if as_json else show_outcome)(outcomes)


@app.command()
def run(
    study: Annotated[Path, Argument(help="Study file (YAML).")],
    out: Annotated[Path | None, Option(help="Run folder; runs/NAME if not given.")] = None,
    until: Annotated[str | None, Option(metavar="STAGE", help="Last stage to run.")] = None,
    device: Device = "auto",
    profile: Annotated[str | None, Option(help="Which of the file's profiles.")] = None,
    arm: Annotated[list[str] | None, Option(help="Run this arm of the file alone.")] = None,
    data: Roots = None,
    logger: Logger = None,
    workers: Workers = None,
    ray: RayAddress = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a study; finished stages are skipped, so a killed run goes on where it was.

    Stages: data, train, compare, sweep, judge, plan, transfer, report. A file with arms holds
    several studies: each runs in OUT/arms/NAME, and what they show together is written to OUT.

    Example: paramreuse run studies/acdc.yaml --data acdc=/data/ACDC/training --out runs/acdc
    """
    from paramreuse.cli.console import Terminal, show_json
    from paramreuse.cli.showing import show_outcome
    from paramreuse.papers.protocol import run_asked
    from paramreuse.study.arms import Running, read_study_or_arms
    from paramreuse.study.study_file import parse_roots

    asked = read_study_or_arms(study, roots=parse_roots(data or []), profile=profile)
    folder = out or Path("runs") / asked.folder_name
    with chosen_pool(workers, ray) as pool:
        how = Running(until, device, Terminal(quiet=quiet), logger, pool)
        ended = run_asked(asked, folder, only=arm or (), how=how)
    (show_json if as_json else show_outcome)(ended)


@app.command()
def layers(
    model: Annotated[str, Argument(help="Checkpoint, unet, pspnet, or package.module:factory.")],
    as_json: Json = False,
) -> None:
    """List the numbered layers and sites of a checkpoint or network.

    Example: paramreuse layers pspnet
    """
    from paramreuse.cli.console import show_json, show_table
    from paramreuse.cli.files import site_rows

    rows = site_rows(model)
    (show_json if as_json else show_table)(rows)


@app.command()
def compare(
    target: Annotated[str, Argument(help="Checkpoint, unet, pspnet, or package.module:factory.")],
    sources: Annotated[list[str], Argument(help="Checkpoints to compare with the target.")],
    exclude: Annotated[list[str] | None, Option(help="Key of the target to leave out.")] = None,
    csv: Annotated[Path | None, Option(help="File to write the distances to.")] = None,
    align: Annotated[
        str | None,
        Option(
            metavar="NETWORK",
            help="Align channels first: unet (not residual, which files do not show), pspnet, or "
            "package.module:factory.",
        ),
    ] = None,
    shape: Annotated[
        tuple[int, int, int], Option("--input", help="Channels, rows and columns, for --align.")
    ] = (1, 64, 64),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare checkpoints tensor by tensor: RMSE, BatchNorm, lineage; no data, no model class.

    Example: paramreuse compare target.safetensors source-a.pt source-b.ckpt --json
    """
    from paramreuse.cli.console import remark, show_json
    from paramreuse.cli.files import UNTOLD, compare_files
    from paramreuse.cli.showing import show_comparisons

    aligned = (align, shape) if align else None
    comparisons = compare_files(target, sources, exclude=exclude or [], csv=csv, align=aligned)
    if align and align in UNTOLD and not quiet:
        remark(UNTOLD[align])
    if as_json:
        show_json(comparisons.to_dict())
    else:
        show_comparisons(comparisons, quiet=quiet)


@app.command()
def sweep(
    run_folder: Annotated[Path, Argument(help="Run folder of a study, or a new one.")],
    target: Annotated[
        str | None, Option(help="Checkpoint of the target, to sweep by hand.")
    ] = None,
    source: Annotated[
        list[str] | None, Option(metavar="[NAME=]PATH", help="Checkpoint of a source.")
    ] = None,
    network: Annotated[str, Option(help="unet, pspnet, or package.module:factory.")] = "pspnet",
    width: Annotated[int, Option(min=1, help="Features of the network's first layer.")] = 64,
    reader: Annotated[str, Option(help="Reader of the images.")] = "acdc",
    root: Annotated[Path | None, Option(help="Folder of the images.")] = None,
    validation: Annotated[
        int | None, Option(min=1, help="Subjects to validate on; all if not given.")
    ] = None,
    size: Annotated[tuple[int, int], Option(help="Rows and columns after cropping.")] = (128, 128),
    swaps: Annotated[
        list[str] | None, Option(help="single, pair, layer, block, prefix, suffix.")
    ] = None,
    control: Annotated[list[str] | None, Option(help="shuffled, reinit.")] = None,
    device: Device = "auto",
    workers: Workers = None,
    ray: RayAddress = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score every swap of a study, or of checkpoints named by hand.

    Example: paramreuse sweep runs/mine --target t.safetensors --source ae=s.safetensors
    --network pspnet --width 16 --reader acdc --root data/acdc --validation 12
    """
    from paramreuse.cli.console import Terminal, show_json, show_table
    from paramreuse.study.by_hand import open_or_make
    from paramreuse.study.findings import sweep_rows
    from paramreuse.study.run import run_study

    data = {"reader": reader, "root": root and str(root.resolve()), "validation": validation}
    study = open_or_make(
        run_folder,
        target=target,
        sources=source or [],
        network={"name": network, "width": width},
        data=data | {"size": list(size)},
        swaps=swaps or ["single"],
        controls=control or ["shuffled"],
    )
    talk = Terminal(quiet=quiet)
    with chosen_pool(workers, ray) as pool:
        run_study(study, run_folder, until="sweep", device=device, talk=talk, pool=pool)
    rows = sweep_rows(run_folder)
    (show_json if as_json else show_table)(rows)


@app.command()
def judge(
    run_folder: Run,
    tolerance: Tolerance = None,
    confidence: Confidence = None,
    as_json: Json = False,
) -> None:
    """Judge what was swept: network, layers and kinds; needs no new forward pass.

    Example: paramreuse judge runs/acdc --tolerance 0.05
    """
    from paramreuse.cli.console import show_json
    from paramreuse.cli.showing import show_judgements
    from paramreuse.study.findings import judgements

    rows = judgements(run_folder, tolerance=tolerance, confidence=confidence)
    (show_json if as_json else show_judgements)(rows)


@app.command()
def plan(
    run_folder: Run,
    source: Source = None,
    out: Annotated[Path, Option("--out", "-o", help="Plan file to write.")] = Path("plan.yaml"),
    tolerance: Tolerance = None,
    confidence: Confidence = None,
    quiet: Quiet = False,
) -> None:
    """Turn the verdict on a source into a plan file.

    Example: paramreuse plan runs/acdc --source acdc-ae -o plan.yaml
    """
    from paramreuse.cli.console import Terminal, result
    from paramreuse.reuse.plan_file import write_plan
    from paramreuse.study.findings import planned
    from paramreuse.study.run_folder import require_outside

    require_outside(out, run_folder)
    reuse = planned(run_folder, source, tolerance=tolerance, confidence=confidence)
    write_plan(reuse, out)
    Terminal(quiet=quiet).remark(reuse.summary())
    result(str(out))


# Typer brings a Click of its own since 0.26 and used the real one before; both name it so.
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 wrong input, 130 interrupted, 143 terminated."""
    with _stopping_on_sigterm() as terminated:
        status = _status(arguments)
        if terminated.is_set():
            _tell_end("terminated")
            status = TERMINATED
        elif status == INTERRUPTED:
            _tell_end("interrupted")
    sys.exit(status)


@contextmanager
def _stopping_on_sigterm() -> Iterator[threading.Event]:
    """Stop on SIGTERM where Ctrl-C would, and tell which of the two it was."""
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated  # Python takes handlers from the main thread alone.
        return

    def stop(*_: object) -> None:
        terminated.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)


def _status(arguments: list[str] | None) -> int:
    try:
        outcome: Any = app(args=arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except _ClickException as error:
        error.show()
        return 2
    except ParamReuseError as error:
        from paramreuse.cli.console import complain

        complain(str(error))
        return 2
    except OSError as error:
        from paramreuse.cli.console import complain

        # Files are read and written in many places; the system refuses each for the same reasons.
        complain(
            f"cannot use {str(error.filename or 'a file')!r}: {error.strerror or error}. Check "
            "that it is there, that you may read and write it, and that the disk is not full; then "
            "give the same command again"
        )
        return 2
    # Typer of late turns Ctrl-C into a status by itself.
    return outcome if isinstance(outcome, int) else 0


def _tell_end(how: str) -> None:
    from paramreuse.cli.console import remark

    remark(f"{how}; the same command goes on where it was")
