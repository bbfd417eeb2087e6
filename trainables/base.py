"""The Ray Tune trainable that people subclass: an epoch loop that reports rotation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from ray.tune.result import DONE, SHOULD_CHECKPOINT
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from trainables.distributed.data_parallel import normalised_together
from trainables.distributed.trainable import DistributedTrainable
from trainables.training.config import Settings, plain_config, read_settings
from trainables.training.data import Data, Split, make_batches, sample_count, shared_data
from trainables.training.loop import TrainingState
from trainables.training.optimizers import build_optimizer
from trainables.training.precision import choose_precision
from trainables.training.randomness import seed_everything
from tuner.errors import InvalidInput
from tuner.rotation import RotationMonitor


class RotationTrainable(DistributedTrainable):
    """Trains a torch model an epoch at a time and reports how far each layer has turned.

    Subclass it with `build_model` and `build_data`; everything else has a default. The config
    keys that it reads, with their rules and defaults, are in `trainables.training.config`.
    Every report has `progress` and `lr_progress`, both in (0, 1], `train_loss`, `rotation/<layer>`,
    `rotation_min`, `rotation_mean` and `epoch_s`, the seconds since the last report. The one at
    an epoch's end has `epoch` too, and what `evaluate` returns, and, at the last epoch of a
    trainable with a test split, `test_` followed by the names of the metrics. Its `train_loss` is
    the mean over the epoch; within an epoch it is the mean since the last report.

    It trains on every whole GPU that the trial has reserved, or on as many processes as the config
    key `processes` says: each batch is shared among them, so that it is the same training.

    The same config gives the same reports on the same CPU, also across a checkpoint. Nothing is
    built before the first step, since an error raised there reaches the driver with its type, and
    one raised while Ray constructs the actor does not.
    """

    metric = "val_accuracy"
    mode = "max"
    exclude: tuple[str, ...] = ()
    """Patterns of the layers that the rotation monitor leaves out."""
    evaluation_batch = 256
    """Samples a batch of a pass without gradients; 512 takes twice as long on the CPU."""
    epochs: int | None = None
    """The task's own number of epochs, which holds where the config has no `max_epochs`."""
    defaults: Mapping[str, Any] = {}
    """The task's own config values, over which a trial's config wins, key by key."""

    # What a subclass gives.

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        """Return a newly initialised model; the generators are seeded."""
        raise NotImplementedError

    def build_data(self, data_dir: str | None) -> Data:
        """Return the splits; called once per process, so they must not depend on the config.

        Raise `InvalidInput` for data that is missing or damaged: it ends the job with one line.
        """
        raise NotImplementedError

    # What a subclass may change.

    def build_optimizer(self, model: nn.Module, config: Mapping[str, Any]) -> Optimizer:
        """Return the optimizer; the schedule multiplies each group's own learning rate."""
        return build_optimizer(model.named_parameters(), config)

    def augment(self, inputs: Tensor) -> Tensor:
        """Return a training batch as it is to be learnt, on the same device; itself by default.

        Called for each training batch and never in evaluation. What it draws from torch's global
        generator of the device is drawn again alike by a trial that resumes from a checkpoint.
        """
        return inputs

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar; cross-entropy unless overridden."""
        return functional.cross_entropy(output, target)

    def train_epoch(self) -> float:
        """Train for an epoch, or the part of it until the next report; return its mean loss.

        Called once for each report, with the model in training mode. Leaving the loop early skips
        the rest of the part. A `train_epoch` that takes nothing from `training_batches` is taken
        to have trained a whole epoch, and reports once an epoch.
        """
        # Summed on the device: reading the loss at each step would make the GPU wait each time.
        # In float64, so that an epoch's mean loss is the same in one part and in several.
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
        """Return the metrics of a split, their names starting with `val_`.

        Called without gradients and with the model in evaluation mode. The accuracy is left out
        when the targets are not classes, that is, whole numbers.
        """
        total = torch.zeros((), device=self.device)
        hits = torch.zeros((), device=self.device)
        samples = answers = 0
        for inputs, target in self.evaluation_batches(data):
            with self.autocast():
                output = self.model(inputs)
                total += self.loss(output, target) * len(target)
            samples += len(target)
            if not target.is_floating_point():
                hits += (output.argmax(dim=1) == target).sum()
                answers += target.numel()
        metrics = {"val_loss": total.item() / samples}
        if answers:
            metrics["val_accuracy"] = hits.item() / answers
        return metrics

    # What `train_epoch`, `loss` and `evaluate` may use.

    @property
    def model(self) -> nn.Module:
        """The model in training."""
        return self._started().model

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer in use."""
        return self._started().optimizer

    @property
    def task_config(self) -> dict[str, Any]:
        """The trial's config, filled up with the class's `epochs` and `defaults`."""
        own = {} if self.epochs is None else {"max_epochs": self.epochs}
        return {**own, **self.defaults, **self.config}

    def training_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's (inputs, targets), or those of the part of it until the next report.

        They are shuffled and augmented, and the learning rate is set for each.
        """
        for inputs, target in self._started().part():
            yield self.augment(inputs), target

    def evaluation_batches(self, data: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets) of a split, in its order and to its end."""
        workers = self._started().settings.num_workers
        yield from make_batches(data, self.evaluation_batch, self.device, num_workers=workers)

    def autocast(self) -> torch.autocast:
        """Return the context for a forward pass, in the number format of the trial."""
        return self._started().precision.autocast()

    def optimize(self, loss: Tensor) -> None:
        """Take one step of the optimizer down the gradient of `loss`, a scalar."""
        self._started().optimize(loss)

    # What Ray Tune calls.

    def setup(self, config: dict[str, Any]) -> None:
        """Do nothing yet: the trial is built at its first step."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Make way for another trial in this process; the data stays loaded."""
        self.config = new_config
        self._let_go()
        return True

    def cleanup(self) -> None:
        """Let go of the model, and of the trial's other processes."""
        self._dismiss()
        self._let_go()

    def step(self) -> dict[str, Any]:
        """Train an epoch, or the part of it until the next report, and report it.

        A trial that was restored from its last epoch reports that epoch again and trains no more.
        """
        run = self._started()
        begun = time.perf_counter()
        train_loss = run.position.train_loss
        if not run.done:
            train_loss = self._train_all()
        report: dict[str, Any] = {**run.clocks(), **run.monitor.report()}
        if run.within_epoch:
            report["train_loss"] = train_loss
        else:
            report["epoch"] = run.position.epoch
            report["train_loss"] = run.position.train_loss
            report.update(self._metrics(run))
        report["epoch_s"] = time.perf_counter() - begun
        report[DONE] = run.done
        if run.done or time.monotonic() - self._saved_at >= run.settings.checkpoint_every_s:
            report[SHOULD_CHECKPOINT] = True
        return report

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the whole run as `model.pt`, whose "model" a plain `load_state_dict` takes."""
        self._started()
        self._save_all(checkpoint_dir)
        self._saved_at = time.monotonic()

    def load_checkpoint(self, checkpoint: str) -> None:  # type: ignore[override]
        """Continue from the folder that `save_checkpoint` wrote to."""
        self._started()
        self._load_all(checkpoint)

    def _metrics(self, run: TrainingState) -> dict[str, float]:
        run.model.eval()
        with torch.no_grad(), self._alone():
            metrics = self.evaluate(run.data.validation)
            if run.done and run.data.test is not None:
                for name, value in self.evaluate(run.data.test).items():
                    metrics[f"test_{name.removeprefix('val_')}"] = value
        return metrics

    def _started(self) -> TrainingState:
        if self._run is None:
            self._run = self._start_all()
            self._saved_at = time.monotonic()
        return self._run

    def _check_defaults(self) -> None:
        # Apart from the trial's config, whose author cannot mend what the class says. A warmup
        # is held against the run's own number of epochs, which may be another one.
        given = {**self.defaults, "max_epochs": self.epochs or self.defaults.get("max_epochs", 1)}
        try:
            read_settings({key: given[key] for key in given if key != "warmup_epochs"})
        except InvalidInput as error:
            raise InvalidInput(f"{type(self).__name__}.defaults cannot be used: {error}") from error

    def _settings(self) -> Settings:
        self._check_defaults()
        return read_settings(plain_config(self.task_config))

    def _build(self, settings: Settings) -> TrainingState:
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
        if self._share.of > 1:
            model = normalised_together(model, device)
        elif settings.compile:
            model.compile()  # in place: parameters and checkpoints keep their names
        return TrainingState(
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
            share=self._share,
        )
