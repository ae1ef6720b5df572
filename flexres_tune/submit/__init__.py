"""Run a sweep from a laptop on a cluster that `ray up` started: send it, follow it, fetch its tables. No torch, no ray."""
