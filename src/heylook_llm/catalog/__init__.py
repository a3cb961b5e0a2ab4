"""What models exist: scanning folders and reading the headers of their files."""
