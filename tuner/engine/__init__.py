"""Run the trials of one study on Ray Tune.

- run.py: `run` and `resume`: open the study, start Ray Tune, close both
- callbacks.py: RunCallback, the hooks that are called while a study runs
- trial_manager.py: TrialManager, the study behind Ray Tune's searcher and scheduler
- trial_queue.py: TrialQueue, the running, paused and new trials
- ray_tune.py: Ray Tune's searcher, scheduler, trial and controller over one study
- buffered_trainable.py: several reports in one call to a trial's actor
- checkpoints.py: the folders of trials and of each attempt at a trial
- trial_error.py: TrialError, the error that ended a trial, with its place in the user's code
- failures.py: why a trial's process ended, and whether the trial runs again
- resources.py: what a trial requests, and how many trials fit on the cluster
- session.py: Ray for one study
- loggers/: TensorBoard and MLflow

Begin with run.py. A report of a trial goes through ray_tune.py to trial_manager.py.
"""
