"""Peers side by side: the same rows, model files, threads and Postgres for each; `python -m benchmarks.peers`."""
