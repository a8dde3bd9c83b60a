"""Durable truth: the contract in `base.py`, a driver a module. Only `server.py` picks one."""
