"""Where durable streams are kept."""
