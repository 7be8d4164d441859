"""What the scanner's map of files is worth, beside other ways to find used packages."""
