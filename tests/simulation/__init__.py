"""The real planner, pipeline, fence, retry and recovery under a seeded scheduler; only broker, store, model and clock
are stand-ins. `python -m tests.simulation SEED` replays one seed and prints what happened.
"""
