"""A server under a steady, mixed load for long: what it takes of memory and descriptors stays where it is.

`crowd.py` makes the load, `samples.py` reads `/proc` and judges, `run.py` puts them together. `make soak`
runs the long form (`__main__.py`), `test_soak.py` a short one.
"""
