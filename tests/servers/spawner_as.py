"""A spawner that is an ordinary user, started by root: `python -I -S spawner_as.py LOGIN ETC`, its socket as stdin.

It imports everything first: the user may not be able to read the files of Python.
"""

import os
import pwd
import sys

sys.path.insert(0, __file__.rsplit("/", 3)[0])

import runtime.node.transfer_child  # noqa: F401 - see above
from runtime.node.spawning.process import main

user = pwd.getpwnam(sys.argv[1])
os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
main(sys.argv[2])
