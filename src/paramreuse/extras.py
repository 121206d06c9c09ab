"""What to install for what is missing: the extras of ``pyproject.toml``, by library."""

from collections.abc import Mapping

from paramreuse.errors import MissingExtraError

EXTRA_OF: Mapping[str, str] = {
    "lightning": "train",
    "monai": "train",
    "nibabel": "readers",
    "pydicom": "readers",
    "h5py": "readers",
    "pillow": "readers",
    "matplotlib": "report",
    "jinja2": "report",
    "huggingface_hub": "hub",
    "fsspec": "stores",
    "s3fs": "stores",
    "gcsfs": "stores",
    "tensorboard": "trackers",
    "mlflow": "trackers",
    "wandb": "trackers",
    "ray": "ray",
}
"""Which extra brings a library, by the name that pip knows it under."""


def missing_extra(action: str, *libraries: str) -> MissingExtraError:
    """Return the error for what cannot be done without libraries of one extra, ready to be raised.

    Args:
        action: What cannot be done: ``"read NIfTI files"``.
        libraries: Those that are not installed, by their names for pip.
    """
    verb = "is" if len(libraries) == 1 else "are"
    return MissingExtraError(
        f"cannot {action}: {' and '.join(libraries)} {verb} not installed. "
        f"Run: pip install 'paramreuse[{EXTRA_OF[libraries[0]]}]'"
    )
