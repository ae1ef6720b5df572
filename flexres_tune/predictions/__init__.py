"""What trained models predict, image by image."""
