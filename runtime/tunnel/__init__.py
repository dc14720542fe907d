"""Reverse tunnels: a leaf cluster's proxies dial those of its root, which carry the root's users into the leaf.

    protocol     what the root asks of a leaf on a tunnel, and the answers: text in, text out, no I/O
    backoff      how long to wait before dialling again
    agent        the leaf's end: which tunnels there are to be, one to each proxy of each root
    keeper       each of them: dialled, kept while it stands, dialled again
    leaf         what these two work with
    registry     the root's end: port 3024, and which leaves are connected at the moment

Who is at the other end is proved by SSH and by the authorities that are trusted; what somebody may do in the leaf, the
leaf decides (`runtime.proxy.visits`). Neither end takes the other's word for a name or a right.
"""
