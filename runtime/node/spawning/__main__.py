"""The spawner, as the node service starts it: `python -I -S …/spawning/__main__.py /etc`, a socket as standard input.

-I and -S keep the interpreter from the environment, the working folder and site-packages: this file says where ours is.
"""

import sys

sys.path.insert(0, __file__.rsplit("/", 4)[0])

from runtime.node.spawning.process import main

main(sys.argv[1])
