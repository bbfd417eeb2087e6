"""Where a study is kept: a journal file in its folder, or an SQL database.

- journal.py: the embedded storage, a journal file
- batch_writer.py: a thread that writes in batches, behind the decisions
- database.py: open an SQL database, use transactions, wait while it is down
- write_behind.py: a study in a database, written behind the copy in memory
- lease.py: the lease that makes one driver the only writer of a study
- optuna_internals.py: the private attributes of Optuna that storage needs
- paths.py: StoragePath, a folder or a prefix in an object store

Begin with journal.py for the file, with write_behind.py for databases.
"""
