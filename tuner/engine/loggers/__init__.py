"""Loggers: every report of every trial in TensorBoard or MLflow as well.

An observer hands what happens to one process for each logger, through a pipe that it never waits
for: logging takes no time from the decisions, and a server that does not answer holds nobody up.
What is in the log already is asked of the log itself, so that nothing is in it twice, however
often the study is resumed, and nothing is missing that the study knows.
"""
