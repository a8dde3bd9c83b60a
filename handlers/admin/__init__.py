"""The operator's side of the web: /admin. `handlers/__init__.py` has the addresses."""
