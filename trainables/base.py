"""RotationTrainable: the base class of trainables, which trains by epochs and reports rotation.

The flow has one direction. `step` asks `DistributedTrainable` to run a method of this class in
every process of the trial. This method calls the methods that a subclass may override. They use
the process's `TrainingState`. `DistributedTrainable` and `TrainingState` do not use this class.
"""

from __future__ import annotations

import copy
import dis
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from ray.tune.result import DONE, SHOULD_CHECKPOINT
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from trainables.distributed.data_parallel import StepReport, merge_reports, with_sync_batchnorm
from trainables.distributed.trainable import DistributedTrainable
from trainables.training.accuracy import count_hits
from trainables.training.config import Settings, plain_config, read_settings
from trainables.training.data import Data, Split, make_batches, sample_count, shared_data
from trainables.training.loop import TrainingState
from trainables.training.optimizers import build_optimizer
from trainables.training.precision import choose_precision
from trainables.training.randomness import seed_everything
from tuner.errors import InvalidInput
from tuner.rotation import RotationMonitor


class RotationTrainable(DistributedTrainable):
    """Trains a torch model by epochs and reports the rotation of every layer.

    A subclass must define `build_model` and `build_data`; everything else has a default.
    `trainables.training.config` has the config keys with their rules and defaults.

    Every report has `progress` and `lr_progress`, both in (0, 1], `train_loss`, `rotation/<layer>`,
    `rotation_min`, `rotation_mean` and `epoch_s`, the seconds since the last report. A report at
    the end of an epoch also has `epoch` and the metrics of `evaluate`. At the last epoch, the
    metrics of the test split follow with the prefix `test_`. `train_loss` is the mean over the
    epoch, or within an epoch the mean since the last report.

    A trial trains on every whole GPU that it has reserved, or in as many processes as the config
    key `processes` says. The processes share each batch, so the training stays the same.

    The same config gives the same reports on the same CPU, also across a checkpoint. Nothing is
    built before the first step: Ray passes an error of a step to the driver with its type, and an
    error of the constructor without it.

    Example:
        >>> class Xor(RotationTrainable):
        ...     def build_model(self, config):
        ...         return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        ...     def build_data(self, data_dir):
        ...         inputs = torch.randn(200, 2)
        ...         targets = (inputs.prod(dim=1) > 0).long()
        ...         return Data((inputs[:100], targets[:100]), (inputs[100:], targets[100:]))
        >>> Xor(config={"max_epochs": 5, "lr": 0.1}).train()["epoch"]
        1
    """

    metric = "val_accuracy"
    mode = "max"
    exclude: tuple[str, ...] = ()
    """Patterns of the layers whose rotation is not measured."""
    evaluation_batch = 256
    """Samples of a batch in evaluation; 512 takes twice as long on the CPU."""
    epochs: int | None = None
    """The task's number of epochs, used if the config has no `max_epochs`."""
    defaults: Mapping[str, Any] = {}
    """The task's config values; a trial's config replaces them key by key."""

    _state: TrainingState | None = None
    _saved_at: float

    # A subclass must define these.

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        """Return a newly initialised model.

        Args:
            config: the trial's config with the defaults of the class. The generators are seeded
                with its `seed`.
        """
        raise NotImplementedError

    def build_data(self, data_dir: str | None) -> Data:
        """Return the splits.

        Called once in each process for all its trials, so the splits cannot depend on the config.

        Args:
            data_dir: the folder that the config names, if it names one.

        Raises:
            InvalidInput: the data is missing or damaged. Raise this error to end the whole job
                with one line.
        """
        raise NotImplementedError

    # A subclass may override these.

    def build_optimizer(self, model: nn.Module, config: Mapping[str, Any]) -> Optimizer:
        """Return the optimizer; the schedule multiplies the learning rate of each group."""
        return build_optimizer(model.named_parameters(), config)

    def augment(self, inputs: Tensor) -> Tensor:
        """Return a training batch after augmentation, on the same device.

        Called for each training batch and never in evaluation. Draw random numbers from torch's
        global generator of the device: a trial that resumes from a checkpoint draws them again.
        """
        return inputs

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar; the default is cross-entropy."""
        return functional.cross_entropy(output, target)

    def train_epoch(self) -> float:
        """Train until the next report, at most for an epoch, and return the mean loss.

        Called once for each report, with the model in training mode. If it leaves the loop over
        `training_batches` early, the rest of the batches is skipped. If it takes no batch from
        `training_batches`, the whole epoch counts as trained.
        """
        # Summed on the device: reading the loss in every step would make the GPU wait.
        # In float64, so that the mean does not depend on the number of reports.
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        samples = 0
        for inputs, target in self.training_batches():
            with self.autocast():
                loss = self.loss(self.model(inputs), target)
            self.optimize(loss)
            total += loss.detach() * len(target)
            samples += len(target)
        return total.item() / samples

    def evaluate(self, data: Split) -> dict[str, float]:
        """Return the metrics of a split; their names start with `val_`.

        Called without gradients and with the model in evaluation mode. `val_accuracy` is left out
        if the targets are no classes for the output: see `trainables.training.accuracy`.
        """
        total = torch.zeros((), device=self.device)
        hits = torch.zeros((), device=self.device)
        answers = torch.zeros((), device=self.device)
        samples = 0
        for inputs, target in self.evaluation_batches(data):
            with self.autocast():
                output = self.model(inputs)
                total += self.loss(output, target) * len(target)
            samples += len(target)
            if (counted := count_hits(output, target)) is not None:
                hits += counted[0]
                answers += counted[1]
        metrics = {"val_loss": total.item() / samples}
        if answers:
            metrics["val_accuracy"] = hits.item() / answers.item()
        return metrics

    def get_extra_state(self) -> dict[str, Any]:
        """Return state of your own for the checkpoint, such as a running mean.

        Tensors, numbers, texts, lists and dicts. Called in the process of rank 0.
        """
        return {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_extra_state` returned; called in every process of the trial.

        A trial that pauses may continue in another process, where it has only this state.
        """

    # `train_epoch`, `loss` and `evaluate` may use these.

    @property
    def training_state(self) -> TrainingState:
        """The state of the training; the trial is built on the first use."""
        if self._state is None:
            self._build_in_all_processes()
            self._saved_at = time.monotonic()
        assert self._state is not None
        return self._state

    @property
    def model(self) -> nn.Module:
        """The model in training."""
        return self.training_state.model

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer in use."""
        return self.training_state.optimizer

    @property
    def task_config(self) -> dict[str, Any]:
        """The trial's config; the `epochs` and `defaults` of the class fill the missing keys."""
        own = {} if self.epochs is None else {"max_epochs": self.epochs}
        return {**own, **self.defaults, **self.config}

    def training_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the (inputs, targets) until the next report, shuffled and augmented.

        The learning rate is set for each batch.
        """
        for inputs, target in self.training_state.batches_until_report():
            yield self.augment(inputs), target

    def evaluation_batches(self, data: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all (inputs, targets) of a split in their order."""
        workers = self.training_state.settings.num_workers
        yield from make_batches(data, self.evaluation_batch, self.device, num_workers=workers)

    def autocast(self) -> torch.autocast:
        """Return the context for a forward pass in the number format of the trial."""
        return self.training_state.precision.autocast()

    def optimize(self, loss: Tensor) -> None:
        """Take one optimizer step that reduces `loss`, a scalar."""
        self.training_state.optimize(loss)

    # Ray Tune calls these.

    def setup(self, config: dict[str, Any]) -> None:
        """Do nothing: the trial is built at its first step.

        A subclass may override it. It runs once for every trial.
        """

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare this process for another trial; of the last one only the loaded data stays.

        Attributes that the last trial has set are removed. Then `setup` runs as in a new process,
        and so does the `__init__` of a subclass that has one.
        """
        self._release_state()
        own = {name: value for name, value in vars(self).items() if name in _own_attributes()}
        vars(self).clear()
        vars(self).update(own, config=new_config)
        if type(self).__init__ is RotationTrainable.__init__:
            self.setup(copy.deepcopy(new_config))
        else:  # of a subclass; it calls `setup`
            self.__init__(config=copy.deepcopy(new_config), storage=self._storage)  # type: ignore[misc]
            vars(self).update(own, config=new_config)
        return True

    def cleanup(self) -> None:
        """Release the model and end the trial's worker processes."""
        self.close_workers()
        self._release_state()

    def step(self) -> dict[str, Any]:
        """Train until the next report and return the report.

        A trial that was restored from its last epoch does not train; it repeats that report.
        """
        state = self.training_state
        begun = time.perf_counter()
        train_loss = state.position.train_loss
        if not state.done:
            train_loss = self._train_in_all_processes()
        report: dict[str, Any] = {**state.progress(), **state.monitor.report()}
        if state.within_epoch:
            report["train_loss"] = train_loss
        else:
            report["epoch"] = state.position.epoch
            report["train_loss"] = state.position.train_loss
            report.update(self._metrics(state))
        report["epoch_s"] = time.perf_counter() - begun
        report[DONE] = state.done
        if state.done or time.monotonic() - self._saved_at >= state.settings.checkpoint_every_s:
            report[SHOULD_CHECKPOINT] = True
        return report

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the whole run as `model.pt`; its key "model" is for `load_state_dict`."""
        state = self.training_state
        random_states = self.in_all_processes(self._random_state)
        state.save(checkpoint_dir, random_states, self.get_extra_state())
        self._saved_at = time.monotonic()

    def load_checkpoint(self, checkpoint: str) -> None:  # type: ignore[override]
        """Continue from a folder that `save_checkpoint` has written."""
        assert self.training_state
        self.in_all_processes(self._load, str(Path(checkpoint).absolute()))

    # The process of rank 0 runs these.

    def _build_in_all_processes(self) -> None:
        settings = self._settings()
        self.start_workers(self.process_count(settings.processes, settings.batch_size))
        self.in_all_processes(self._build)
        if self.shard.world_size > 1:
            self.in_all_processes(self._join_processes)

    def _train_in_all_processes(self) -> float:
        """Train until the next report; return the mean loss over all samples."""
        reports = self.train_in_all_processes(self._train_interval)
        try:
            train_loss, samples = merge_reports(reports)
        except InvalidInput:
            self.close_workers()
            raise
        self.in_all_processes(self._finish_interval, train_loss, samples)
        return train_loss

    def _metrics(self, state: TrainingState) -> dict[str, float]:
        state.model.eval()
        with torch.no_grad(), self.full_threads():
            metrics = self.evaluate(state.data.validation)
            if state.done and state.data.test is not None:
                for name, value in self.evaluate(state.data.test).items():
                    metrics[f"test_{name.removeprefix('val_')}"] = value
        return metrics

    # Every process of the trial runs these.

    def _settings(self) -> Settings:
        self._check_defaults()
        return read_settings(self.task_config)

    def _check_defaults(self) -> None:
        # Separate from the trial's config: its author cannot correct the class. The warmup is
        # left out, because a trial may have more epochs than the class.
        given = {**self.defaults, "max_epochs": self.epochs or self.defaults.get("max_epochs", 1)}
        try:
            read_settings({key: given[key] for key in given if key != "warmup_epochs"})
        except InvalidInput as error:
            raise InvalidInput(f"{type(self).__name__}.defaults cannot be used: {error}") from error

    def _build(self) -> None:
        settings = self._settings()
        config = plain_config(self.task_config)
        device = self.device
        data = shared_data(type(self), self.build_data, settings.data_dir, device)
        samples = settings.train_samples
        if samples is not None and samples > sample_count(data.train):
            raise InvalidInput(
                f"train_samples must be <= {sample_count(data.train)}, the training split's size, "
                f"got {samples}; leave it out to train on all"
            )
        # After the data, which only the first trial of a process loads.
        seed_everything(settings.seed)
        shuffle = torch.Generator().manual_seed(settings.seed)
        model = self.build_model(config).to(device)
        if self.shard.world_size > 1:
            model = with_sync_batchnorm(model, device)
        elif settings.compile:
            model.compile()  # in place: parameters and checkpoints keep their names
        self._state = TrainingState(
            settings=settings,
            data=data,
            model=model,
            optimizer=self.build_optimizer(model, config),
            monitor=RotationMonitor(model, exclude=self.exclude),
            precision=choose_precision(device, settings.amp),
            shuffle=shuffle,
            batches=make_batches(
                data.train,
                settings.batch_size,
                device,
                generator=shuffle,
                samples=samples,
                num_workers=settings.num_workers,
            ),
            shard=self.shard,
        )

    def _join_processes(self) -> None:
        assert self.step_sync is not None
        self.training_state.join_processes(self.step_sync)

    def _train_interval(self) -> StepReport:
        state = self.training_state
        state.begin_interval()
        return state.step_report(float(self.train_epoch()))

    def _finish_interval(self, train_loss: float, samples: int) -> None:
        # Not at the start of an interval: the step limit of another process may come before it.
        if self.step_sync is not None:
            self.step_sync.reset()
        self.training_state.finish_interval(train_loss, samples)

    def _random_state(self) -> dict[str, Any]:
        return self.training_state.random_state()

    def _load(self, folder: str) -> None:
        self.set_extra_state(self.training_state.load(folder))

    def _release_state(self) -> None:
        if self._state is not None:
            self._state.close()
            self._state = None


@cache
def _own_attributes() -> frozenset[str]:
    """Return the names that `RotationTrainable` and its bases assign to an instance.

    Ray's `Trainable` gives no list of them, so they are read from the code of the methods.
    """
    methods = [
        method
        for base in RotationTrainable.__mro__
        for method in vars(base).values()
        if isinstance(method, FunctionType)
    ]
    return frozenset(
        str(instruction.argval)
        for method in methods
        for instruction in dis.get_instructions(method)
        if instruction.opname == "STORE_ATTR"
    )
