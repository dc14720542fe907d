"""The node: the machine that people reach. It is a member with labels; sessions come with a later release."""
