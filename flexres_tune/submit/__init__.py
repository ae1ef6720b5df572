"""Run a sweep from a laptop on a cluster that `ray up` started: send, follow, stop and fetch it. No torch, no ray."""
