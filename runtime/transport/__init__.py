"""The one place that knows asyncssh's sharp edges: what every SSH port and every SSH client of ours has in common.

    limits, admission, algorithms, certificate    pure, importable without asyncssh (whose import costs about a second)
    versions                                      the asyncssh releases that the rest was tested with
    guards                                        overrides for both ends of a connection (findings A2, A3, A6, A8)
    capture                                       overrides for the server's login (findings A1, A5, A7, A8)
    options                                       asyncssh's own settings, each one stated
    server, client                                `listen` and `connect`
    through, remote                               a client's connection inside another, and what is done on one
    gateway, relay                                a channel that is one subsystem by name, and its bytes to and from TCP

Whom to trust is not decided here: a service hands in a function that does. The findings A1 to A8 and what answers each
are in docs/adr/0005.
"""
