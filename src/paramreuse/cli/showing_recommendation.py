"""What ``paramreuse recommend`` prints."""

from dataclasses import asdict
from pathlib import Path

from paramreuse.cli.console import result, show_table
from paramreuse.recommendation.result import Recommendation
from paramreuse.study.recommending import FOLDER, MODEL


def show_recommendation(found: Recommendation, validated: float, folder: Path) -> None:
    """Print what to do first, then what was measured, then where it was written."""
    result(found.summary())
    show_table([asdict(row) for row in found.rows], title="Predicted score on new subjects")
    show_table([source.as_row() for source in found.sources], title="Sources")
    result(f"On the validation subjects, which chose nothing, the model scores {validated:.3f}.")
    result(f"{folder / FOLDER / MODEL} after {found.spent:.3g} trainings")
