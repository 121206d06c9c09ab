"""What the stages of a study work with: its networks, its trained models and their images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paramreuse.checkpoint import load_checkpoint, read_checkpoint
from paramreuse.checkpoint.hub import local_file
from paramreuse.data.label_map import map_labels
from paramreuse.data.preparation import PreparedBatches, batches
from paramreuse.data.slices import ImageSet
from paramreuse.errors import StudyError
from paramreuse.sites.swaps import seed_of
from paramreuse.study.config import NETWORK_OPTIONS, TARGET, ModelSpec, Study
from paramreuse.study.images import Images, Shelf, naming, prepare_images, read_images
from paramreuse.study.named import NETWORKS, load_named
from paramreuse.study.own_functions import check_options, training_functions
from paramreuse.study.talk import Silent, Talk
from paramreuse.sweep.scores import Dice
from paramreuse.training import TrainingSettings, initial_model
from paramreuse.untouched import untouched_random_state


@dataclass
class Workbench:
    """The parts of one study, made when they are first asked for.

    Attributes:
        study: The study.
        folder: Its run folder.
        device: ``auto``, ``cpu``, ``cuda`` ...
        talk: Where remarks go.
        shelf: Where prepared images are kept; several studies may share one.
        compare_images: Called with the name of an image set and its images when they are first
            asked for, to refuse others than earlier stages had.
        weights: Tensors of models that are at hand; those of others are read from their files.
    """

    study: Study
    folder: Path
    device: str = "auto"
    talk: Talk = field(default_factory=Silent)
    shelf: Shelf = field(default_factory=Shelf)
    compare_images: Callable[[str, Images], None] | None = None
    weights: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    _compared: set[str] = field(default_factory=set)
    _sets: dict[str, ImageSet] = field(default_factory=dict)

    def image_set(self, name: str) -> ImageSet:
        """List the subjects of an image set, with the target's classes where it has a label map.

        Raises:
            DataError: The set cannot be read, or its label map does not fit; the message names it.
            StudyError: There is no such reader, or it does not take the options.
        """
        if name not in self._sets:
            spec = self.study.data[name]
            with naming(f"data.{name}"):
                images = read_images(name, spec)
            if spec.labels is not None:
                classes = self.image_set(self.target.data).classes
                with naming(f"data.{name}.labels"):
                    images = map_labels(images, spec.labels, classes)
            self._sets[name] = images
        return self._sets[name]

    def images(self, name: str) -> Images:
        """Read, split and prepare an image set.

        Raises:
            DataError: The set is incomplete, or has too few subjects; the message names the set.
            StudyError: There is no such reader, or it does not take the options.
        """
        spec, key = self.study.data[name], self._place(name)
        if key not in self.shelf.images:
            image_set = self.image_set(name)
            with naming(f"data.{name}"), self.talk.progress(f"reading {name}") as step:
                self.shelf.images[key] = prepare_images(image_set, spec, self.study.seed, step)
        images = self.shelf.images[key]
        if self.compare_images is not None and name not in self._compared:
            self.compare_images(name, images)
            self._compared.add(name)
        return images

    def _place(self, name: str) -> tuple[str, ...]:
        """Return all that prepared images depend on."""
        spec, target = self.study.data[name], self.study.data[self.target.data]
        # With a label map, the classes are those of the target's set.
        return spec.model_dump_json(), target.model_dump_json(), str(self.study.seed)

    def shelved(self) -> Shelf:
        """Return the prepared images of this study alone."""
        return Shelf({self._place(name): self.images(name) for name in self.study.data})

    @property
    def target(self) -> ModelSpec:
        """The target's part of the study."""
        return self.study.models[TARGET]

    @property
    def score(self) -> Dice:
        """Dice over the classes of the target's images."""
        classes = self.images(self.target.data).classes
        return Dice(num_classes=len(classes), names=classes)

    def validation_batches(self) -> PreparedBatches:
        """Return the validation images of the target, as the sweep walks them."""
        images = self.images(self.target.data)
        return batches(images.validation, self.study.sweep.batch_size)

    def factory(self, name: str) -> Callable[[], nn.Module]:
        """Return what builds the network of a model, its outputs fitted to its task.

        An auto-encoder has as many output channels as the target has classes, so that every layer
        can be swapped.
        """
        spec = self.study.models[name]
        images = self.images(spec.data)
        task_data = self.target.data if spec.task == "autoencoder" else spec.data
        options = _network_options(self.study)
        options |= {
            "in_channels": images.validation.images.shape[1],
            "num_classes": len(self.images(task_data).classes),
        }
        build = load_named(self.study.network.name, NETWORKS, "network")
        check_options(
            build,
            _network_options(self.study),
            given=("in_channels", "num_classes"),
            task=f"build the network {self.study.network.name!r}",
            place="network.options",
        )
        # Nothing else of the study goes along where it is sent to a worker.
        return partial(_built, build, options, self.study.network.name)

    def initial(self, name: str) -> nn.Module:
        """Build a model as it is before training.

        A shared start is the target's, wherever shapes agree: a network with other channels draws
        its random numbers otherwise, so that the seed alone would not do.
        """
        spec = self.study.models[name]
        words = () if spec.init == "shared" else (name,)
        seed = seed_of(self.study.seed, "init", *words)
        model = initial_model(self.factory(name), seed)
        if spec.init == "shared" and name != TARGET:
            start = initial_model(self.factory(TARGET), seed).state_dict()
            own = model.state_dict()
            fitting = {k: v for k, v in start.items() if k in own and v.shape == own[k].shape}
            model.load_state_dict(fitting, strict=False)
        return model

    def try_out(self, name: str) -> None:
        """Pass one black image of a model's set through its network, before it is trained.

        Raises:
            StudyError: The network does not take images of this size.
        """
        data = self.study.models[name].data
        image = torch.zeros_like(self.images(data).validation.images[:1])
        network = self.initial(name).eval()
        try:
            with torch.no_grad(), untouched_random_state():
                network(image)
        except (RuntimeError, ValueError, IndexError) as error:
            rows, columns = image.shape[-2:]
            raise StudyError(
                f"cannot use data.{data}: the network {self.study.network.name!r} does not take "
                f"images of {rows} x {columns} pixels with {image.shape[1]} channels "
                f"({str(error)[:200]}). Set another size"
            ) from error

    def settings(self, spec: ModelSpec, *, seed: int, folder: Path | None) -> TrainingSettings:
        """Return how a model is trained.

        Raises:
            StudyError: A function that the study names cannot be loaded.
        """
        return TrainingSettings(
            epochs=spec.epochs,
            batch_size=spec.batch_size,
            learning_rate=spec.learning_rate,
            weight_decay=spec.weight_decay,
            **training_functions(spec),
            validate_every=spec.validate_every,
            precision=spec.precision,
            seed=seed,
            device=self.device,
            folder=folder,
            progress=False,
        )

    def checkpoint(self, name: str) -> Path:
        """Return where a model's weights lie, trained here or loaded.

        Raises:
            CheckpointError: They are on the hub, and cannot be downloaded.
        """
        given = self.study.models[name].checkpoint
        return local_file(given) if given else self.folder / "models" / f"{name}.safetensors"

    def tensors(self, name: str) -> Mapping[str, Tensor]:
        """Return the tensors of a trained model, read from its file where they are not at hand.

        Raises:
            CheckpointError: Its file is not there, or cannot be read.
        """
        held = self.weights.get(name)
        return read_checkpoint(self.checkpoint(name)) if held is None else held

    def model(self, name: str) -> nn.Module:
        """Return a trained model in evaluation mode, on the study's device.

        Raises:
            CheckpointError: Its file is not there, or does not fit the network.
        """
        model = self.initial(name)
        load_checkpoint(model, self.tensors(name), strict=True)
        return model.eval().to(self.torch_device)

    @cached_property
    def torch_device(self) -> torch.device:
        """The device for evaluation.

        Raises:
            StudyError: This machine has no such device.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.partition(":")[0] in ("cpu", "cuda", "mps"):
            try:
                return torch.empty(1, device=self.device).device
            except (RuntimeError, AssertionError) as error:
                raise StudyError(_no_device(self.device)) from error
        raise StudyError(_no_device(self.device))


def _no_device(name: str) -> str:
    return (
        f"cannot use the device {name!r}: expected auto, cpu, cuda, cuda:1 or mps, and PyTorch "
        f"sees {torch.cuda.device_count()} CUDA device(s) on this machine. Leave --device out"
    )


def _network_options(study: Study) -> dict[str, Any]:
    spec = study.network
    own = {name: getattr(spec, name) for name in NETWORK_OPTIONS.get(spec.name, ())}
    return {**spec.options, **{name: value for name, value in own.items() if value is not None}}


def _built(build: Callable[..., nn.Module], options: Mapping[str, Any], name: str) -> nn.Module:
    try:
        return build(**options)
    # An allocation that fails is a RuntimeError of torch.
    except (TypeError, RuntimeError, MemoryError) as error:
        raise StudyError(
            f"cannot build the network {name!r} with {sorted(options)}: {error}"
        ) from error
