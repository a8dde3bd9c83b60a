"""What `make bench` runs; each module also runs by itself."""
