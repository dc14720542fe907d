"""What every service of a process has in common, from its settings to its place in the cluster.

    settings, sections, schema, values   teleport.yaml as it is written; load, flags and checks make one whole of it
    joining, invitation, identity        from a token to certificates on disk
    member, authorities, estranged       being a member: heartbeats, renewal, and whom to believe, as auth tells it
    following, directory, trusting       what auth told last of people, nodes and other clusters: it may be away
    remote_audit                         events, on the own disk until auth has them
    lifecycle, health, metrics, logs     the process: its start and end, and what machines and people see of it

Nothing here starts anything that settings do not ask for.
"""
