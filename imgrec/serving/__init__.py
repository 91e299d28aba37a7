"""The web page's server: HTTP in, the same library functions as everywhere, JSON and bytes out."""
