"""Where work on rows is done: in this process, in processes of this machine, or on a cluster."""
