"""What stands on coserver as an application would, and ships with it. Nothing of coserver imports it."""
