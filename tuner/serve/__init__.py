"""All studies of a storage on one page, live: `quarterturn serve`. It only reads."""
