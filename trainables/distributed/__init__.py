"""Several processes that train one trial, each on its own GPU or on a share of the CPU cores.

`DistributedTrainable` is the place to begin: it starts the workers and calls a method in every
process. `WorkerGroup` owns the worker processes, `python -m trainables.distributed.worker_main` is
what they run, and `data_parallel` averages the gradients. Nothing here knows how a trial trains.
"""
