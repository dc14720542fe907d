"""What `scp -S` and `sftp -S` run in place of ssh: our side of the copy, as this user, without a network.

As a program it takes ssh's arguments, of which the last is the command or the subsystem's name.
"""

import os
import sys

sys.path.insert(0, __file__.rsplit("/", 3)[0])

from runtime.node.transfer_child import serve

if __name__ == "__main__":
    asked = sys.argv[-1]
    os.chdir(os.environ["HOME"])
    sys.exit(serve("sftp" if asked == "sftp" else "scp", asked, 0, 1, 2))
