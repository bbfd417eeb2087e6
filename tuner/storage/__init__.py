"""The storage of a study: a journal file in its folder, or an SQL database.

- journal.py: the embedded storage, a journal file
- batch_writer.py: a thread that writes in batches, behind the decisions
- database.py: open an SQL database, use transactions, wait while it does not answer
- write_behind.py: a study in a database, written behind the copy in memory
- lease.py: the lease that makes one driver the only writer of a study
- optuna_internals.py: the private attributes of Optuna that storage needs
- paths.py: StoragePath, a local folder or a prefix in an object store

Begin with journal.py for the file, or with write_behind.py for databases.
"""
