"""The command that checks this machine or every node of a cluster."""
