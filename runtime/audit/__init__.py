"""What happened, for people to read later: the event log of the manual, one file a day."""
