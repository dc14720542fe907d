"""What happened, for people to read later: the event log of the manual, one file a day, and what sessions showed.

    events, log, files, chain    the log on auth's disk, each line naming the one before; verify and compare check it
    search, segment              finding events, in files and in the cluster's storage
    queue                        events on a member's disk, until auth has them
    outlet, tail, sinks          the log passed on, to stdout, syslog and webhooks
    recording, reading, index    what a session showed, bit by bit, and the way to any moment of it
    replay, page, asciicast      shown again: on a terminal, in a browser, in other players
    text_search, search_process  looking through recordings, in a process of its own

Who may read what is not decided here.
"""
