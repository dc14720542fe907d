"""What the words mean, without I/O: resources, errors, key names, the clock. Imports nothing else of ours."""
