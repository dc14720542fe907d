"""The node: the machine that people reach. It serves SSH at its port, and is a member of the cluster with labels.

    service                     the port, put together; server is one connection of it, and sessions one session
    authority                   who may do what here: the one function that is asked, at login and at each channel
    programs, environment       what a session runs, and what it knows
    streams, pipes              what a session's child reads and writes
    spawner, spawning           the process that starts children as the login user
    party, joining, window      several people in one session, and the size of its terminal
    transfer, copying           sftp and scp, served by a process that is the login user's
    forwarding, dialing, agent  ports, Unix sockets, and the client's agent
    events, recording, spool    what is told of all that, and what was shown
    registry, journal           what runs now: told to auth, ended when auth says so, and known after a crash
    labels                      what the node says of itself

Nothing of a user's (home, shell, files, sockets) is touched but by a process that has become the user.
"""
