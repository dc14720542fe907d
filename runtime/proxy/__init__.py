"""The proxy service, what people reach first.

    service                      both ports for people, put together
    app, listener, tls, headers  HTTPS (3080): pages, login and lists for tsh, and what surrounds every request
    signed                       who asks, of a request that a person has signed
    ssh, gate, routing           SSH (3023): who comes in, and which node is meant
    connecting, dialling         the one way to a node, and the addresses that it may have
    tunnels, crossing, siblings  reverse tunnels (3024), and through them into leaves: our own tunnel or a sibling's
    visits                       people of a root cluster who come here through a tunnel

It decides from what auth told last, and carries bytes that it cannot read.
"""
