"""What `scp -S` and `sftp -S` run in place of ssh: our side of the copy, as this user, without a network.

As a program it takes ssh's arguments, of which the last is the command or the subsystem's name; TRANSFER_RECORDS names the
file that takes what it writes to its standard error, if it is set.
"""

import os
import sys

sys.path.insert(0, __file__.rsplit("/", 3)[0])

from runtime.node.transfer_child import serve

if __name__ == "__main__":
    asked = sys.argv[-1]
    os.chdir(os.environ["HOME"])
    records = os.environ.get("TRANSFER_RECORDS")
    told = os.open(records, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if records else 2
    sys.exit(serve("sftp" if asked == "sftp" else "scp", asked, 0, 1, told))
