"""The use cases, from parsed input to result, with no HTTP in them."""
