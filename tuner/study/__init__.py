"""The Optuna study: its schema, search spaces, samplers, pruners and results. No Ray.

- folder.py: StudyFolder, the folder of a study and its files
- schema.py: the attributes that trials and runs write, and functions to read them
- load.py: load a study by name or URL
- result.py: StudyResult: trials, ranking, the best trial, the epochs that pruning saved
- direction.py: whether a metric is better when it is larger, by its name
- search_space.py: search spaces in every accepted form, as one function
- initial_trials.py: the first trials, a ladder of final rotations
- samplers.py: Optuna's samplers by name
- pruners.py: RotationPruner, and Optuna's pruners by name
- enqueue.py: enqueue configurations for `resume`

Begin with schema.py for the stored data, or with result.py for the data that is read.
"""
