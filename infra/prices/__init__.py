"""What AWS charges: a dated, sourced table a region, and how to refresh it."""
