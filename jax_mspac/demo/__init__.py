"""People drawn by the project itself, before drawn cameras."""
