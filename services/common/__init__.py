"""What every service shares: settings, logs, metrics, topics, health pages, dead letters."""
