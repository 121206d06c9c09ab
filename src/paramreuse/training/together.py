"""How the processes of a training find each other: begun by torchrun or Slurm, joined by Lightning.

Nothing is started here: a process that starts others has to run the caller's program again.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from paramreuse.errors import ParamReuseError
from paramreuse.extras import missing_extra
from paramreuse.training.processes import ALONE, Processes


@dataclass(frozen=True, slots=True)
class Together:
    """Who trains together, and by what they know each other.

    Attributes:
        processes: How many, and which is this one.
        environment: Lightning's cluster environment.
        devices: Processes on each machine.
        on_cpu: Whether they train on CPUs.
    """

    processes: Processes
    environment: Any
    devices: int
    on_cpu: bool

    def strategy(self) -> Any:
        """Return Lightning's strategy: DDP, or its own choice for one process."""
        if self.processes.number == 1:
            return "auto"
        from lightning.pytorch.strategies import DDPStrategy

        return DDPStrategy(
            process_group_backend="gloo" if self.on_cpu else None,
            # Averaged at the end of each epoch instead: the first process's would replace all.
            broadcast_buffers=False,
        )

    def connect(self) -> None:
        """Join the processes, where Lightning's trainer does not."""
        if self.processes.number == 1 or torch.distributed.is_initialized():
            return
        from lightning.fabric import Fabric
        from lightning.fabric.strategies import DDPStrategy

        Fabric(
            accelerator="cpu" if self.on_cpu else "gpu",
            devices=self.devices,
            num_nodes=self.processes.number // self.devices,
            strategy=DDPStrategy(process_group_backend="gloo" if self.on_cpu else None),
            plugins=[self.environment],
        ).launch()

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return a network whose gradients are the mean over all processes."""
        if self.processes.number == 1:
            return network
        return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)


def joined_processes(devices: int, nodes: int, *, on_cpu: bool) -> Together:
    """Find out who trains together.

    Args:
        devices: Processes on each machine.
        nodes: Machines.
        on_cpu: Whether they train on CPUs.

    Raises:
        ParamReuseError: Several processes are asked for, and this one was not started by torchrun
            or Slurm, or as one of another number.
        MissingExtraError: Lightning is not installed.
    """
    try:
        from lightning.pytorch.plugins.environments import (
            LightningEnvironment,
            SLURMEnvironment,
            TorchElasticEnvironment,
        )
    except ImportError as error:
        raise missing_extra("train", "lightning") from error
    if devices * nodes == 1:
        # Without it a training inside a SLURM job or torchrun would wait for others.
        return Together(ALONE, LightningEnvironment(), devices, on_cpu)
    kinds = (TorchElasticEnvironment, SLURMEnvironment)
    kind = next((kind for kind in kinds if kind.detect()), None)
    environment = None if kind is None else kind()
    number = 1 if environment is None else environment.world_size()
    if environment is None or number != devices * nodes:
        raise ParamReuseError(
            f"cannot train on {devices} devices of {nodes} machines: this process is one of "
            f"{number}, expected {devices * nodes}. Start them with torchrun --nnodes {nodes} "
            f"--nproc-per-node {devices}, or with srun; docs/scale.md has job files"
        )
    return Together(Processes(number, environment.global_rank()), environment, devices, on_cpu)
