"""What the tables say: leaderboard, answer, summary, status, decisions, power, published results."""
