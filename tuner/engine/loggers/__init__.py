"""Loggers write every report of every trial to TensorBoard or MLflow.

- registry.py: the loggers by name, what each needs and where it writes
- callback.py: LoggerCallback, which sends the events of a run to a logger's process
- process.py: the process that writes a log
- base.py: LogWriter, the base class of loggers, and the events
- tensorboard.py, mlflow.py: the two loggers

Begin with base.py. Each logger has its own process, which reads events from a pipe. So logging
never delays a decision, and a server that does not answer stops nothing. A logger reads its own log
to find the missing events, so a resumed study writes no event twice.
"""
