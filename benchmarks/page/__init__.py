"""The web page measured and pictured in a real browser; see docs/page.md."""
