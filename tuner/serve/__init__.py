"""`quarterturn serve`: live pages of all studies in a folder or a database. It only reads.

- server.py: open the port, print how to sign in, serve until Ctrl-C
- app.py: the routes and their answers
- auth.py: the token, its cookie, and the checks of every request
- studies.py: the studies that are served, each read once for all viewers
- index.py: the page of all studies
- streaming.py: live updates as server-sent events, and cached answers
- templates/: the templates, styles and scripts

Begin with app.py.
"""
