"""What others may know of auth: its methods, the JSON-RPC wire, the client, and caches fed by watching.

Nothing here opens the backend or decides who may do what: `runtime.auth` serves the methods, and proxy, node and tctl
call them.
"""
