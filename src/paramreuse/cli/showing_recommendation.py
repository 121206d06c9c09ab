"""What ``paramreuse recommend`` prints."""

from dataclasses import asdict
from pathlib import Path

from paramreuse.cli.console import result, show_table
from paramreuse.recommendation.result import Recommendation
from paramreuse.study.recommending import FOLDER, MODEL


def show_recommendation(recommendation: Recommendation, validated: float, folder: Path) -> None:
    """Print what to do first, then what was measured, then where it was written."""
    result(recommendation.summary())
    show_table(
        [asdict(row) for row in recommendation.rows], title="Predicted score on new subjects"
    )
    show_table([source.as_row() for source in recommendation.sources], title="Sources")
    result(f"On the validation subjects, which chose nothing, the model scores {validated:.3f}.")
    result(f"{folder / FOLDER / MODEL} after {recommendation.spent:.3g} trainings")
