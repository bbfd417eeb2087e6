"""`quarterturn serve`: live pages of all studies in a folder or a database. It only reads."""
