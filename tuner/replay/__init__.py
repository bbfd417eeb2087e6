"""Recorded curves, and the schedulers that are compared on them.

- recording.py: the Parquet file of recorded curves: its columns, reading it, exporting a study
- simulator.py: simulate a scheduler on trials whose whole curves are known
- schedulers.py: this project's scheduler, successive halving, Optuna's pruners and others
- compare.py: the schedulers by name, their costs and losses over random draws of trials
- render.py: a comparison as a table, as JSON and as a picture

Begin with compare.py.
"""
