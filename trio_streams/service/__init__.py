"""What the systems share: contexts, running handlers, HTTP exchanges."""
