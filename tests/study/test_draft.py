"""A first study: reader, pairs and checkpoints are guessed, and what is written is valid."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from paramreuse.checkpoint import write_checkpoint
from paramreuse.errors import StudyError
from paramreuse.networks import pspnet, unet
from paramreuse.study.draft.checkpoints import find_checkpoints
from paramreuse.study.draft.images import find_images
from paramreuse.study.draft.pairs import guess_pairs
from paramreuse.study.draft.writing import Draft, draft_study
from paramreuse.study.study_file import read_study
from samples.image_files import write_nifti


def picture(path: Path, values: np.ndarray) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def cells(folder: Path, names: list[str], image: str, mask: str) -> Path:
    """Pictures of 40 x 56 pixels whose masks are 0 and 255."""
    labels = np.zeros((40, 56))
    labels[10:20, 10:20] = 255
    for name in names:
        picture(folder / image.format(name), np.full((40, 56), 7.0))
        picture(folder / mask.format(name), labels)
    return folder


@pytest.mark.parametrize(
    ("image", "mask", "patterns"),
    [
        ("images/{}.png", "masks/{}.png", ("images/{subject}.png", "masks/{subject}.png")),
        ("{}.png", "{}_mask.png", ("{subject}.png", "{subject}_mask.png")),
        ("img_{}.png", "seg_{}.png", ("img_{subject}.png", "seg_{subject}.png")),
        ("{}/image.png", "{}/label.png", ("{subject}/image.png", "{subject}/label.png")),
        ("x/{}_im.png", "gt/{}_gt.png", ("x/{subject}_im.png", "gt/{subject}_gt.png")),
    ],
)
def test_images_and_masks_are_paired_by_their_names(
    tmp_path: Path, image: str, mask: str, patterns: tuple[str, str]
) -> None:
    pairs = guess_pairs(cells(tmp_path, ["a1", "b2", "c3"], image, mask))

    assert pairs is not None
    assert (pairs.images, pairs.masks) == patterns
    assert not pairs.alone


def test_several_pictures_of_a_subject_are_its_slices(tmp_path: Path) -> None:
    names = ["p1_01", "p1_02", "p2_01", "p2_02"]
    cells(tmp_path, names, "images/{}.png", "masks/{}.png")
    images = find_images(tmp_path)

    assert images.options["images"] == "images/{subject}_{slice:d}.png"
    assert images.image_set.subjects == ("p1", "p2")
    assert any("Is what stands before the last number the subject" in q for q in images.questions)


def test_mask_values_become_classes_and_the_pixel_size_is_asked_for(tmp_path: Path) -> None:
    images = find_images(cells(tmp_path, ["a", "b"], "images/{}.png", "masks/{}.png"))

    assert images.options["classes"] == {0: "background", 255: "foreground"}
    assert images.image_set.classes == ("background", "foreground")
    assert any("How large is a pixel in mm?" in question for question in images.questions)


def test_a_fourth_axis_is_asked_about(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_nifti(tmp_path / f"images/{name}.nii.gz", np.zeros((8, 8, 2, 5)), (1, 1, 5, 1))
        labels = np.zeros((8, 8, 2))
        labels[2:4] = 1
        write_nifti(tmp_path / f"labels/{name}.nii.gz", labels, (1, 1, 5))

    images = find_images(tmp_path)

    assert images.options["fourth_axis"] == "channels"
    assert any("frames of a film" in question for question in images.questions)


@pytest.mark.parametrize(
    ("build", "options", "network"),
    [
        (pspnet, {"width": 2, "bias": True}, {"name": "pspnet", "width": 2, "bias": True}),
        (unet, {"width": 2, "bias": False}, {"name": "unet", "width": 2, "bias": False}),
        (
            unet,
            {"width": 2, "long_skips": False},
            {"name": "unet", "width": 2, "bias": True, "long_skips": False},
        ),
    ],
)
def test_a_network_of_ours_is_known_by_its_tensors(
    tmp_path: Path, build: object, options: dict[str, object], network: dict[str, object]
) -> None:
    write_checkpoint(tmp_path / "one.safetensors", build(num_classes=3, **options))  # type: ignore[operator]

    assert find_checkpoints(tmp_path)[0][0].network == network


def test_another_network_is_to_be_filled_in(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one.safetensors", torch.nn.Conv2d(1, 1, 3))
    checkpoints, problems = find_checkpoints(tmp_path)

    assert (checkpoints[0].network, checkpoints[0].keys, problems) == (None, ("weight", "bias"), [])


def drafted(tmp_path: Path) -> Draft:
    return draft_study(tmp_path, tmp_path / "study.yaml")


def test_what_is_written_is_a_study(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d", "e"]
    cells(tmp_path / "it's #1", names, "images/{}.png", "masks/{}.png")
    for name in ("target", "my source"):
        write_checkpoint(tmp_path / f"{name}.safetensors", unet(width=2))
    draft = drafted(tmp_path)
    study = read_study(tmp_path / "study.yaml")

    assert study.sources == ["my-source"]
    assert study.network.name == "unet"
    assert study.models["target"].checkpoint == str(tmp_path / "target.safetensors")
    assert (study.data["images"].train, study.data["images"].validation) == (3, 2)
    assert study.data["images"].size == (32, 64)
    assert draft.text == (tmp_path / "study.yaml").read_text(encoding="utf-8")


def test_without_checkpoints_an_auto_encoder_is_the_source_and_others_are_asked_for(
    tmp_path: Path,
) -> None:
    cells(tmp_path, ["a", "b"], "images/{}.png", "masks/{}.png")
    draft = drafted(tmp_path)

    assert read_study(tmp_path / "study.yaml").sources == ["autoencoder"]
    assert any(q.startswith("Which pre-trained checkpoints") for q in draft.questions)


def test_a_file_that_is_no_checkpoint_is_asked_about(tmp_path: Path) -> None:
    cells(tmp_path, ["a", "b"], "images/{}.png", "masks/{}.png")
    (tmp_path / "odd.pt").write_bytes(b"nothing")

    assert any("Is this file needed?" in question for question in drafted(tmp_path).questions)


# Bad input.


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"none': no such folder. Give the folder that holds"):
        draft_study(tmp_path / "none", tmp_path / "study.yaml")
    assert not (tmp_path / "study.yaml").exists()


def test_an_empty_folder_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no images found. Expected one of the sets \['acdc', "):
        drafted(tmp_path)


def test_checkpoints_alone_are_sent_to_compare(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one.safetensors", torch.nn.Conv2d(1, 1, 3))
    with pytest.raises(StudyError, match="are compared by `paramreuse compare`"):
        drafted(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(StudyError, match=r"Permission denied. Give a folder that you may read"):
        drafted(tmp_path)


def test_images_without_masks_are_refused_with_the_cure(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", np.zeros((8, 8)))
    with pytest.raises(StudyError, match=r"no masks to go with them. Put masks of the same names"):
        drafted(tmp_path)


def test_masks_of_many_values_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"images/{name}.png", np.zeros((16, 16)))
        picture(tmp_path / f"masks/{name}.png", np.arange(256).reshape(16, 16))
    with pytest.raises(StudyError, match=r"a.png' for a mask: it has 256 different values"):
        drafted(tmp_path)


def test_masks_of_background_alone_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"images/{name}.png", np.zeros((8, 8)))
        picture(tmp_path / f"masks/{name}.png", np.zeros((8, 8)))
    with pytest.raises(StudyError, match=r"are \[0.0\], expected a background and at least one"):
        drafted(tmp_path)


def test_one_subject_is_too_few(tmp_path: Path) -> None:
    cells(tmp_path, ["a"], "images/{}.png", "masks/{}.png")
    with pytest.raises(StudyError, match="holds one subject, expected at least two"):
        drafted(tmp_path)


def test_a_set_that_is_damaged_is_named_with_its_problem(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "a"}}')
    with pytest.raises(StudyError, match=r"looks like decathlon, but: .* lists no training volume"):
        drafted(tmp_path)


def test_a_study_that_exists_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("mine")
    with pytest.raises(StudyError, match=r"study.yaml': it exists. Give another file with -o"):
        drafted(tmp_path)
    assert (tmp_path / "study.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "reader", "subjects"),
    [("acdc", "acdc", 40), ("sunnybrook", "sunnybrook", 5), ("Task04_Hippocampus", "decathlon", 1)],
)
def test_real_sets_are_recognised(name: str, reader: str, subjects: int) -> None:
    root = os.environ.get("PARAMREUSE_DATA")
    if root is None or not (Path(root) / name).is_dir():
        pytest.skip(f"PARAMREUSE_DATA does not name a folder with {name}/")
    images = find_images(Path(root) / name)

    assert images.reader == reader
    assert len(images.image_set.subjects) >= min(subjects, 5)
