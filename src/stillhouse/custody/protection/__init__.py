"""What keeps a vault from being changed, and what is known of that."""
