"""sftp and both protocols of OpenSSH's scp, served by a process that is the login user's (docs/adr/0008).

    command      what `scp` asks for on the far side, without a shell; pure
    records      what is told to the node of each operation on a file; pure
    channel      standard input, output and error of the process
    wire         packets of the SFTP protocol, version 3; pure
    attributes   modes, times and owners, as they go over the wire and onto a file
    answers      answers of the SFTP protocol
    paths        names that are made whole, or changed for nothing that is there
    sftp         the SFTP server: the protocol around its operations
    sftp_operations, sftp_files   what a client may ask for, and what it has open
    scp          the old protocol: `scp -f` (source)
    scp_sink     the old protocol: `scp -t` (sink)

Nothing here imports anything outside of the standard library but `runtime.core.errors`: each transfer's process pays
for what it imports. It has one thread, which blocks, as OpenSSH's sftp-server does: a client that does not read its
answers makes it wait, not grow.
"""
