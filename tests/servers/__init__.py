"""The real servers that tests run against: each module builds or fetches one, starts it on loopback and ends it."""
