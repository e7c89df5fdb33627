"""The processes that train together, one for each GPU, through Accelerate; usually there is one.

`accelerate launch` starts as many copies of a command as there are devices. Each draws its own
share of a batch; gradients are averaged over all, so the copies hold the same weights at any time.
The first one alone renders, writes checkpoints and logs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from models.errors import DeviceError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Processes", "processes"]


class Processes:
    """One process among those that train together.

    Parameters
    ----------
    accelerator : accelerate.Accelerator, optional
        None: this process is alone.
    """

    def __init__(self, accelerator: Any = None) -> None:
        self._accelerator = accelerator
        self.count = 1 if accelerator is None else int(accelerator.num_processes)
        self.rank = 0 if accelerator is None else int(accelerator.process_index)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the mean of all processes' gradients in place of this one's."""
        import torch

        if self._accelerator is None:
            return
        held = list(parameters)
        # One message for all: a message for each costs more than what is in it.
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in held]
        )
        flat = self._accelerator.reduce(flat, reduction="mean")
        at = 0
        for parameter in held:
            parameter.grad = flat[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()

    def any(self, here: bool) -> bool:
        """Return whether it is so in any of the processes; all must ask at the same time."""
        import torch

        if self._accelerator is None:
            return here
        flag = torch.tensor(float(here), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum") > 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


@cache
def processes() -> Processes:
    """Return this process among those that `accelerate launch` started; alone if it did not.

    Raises
    ------
    DeviceError
        If there are several, and Accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    import torch

    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise DeviceError(
            "Training in several processes needs Accelerate. Install it: pip install "
            "'hearback[train]'."
        ) from error
    # Half precision is the stages' own affair: some of what they do needs full precision.
    # Without being told of the CPU, Accelerate leaves processes that have no GPU each to itself.
    return Processes(Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available()))
