"""The Ray cluster a sweep runs on: connection, resources, nodes, shared storage, packing."""
