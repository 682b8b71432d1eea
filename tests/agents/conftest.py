"""What the agents' tests share with the sandboxes': containers of their own."""

from tests.sandbox.conftest import image, place, podman

__all__ = ["image", "place", "podman"]
