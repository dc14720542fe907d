"""The spawner: a small process beside the node service that starts every session as the user who is to have it.

    __main__    what the node service starts, with one socket as its standard input
    process     its loop: forks for each request, reaps, tells how a process ended; never blocks on a user's doing
    child       what the forked process does, in order, until it executes the user's shell
    users       who may have a session here, and becoming that user, verified
    terminal    the pseudo-terminal: RFC 4254 modes, size
    environment the environment, built from nothing
    sockets     UNIX and TCP sockets opened by the user's own process
    protocol    the messages between the node service and the spawner
    link        the node service's end, on its event loop

Why a process of its own: a fork of the node service would copy its keys, its connections and its threads' locks into a
process that then becomes the user's. The spawner is a fresh interpreter that has never held a secret, imports little
(no asyncio, no asyncssh), and has one thread. `runtime.node.spawner` is the side that the node's event loop sees.

What the spawner imports is the standard library, `runtime.core.errors` and `runtime.node.transfer_child`, at its start:
once the forked process is the user, Python's own files may be out of its reach.
"""
