"""The findings of arXiv:1806.01603 as tuning jobs: run again, and held against the paper."""
