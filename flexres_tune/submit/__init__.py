"""A run on a cluster that `ray up` started, from one's own laptop: sent, followed, fetched. Without torch and ray."""
