"""Agents: programs in sandboxes, pointed at the gateway. The only room that knows both."""
