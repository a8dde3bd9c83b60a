"""A server is killed again and again under load; what it acknowledged is looked for in the store.

`crowd.py` makes the load, `history.py` notes what was asked and what was answered, `stored.py` reads what is
kept, `verdict.py` compares the two, `server.py` starts and kills, `run.py` puts it together. `make torture`
runs the long form (`__main__.py`), `test_torture.py` the short one.
"""
