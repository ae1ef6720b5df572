"""bench gpu: shows that training works on this machine's GPU, without Ray."""
