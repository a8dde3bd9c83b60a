"""The team's own phone app: who its JWT says is scanning.

Pure but for `keys.py`, which fetches the app backend's public keys where it publishes them.
"""
