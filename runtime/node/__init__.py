"""The node: the machine that people reach. It serves SSH at its port, and is a member of the cluster with labels.

    service                     the port, put together; server is one connection of it, and sessions one session
    authority                   who may do what here: the one function that is asked, at login and at each channel
    programs, environment       what a session runs, and what it knows
    pipes, spawner, spawning    the session's child: its bytes, and the process that starts it as the login user
    transfer, copying           sftp and scp, served by a process that is the login user's
    forwarding, dialing, agent  ports, Unix sockets, and the client's agent
    events, recording, spool    what is told of all that, and what was shown
    labels                      what the node says of itself

Nothing of a user's (home, shell, files, sockets) is touched but by a process that has become the user.
"""
