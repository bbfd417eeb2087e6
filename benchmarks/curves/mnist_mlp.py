"""Batch-normalised MLP on MNIST 5k."""

from wide_space import wide

from trainables import MnistMlp
from tuner import TuningJob

job = TuningJob(
    name="mnist-mlp",
    trainable=MnistMlp,
    search_space=wide,
    num_trials=160,
    max_epochs=20,
    sampler="random",
    pruner="none",
)
