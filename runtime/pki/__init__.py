"""Keys, claims and a time in; SSH certificates and their written forms out. No I/O, no clock of its own."""
