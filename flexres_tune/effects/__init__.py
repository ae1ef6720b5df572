"""What a parameter, more tries and more device time brought: effects, importance, tuning effort, cost."""
