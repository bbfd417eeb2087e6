"""Reproduce the findings of arXiv:1806.01603, and compare them with the paper's figures.

- finding.py: Finding: a claim, the runs that test it, its judgement and its picture
- findings.py: the paper's seven findings
- grids.py: Grid: runs of one task at every combination of some settings
- plan.py: which findings to run, at which scale and on which tasks
- runs.py: the runs of some grids as one table, and statistics over it
- plots.py: the shapes that the pictures share
- reproduce.py: make the runs, judge them, write the document

Begin with reproduce.py.
"""
