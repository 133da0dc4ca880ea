"""What ties the project to PyTorch: reference implementations to compare with and to test against."""
