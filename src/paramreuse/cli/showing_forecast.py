"""What a study will take, in the terminal."""

from collections.abc import Mapping
from typing import Any

from paramreuse.cli.console import remark, result, show_table

_MINUTE, _HOUR = 60, 3600


def show_forecast(forecast: Mapping[str, Any]) -> None:
    """Print time, memory and disk of each stage, and their sums."""
    rows = [
        {
            "stage": stage["stage"],
            "time": _duration(stage["seconds"]),
            "memory": f"{stage['memory_gb']:.1f} GB",
            "disk": f"{stage['disk_mb']:.0f} MB",
            "for": stage["basis"],
        }
        for stage in forecast["stages"]
    ]
    show_table(rows, title="What the study will take")
    device = forecast["device_memory_gb"]
    on_device = f", {device:.1f} GB of it on the graphics processor" if device else ""
    result(
        f"about {_duration(forecast['seconds'])}, {forecast['memory_gb']:.1f} GB of memory"
        f"{on_device}, {forecast['disk_mb']:.0f} MB on disk and "
        f"{forecast['passing_disk_mb']:.0f} MB more in passing"
    )
    for note in forecast["notes"]:
        remark(note)


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
