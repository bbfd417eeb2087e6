"""The Optuna study: its schema, search spaces, samplers, pruners and results. No Ray.

- folder.py: StudyFolder, the folder of a study and its files
- schema.py: what a trial writes into the study, and how it is read back
- load.py: load a study by name or URL
- result.py: StudyResult: trials, ranking, the best trial, what pruning saved
- direction.py: whether a metric is better when it is larger, by its name
- search_space.py: search spaces in every accepted form, as one function
- initial_trials.py: the first trials, a ladder of final rotations
- samplers.py: Optuna's samplers by name
- pruners.py: RotationPruner, and Optuna's pruners by name
- enqueue.py: enqueue configurations for `resume`

Begin with schema.py for what is stored, with result.py for what is read.
"""
