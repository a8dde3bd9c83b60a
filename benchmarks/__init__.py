"""What `make bench` runs: saoma beside bare Tornado. Each kind of work has a module with a `run`."""
