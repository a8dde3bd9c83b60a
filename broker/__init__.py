"""Wake-ups between whoever changes a ticket and whoever waits for it. Never truth: the store is."""
