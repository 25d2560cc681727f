"""Hosts of their own on this machine, in network namespaces, and the network between them: slow, lossy, in parts."""
