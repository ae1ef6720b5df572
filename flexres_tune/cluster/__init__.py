"""The Ray cluster that a sweep runs on: connection, resources, nodes, Ray's processes, shared storage, packing."""
