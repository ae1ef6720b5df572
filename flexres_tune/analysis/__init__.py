"""What the tables say: leaderboard, statistics, effects, cost, importance, published results, summary."""
