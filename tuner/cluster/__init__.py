"""Jobs on a Ray cluster: submit them, follow them and read their studies through Ray Jobs.

- submit.py: check a job here, upload the modules that it imports, start it
- entrypoint.py: the shell command that runs `quarterturn` on the cluster's head
- job_client.py: the client of the cluster's job server
- jobs.py: list jobs, and stop one
- logs.py: follow a job's output
- remote_read.py: read a study that is stored on the cluster
- doctor.py: check a machine or every node for common faults

Begin with submit.py.
"""
